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

/* Where the destination is: said with the command, or remembered. */
static int
get_destination (struct call *call)
{
  struct session *s = &call->export->session;
  const char *uri = s->destination;
  char *copy;

  if (call_string (call, "destination", false, &uri) == -1)
    return -1;
  if (uri == NULL) {
    call_fail (call, "BadArgument",
               "reopen: the state file does not tell the destination's URI: "
               "give it, as destination=URI");
    return -1;
  }
  copy = strdup (uri);
  if (copy == NULL)
    return -1;
  free (s->destination);
  s->destination = copy;
  return 0;
}

static json_t *
serve_from_destination (struct call *call)
{
  struct export *e = call->export;
  CLEANUP_FREE char *why = NULL;

  if (get_destination (call) == -1)
    return NULL;
  if (e->relay == NULL)
    e->relay = destination_connect (e, e->session.destination, &why);
  if (e->relay == NULL)
    return call_fail (call, "BadDestination", "reopen: %s: %s",
                      e->session.destination, why ? why : "no memory");
  if (owner_record (e, OWNER_DESTINATION, RECORD_END_PIVOTED) !=
      OWNER_RECORDED) {
    destination_close (e); /* the next one may be another */
    return call_fail (call, "Failed",
                      "reopen: the owner could not be recorded in the state "
                      "file; nbdkit's own messages say why");
  }
  e->session.last_end = RECORD_END_PIVOTED;
  tracker_set_owner (e->tracker, OWNER_DESTINATION, false);
  nbdkit_debug ("migrate: export \"%s\": reopened from the destination",
                e->name);
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
  if (now == OWNER_DESTINATION && uri != NULL &&
      (present == NULL || strcmp (uri, present) != 0))
    return call_fail (call, "WrongOwner",
                      "reopen: the disk is served from its destination %s "
                      "already, and nothing was changed",
                      present ? present : "(unknown)");
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
                               : serve_from_destination (call);
}
