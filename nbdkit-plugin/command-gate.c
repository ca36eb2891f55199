/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands of the pause and the cut-over (R8 to R10). */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "config.h"
#include "owner.h"

#define SLICE_MS 50 /* of a wait: how often the peer is looked at */

/* The error of a tracker function that got a token. */
static json_t *
fail_gate (struct call *call, const char *what)
{
  if (errno == ETIMEDOUT)
    return call_fail (call, "GateExpired",
                      "%s: the deadline of the hold has passed, or the token "
                      "is not that of the present hold",
                      what);
  if (errno == EBUSY)
    return call_fail (call, "NotClean",
                      "%s: the destination still lacks something: not every "
                      "chunk is copied and flushed",
                      what);
  if (errno == EINVAL)
    return call_fail (call, "BadArgument", "%s: the hold is%s committed", what,
                      strcmp (what, "rollback") == 0 ? " not" : " already");
  return call_fail (call, "Failed", "%s: %s", what, strerror (errno));
}

/* R9: until nothing is in flight.  The session lock is dropped meanwhile.
 * False after call_fail, or if nobody is there.
 */
static bool
wait_drained (struct call *call, uint64_t token)
{
  struct export *e = call->export;
  enum tracker_drain drain;

  do {
    pthread_mutex_unlock (&e->session.lock);
    drain = tracker_wait_drained (e->tracker, token, SLICE_MS);
    call->gone = client_is_gone (call->client);
    pthread_mutex_lock (&e->session.lock);
    if (call->gone || !call_is_session (call))
      return false;
  } while (drain == DRAIN_WAIT);
  if (drain == DRAIN_DONE)
    return true;
  call_fail (call, "GateExpired",
             "hold: guest requests in flight did not end before the "
             "deadline; the gate is open again");
  return false;
}

json_t *
command_hold (struct call *call)
{
  struct tracker *t = call->export->tracker;
  struct tracker_status s;
  uint64_t deadline_ms, token;
  char text[17];

  if (call_u64 (call, "deadline_ms", true, &deadline_ms) == -1)
    return NULL;
  if (deadline_ms == 0 || deadline_ms > config.max_gate_ms)
    return call_fail (call, "BadArgument",
                      "\"deadline_ms\": %" PRIu64 " must be from 1 to %u "
                      "(migrate-max-gate)",
                      deadline_ms, config.max_gate_ms);
  token = tracker_hold (t, deadline_ms);
  if (token == 0)
    return call_fail (call, "GateBusy", "the gate is closed already");
  if (!wait_drained (call, token))
    return NULL;
  tracker_get_status (t, &s);
  snprintf (text, sizeof text, "%" PRIx64, token);
  return json_pack ("{s:s, s:I}", "token", text, "remaining_bytes",
                    (json_int_t)s.remaining_bytes);
}

json_t *
command_release (struct call *call)
{
  uint64_t token, pause_us;

  if (call_token (call, &token) == -1)
    return NULL;
  if (tracker_release (call->export->tracker, token, &pause_us) == -1)
    return fail_gate (call, "release");
  return json_pack ("{s:I}", "pause_us", (json_int_t)pause_us);
}

static json_t *
fail_pivot (struct call *call)
{
  return call_fail (call, "NotSupported",
                    "this version of the filter cannot pivot: use detach or "
                    "handover");
}

/* Only a pivot needs anything of the destination on our side. */
json_t *
command_prepare (struct call *call)
{
  const char *destination, *finish;

  if (call_string (call, "destination", true, &destination) == -1 ||
      call_finish (call, true, &finish) == -1)
    return NULL;
  if (strcmp (finish, "pivot") == 0)
    return fail_pivot (call);
  return json_object ();
}

static json_t *
answer_owner (struct call *call)
{
  return json_pack ("{s:s}", "owner",
                    owner_name (tracker_owner (call->export->tracker)));
}

/* R10: between begin and end of the commit nothing opens the gate. */
json_t *
command_commit (struct call *call)
{
  struct export *e = call->export;
  const char *finish;
  enum owner owner;
  uint64_t token;
  bool recorded;

  if (call_token (call, &token) == -1 ||
      call_finish (call, true, &finish) == -1)
    return NULL;
  if (strcmp (finish, "pivot") == 0)
    return fail_pivot (call);
  owner = strcmp (finish, "handover") == 0 ? OWNER_FENCED : OWNER_SOURCE;

  if (tracker_commit_begin (e->tracker, token) == -1)
    return fail_gate (call, "commit");
  recorded = owner_record (e, owner) == 0;
  tracker_commit_end (e->tracker, recorded, recorded ? owner : OWNER_SOURCE);
  if (!recorded)
    return call_fail (call, "Failed",
                      "commit: the new owner could not be recorded");
  e->session.last_end =
    owner == OWNER_FENCED ? LAST_END_HANDED_OVER : LAST_END_DETACHED;
  return answer_owner (call);
}

json_t *
command_rollback (struct call *call)
{
  struct export *e = call->export;
  uint64_t token;

  if (call_token (call, &token) == -1)
    return NULL;
  if (tracker_rollback_begin (e->tracker, token) == -1)
    return fail_gate (call, "rollback");
  /* A session begins only where the source is the owner. */
  if (owner_record (e, OWNER_SOURCE) == -1) {
    tracker_commit_end (e->tracker, true, tracker_owner (e->tracker));
    return call_fail (call, "Failed",
                      "rollback: the old owner could not be recorded again");
  }
  tracker_commit_end (e->tracker, false, OWNER_SOURCE);
  e->session.last_end = LAST_END_NONE;
  return answer_owner (call);
}
