/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands for the operator: they work whoever has the session. */

#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "call.h"
#include "cleanup.h"
#include "owner.h"

json_t *
command_abort (struct call *call)
{
  struct export *e = call->export;
  struct session *s = &e->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  struct client *victim = s->client;

  session_end (e);
  /* Still under the lock, so it cannot have been freed (control.h). */
  if (victim && victim != call->client)
    client_disconnect (victim);
  tracker_stop (e->tracker);
  if (tracker_owner (e->tracker) == OWNER_SOURCE)
    s->last_end = LAST_END_ABORTED;
  free (s->destination);
  s->destination = NULL;
  nbdkit_debug ("migrate: export \"%s\": aborted, tracking is off", e->name);
  return json_object ();
}

/* Which owner is wished; OWNER_UNKNOWN after call_fail. */
static enum owner
get_owner (struct call *call, enum owner now)
{
  const char *text =
    now == OWNER_FENCED || now == OWNER_SOURCE ? "source" : NULL;

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

/* R20: every chunk becomes dirty. */
static json_t *
serve_from_source (struct call *call, enum owner now)
{
  struct export *e = call->export;

  if (now == OWNER_DESTINATION)
    return call_fail (call, "WrongOwner",
                      "reopen: the disk was pivoted; the source is out of "
                      "date");
  if (now != OWNER_SOURCE) {
    if (owner_record (e, OWNER_SOURCE) == -1)
      return call_fail (call, "Failed",
                        "reopen: the owner could not be recorded");
    tracker_set_owner (e->tracker, OWNER_SOURCE, true);
    nbdkit_debug ("migrate: export \"%s\": reopened", e->name);
  }
  return json_pack ("{s:s}", "owner", owner_name (OWNER_SOURCE));
}

json_t *
command_reopen (struct call *call)
{
  struct session *s = &call->export->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  const enum owner now = tracker_owner (call->export->tracker);
  const enum owner owner = get_owner (call, now);

  if (owner == OWNER_UNKNOWN)
    return NULL;
  if (s->client)
    return call_fail (call, "SessionBusy",
                      "reopen: a migration of this disk is running");
  if (owner == OWNER_SOURCE)
    return serve_from_source (call, now);
  return call_fail (call, "NotSupported",
                    "reopen: this version of the filter cannot serve the "
                    "disk from the destination");
}
