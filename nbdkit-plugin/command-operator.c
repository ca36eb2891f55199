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
    return call_fail (call, "BadDestination",
                      "reopen: nothing was changed: %s; if the disk is at "
                      "another address, give it as destination=URI",
                      why ? why : "no memory");
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

/* The wish is the owner already.  Another destination than the one in use must
 * not be passed over in silence: who names it believes that the disk is there.
 */
static json_t *
stay (struct call *call, enum owner now)
{
  const char *present = call->export->session.destination;
  const char *uri = present;

  if (call_string (call, "destination", false, &uri) == -1)
    return NULL;
  if (now == OWNER_DESTINATION && call->export->relay == NULL)
    return serve_from_destination (call, now);
  if (now == OWNER_DESTINATION && strcmp (uri, present) != 0)
    return call_fail (call, "WrongOwner",
                      "reopen: the disk is served from its destination %s "
                      "already, and nothing was changed; if that has another "
                      "address now, end the proxy, start it again with the "
                      "same migrate-dir, and repeat this before a client "
                      "connects",
                      present);
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
