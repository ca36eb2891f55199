/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands for the operator: they work whoever has the session. */

#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "call.h"
#include "cleanup.h"
#include "destination.h"
#include "owner.h"
#include "relay.h"

/* What an 'abort' finds, so that its caller can say what it has ended. */
static json_t *
describe (struct export *e)
{
  const struct session *s = &e->session;
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  return json_pack ("{s:b, s:b, s:s, s:s, s:s?}", "session", s->client != NULL,
                    "tracking", (int)t.tracking, "owner", owner_name (t.owner),
                    "last_end", record_end_name (s->last_end), "destination",
                    s->destination);
}

json_t *
command_abort (struct call *call)
{
  struct export *e = call->export;
  struct session *s = &e->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  struct client *victim = s->client;
  json_t *found = describe (e);
  const bool tracking = json_is_true (json_object_get (found, "tracking"));

  session_end (e);
  /* Still under the lock, so it cannot have been freed (control.h). */
  if (victim && victim != call->client)
    client_disconnect (victim);
  tracker_stop (e->tracker);
  /* Where there was nothing, nothing has been aborted. */
  if ((victim || tracking) && tracker_owner (e->tracker) == OWNER_SOURCE)
    session_note_end (e, RECORD_END_ABORTED);
  nbdkit_debug ("migrate: export \"%s\": aborted, tracking is off", e->name);
  return found;
}

/* Which owner is wished; OWNER_UNKNOWN after call_fail. */
static enum owner
get_owner (struct call *call, enum owner now)
{
  const char *text = now == OWNER_UNKNOWN ? NULL : "source";

  if (call_string (call, "owner", text == NULL, &text) == -1)
    return OWNER_UNKNOWN;
  if (strcmp (text, "source") == 0)
    return OWNER_SOURCE;
  if (strcmp (text, "destination") == 0)
    return OWNER_DESTINATION;
  call_fail (call, "BadArgument",
             "\"owner\" must be source or destination, not \"%s\"", text);
  return OWNER_UNKNOWN;
}

static json_t *
answer (enum owner owner)
{
  return json_pack ("{s:s}", "owner", owner_name (owner));
}

/* R20: every chunk becomes dirty. */
static json_t *
serve_from_source (struct call *call)
{
  struct export *e = call->export;

  if (owner_record (e, OWNER_SOURCE, RECORD_END_NONE) != OWNER_RECORDED)
    return call_fail (call, "Failed",
                      "reopen: the owner could not be recorded in the state "
                      "file; nbdkit's own messages say why");
  e->session.last_end = RECORD_END_NONE;
  tracker_set_owner (e->tracker, OWNER_SOURCE, true);
  nbdkit_debug ("migrate: export \"%s\": reopened from the source", e->name);
  return answer (OWNER_SOURCE);
}

/* Where the destination is: said with the command, or remembered.  NULL after
 * call_fail.
 */
static const char *
get_destination (struct call *call)
{
  const char *uri = call->export->session.destination;

  if (call_string (call, "destination", false, &uri) == -1)
    return NULL;
  if (uri == NULL)
    call_fail (call, "BadArgument",
               "reopen: the state file does not tell the destination's URI: "
               "give it, as destination=URI");
  return uri;
}

/* Record where the destination is.  Whatever happens the session tells what the
 * record says.
 */
static enum owner_outcome
record_destination (struct export *e, const char *uri)
{
  struct session *s = &e->session;
  char *before = s->destination;
  enum owner_outcome outcome = OWNER_KEPT;

  s->destination = strdup (uri);
  if (s->destination != NULL)
    outcome = owner_record (e, OWNER_DESTINATION, RECORD_END_PIVOTED);
  if (outcome == OWNER_RECORDED)
    free (before);
  else {
    free (s->destination);
    s->destination = before;
  }
  return outcome;
}

static json_t *
fail_to_record (struct call *call, enum owner now, enum owner_outcome outcome)
{
  /* It may be either destination, and a client is not to get the wrong one. */
  if (outcome == OWNER_UNSURE && now == OWNER_DESTINATION)
    tracker_set_owner (call->export->tracker, OWNER_UNKNOWN, false);
  return call_fail (call, "Failed",
                    "reopen: the owner could not be recorded in the state "
                    "file; nbdkit's own messages say why");
}

static json_t *
fail_to_connect (struct call *call, const char *why)
{
  return call_fail (call, "BadDestination",
                    "reopen: nothing was changed: %s; if the disk is at "
                    "another address, give it as destination=URI",
                    why ? why : "no memory");
}

/* Nobody is served, and there is no relay.  The destination must be there: a
 * wrong URI would be known only when the guest finds out.
 */
static json_t *
serve_from_destination (struct call *call, enum owner now)
{
  struct export *e = call->export;
  const char *uri = get_destination (call);
  CLEANUP_FREE char *why = NULL;
  enum owner_outcome outcome;
  struct relay *relay;

  if (uri == NULL)
    return NULL;
  relay = destination_connect (e, uri, &why);
  if (relay == NULL)
    return fail_to_connect (call, why);
  outcome = record_destination (e, uri);
  if (outcome != OWNER_RECORDED) {
    relay_close (relay);
    return fail_to_record (call, now, outcome);
  }
  e->relay = relay;
  e->session.last_end = RECORD_END_PIVOTED;
  tracker_set_owner (e->tracker, OWNER_DESTINATION, false);
  nbdkit_debug ("migrate: export \"%s\": reopened from the destination %s",
                e->name, e->session.destination);
  return answer (OWNER_DESTINATION);
}

/* A first look at the place to which the relay is to go: it would not serve
 * smaller blocks than the guests have by now.  False after call_fail.
 */
static bool
may_move_to (struct call *call, const char *uri)
{
  struct export *e = call->export;
  CLEANUP_FREE char *why = NULL;
  struct relay_status now, then;
  struct relay *relay = destination_connect (e, uri, &why);

  if (relay == NULL) {
    fail_to_connect (call, why);
    return false;
  }
  relay_get_status (e->relay, &now);
  relay_get_status (relay, &then);
  relay_close (relay);
  if (then.minimum_block_bytes <= now.minimum_block_bytes)
    return true;
  call_fail (call, "BadDestination",
             "reopen: nothing was changed: the minimum block of %s is %u "
             "bytes, and that of the destination was %u: connections of now "
             "need the same or a smaller one",
             uri, then.minimum_block_bytes, now.minimum_block_bytes);
  return false;
}

/* The relay is held: it connects to nothing meanwhile.  If the record may name
 * either place it stays so, and guests wait, until this is tried again.
 */
static json_t *
move_held (struct call *call, const char *uri)
{
  struct export *e = call->export;
  char *copy = strdup (uri);
  enum owner_outcome outcome = OWNER_KEPT;

  if (copy != NULL && may_move_to (call, uri))
    outcome = record_destination (e, uri);
  else {
    free (copy);
    relay_unhold (e->relay, NULL);
    return NULL;
  }
  if (outcome == OWNER_RECORDED) {
    relay_unhold (e->relay, copy);
    nbdkit_debug ("migrate: export \"%s\": the destination is at %s now",
                  e->name, e->session.destination);
    return answer (OWNER_DESTINATION);
  }
  free (copy);
  if (outcome == OWNER_KEPT)
    relay_unhold (e->relay, NULL);
  return fail_to_record (call, OWNER_UNKNOWN, outcome);
}

static json_t *
move_destination (struct call *call, const char *uri)
{
  struct export *e = call->export;

  if (relay_hold (e->relay) == -1)
    return call_fail (call, "WrongOwner",
                      "reopen: the disk is served from its destination %s "
                      "already, and nothing was changed; if the same disk is "
                      "to be reached at another address, end the server at "
                      "the old one first",
                      e->session.destination);
  return move_held (call, uri);
}

/* The wish is the owner already.  Another destination than the one in use must
 * not be passed over in silence: who names it believes that the disk is there.
 */
static json_t *
stay (struct call *call, enum owner now)
{
  struct export *e = call->export;
  const char *uri = e->session.destination;
  struct relay_status s;

  if (now != OWNER_DESTINATION)
    return answer (now);
  if (e->relay == NULL)
    return serve_from_destination (call, now);
  if (call_string (call, "destination", false, &uri) == -1)
    return NULL;
  relay_get_status (e->relay, &s);
  if (s.held || strcmp (uri, e->session.destination) != 0)
    return move_destination (call, uri);
  return answer (now);
}

/* The URI would be of no use for the source. */
static bool
destination_fits (struct call *call, enum owner owner)
{
  if (owner == OWNER_DESTINATION ||
      json_object_get (call->args, "destination") == NULL)
    return true;
  call_fail (call, "BadArgument",
             "reopen: a destination goes with owner=destination only; nothing "
             "was changed");
  return false;
}

json_t *
command_reopen (struct call *call)
{
  struct session *s = &call->export->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  const enum owner now = tracker_owner (call->export->tracker);
  const enum owner owner = get_owner (call, now);

  if (owner == OWNER_UNKNOWN || !destination_fits (call, owner))
    return NULL;
  if (s->client)
    return call_fail (call, "SessionBusy",
                      "reopen: a migration of this disk is running");
  if (owner == now)
    return stay (call, now);
  /* A handover gave the disk to a guest elsewhere: only the source may be
   * taken back, and nothing after a pivot, when the source is out of date.
   */
  if (now == OWNER_DESTINATION || now == OWNER_SOURCE)
    return call_fail (call, "WrongOwner",
                      "reopen: the disk is served from the %s, and the %s is "
                      "not up to date",
                      owner_name (now), owner_name (owner));
  return owner == OWNER_SOURCE ? serve_from_source (call)
                               : serve_from_destination (call, now);
}
