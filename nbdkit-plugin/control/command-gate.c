/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands of the pause and the cut-over (R8 to R10). */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "cleanup.h"
#include "base/config.h"
#include "export/audit.h"
#include "export/durable-map.h"
#include "export/mirroring.h"
#include "export/place.h"
#include "export/owner.h"
#include "relay/relay.h"
#include "session-sockets.h"
#include "uri.h"

#define SLICE_MS 50 /* of a wait: how often the peer is looked at */
#define LOOK_MS 100 /* other disks may be held already */

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

/* R14: what the source has lost, the destination must not bring back.  It is
 * looked at before the gate is shut, since that may take a round trip.  The
 * session lock is dropped meanwhile; false if nobody is there.
 */
static bool
look_at_source (struct call *call)
{
  struct export *e = call->export;

  place_takes_over (e);
  durable_map_look_remote (e);
  durable_map_look (e);
  pthread_mutex_unlock (&e->session.lock);
  durable_map_wait_looked (e, LOOK_MS);
  call->gone = client_is_gone (call->client);
  pthread_mutex_lock (&e->session.lock);
  return !call->gone && call_is_session (call);
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
  if (!look_at_source (call))
    return NULL;
  token = tracker_hold (t, deadline_ms);
  if (token == 0)
    return call_fail (call, "GateBusy", "the gate is closed already");
  throttle_let_pass (&call->export->throttle, deadline_ms);
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
  throttle_let_pass (&call->export->throttle, 0);
  return json_pack ("{s:I}", "pause_us", (json_int_t)pause_us);
}

/* ---- prepare ----------------------------------------------------------- */

/* The session lock is dropped while we connect, which may take seconds. */
static json_t *
connect_relay (struct call *call, const char *uri)
{
  const struct relay_waiter waiter = { call_is_alive, call };
  struct export *e = call->export;
  CLEANUP_FREE char *why = NULL;
  struct relay *relay;

  pthread_mutex_unlock (&e->session.lock);
  relay = place_connect (e, uri, &waiter, &why);
  call->gone = client_is_gone (call->client);
  pthread_mutex_lock (&e->session.lock);
  if (relay == NULL)
    return call_fail (call, "BadDestination",
                      "the proxy cannot go on there: %s",
                      why ? why : "no memory");
  if (call->gone || !call_is_session (call)) {
    relay_close (relay);
    return NULL;
  }
  place_set (e, tracker_place (e->tracker, OWNER_DESTINATION), relay);
  return json_object ();
}

/* Only a pivot needs anything of the destination on our side. */
json_t *
command_prepare (struct call *call)
{
  struct export *e = call->export;
  const char *destination, *finish;

  if (call_string (call, "destination", true, &destination) == -1 ||
      call_finish (call, true, &finish) == -1)
    return NULL;
  if (strcmp (destination, e->session.destination) != 0)
    return call_fail (call, "BadArgument",
                      "prepare: the destination is not the one of 'begin'");
  if (strcmp (finish, "pivot") != 0 || place_destination (e) != NULL ||
      uri_is_local (destination))
    return json_object ();
  return connect_relay (call, destination);
}

/* ---- commit ------------------------------------------------------------ */

static json_t *
answer_owner (struct call *call)
{
  return json_pack ("{s:s}", "owner",
                    owner_name (tracker_owner (call->export->tracker)));
}

/* Between begin and end of a commit or a rollback nothing opens the gate
 * (R10).  Where neither record is sure, nobody is the owner until 'reopen'.
 */
static json_t *
record_new_owner (struct call *call, enum owner owner, enum record_end end)
{
  struct export *e = call->export;
  const enum owner before = tracker_owner (e->tracker);
  enum owner_outcome outcome = OWNER_RECORDED;

  if (owner != before)
    outcome = owner_record (e, owner, end);
  switch (outcome) {
  case OWNER_RECORDED:
    e->session.last_end = end;
    if (owner == OWNER_DESTINATION && place_destination (e) != NULL) {
      relay_set_owner (place_destination (e), true);
      relay_note_delay (place_destination (e),
                        place_delay_ms (e, OWNER_DESTINATION));
    }
    tracker_commit_end (e->tracker, true, owner);
    throttle_set (&e->throttle, 0, 0); /* there is nothing to keep up with */
    audit_commit (e, owner, end);
    return answer_owner (call);
  case OWNER_KEPT:
    tracker_commit_end (e->tracker, false, before);
    return call_fail (call, "Failed",
                      "the new owner (%s) could not be recorded in the state "
                      "file; nbdkit's own messages say why",
                      owner_name (owner));
  case OWNER_UNSURE:
    break;
  }
  tracker_commit_end (e->tracker, true, OWNER_UNKNOWN);
  return call_fail (call, "OwnerUnknown",
                    "the state file could neither be written nor be brought "
                    "back: nobody is served until 'nbdmigrate reopen DIR "
                    "owner=source', or owner=destination, settles it");
}

/* The guest must not be sent to a destination that is away just now. */
static bool
may_pivot (struct call *call)
{
  struct export *e = call->export;
  struct relay *relay = place_destination (e);
  struct relay_status s;

  if (tracker_place (e->tracker, OWNER_DESTINATION) == PLACE_LOCAL)
    return true;
  if (relay == NULL) {
    call_fail (call, "BadArgument", "commit: a pivot must be prepared first");
    return false;
  }
  relay_get_status (relay, &s);
  if (!s.up)
    call_fail (call, "NotClean",
               "commit: the proxy has lost its connection to the destination");
  return s.up;
}

/* R17: what was sent to the place where the disk is may still be done there.
 * Here it is waited for; once the disk has moved on, and come back, nobody
 * would.  With the gate shut and nothing in flight no more of that comes up.
 */
static bool
may_leave (struct call *call)
{
  const uint64_t ms = place_late_ms (call->export);

  if (ms > 0)
    call_fail (call, "NotClean",
               "commit: a write that was sent to the source, %s, and was not "
               "answered may still be done there; the disk stays for %" PRIu64
               " ms at least",
               call->export->session.source ? call->export->session.source
                                            : URI_LOCAL,
               ms);
  return ms == 0;
}

/* What was answered with success must be done or be said to be undone: the
 * session is to look at it first.  It comes too late from now on
 * (command_wish); both hold the session lock.
 */
static bool
has_wishes (struct call *call)
{
  if (json_object_size (call->export->session.wishes) == 0)
    return false;
  call_fail (call, "Wished",
             "commit: somebody has left a wish, which 'publish' hands over");
  return true;
}

json_t *
command_commit (struct call *call)
{
  static const struct {
    const char *finish;
    enum owner owner;
    enum record_end end;
  } ends[] = {
    { "pivot", OWNER_DESTINATION, RECORD_END_PIVOTED },
    { "handover", OWNER_FENCED, RECORD_END_HANDED_OVER },
    { "detach", OWNER_SOURCE, RECORD_END_DETACHED },
  };
  struct export *e = call->export;
  const char *finish;
  bool together = false;
  uint64_t token;
  size_t i = 0;

  if (call_token (call, &token) == -1 ||
      call_finish (call, true, &finish) == -1 ||
      call_bool (call, "together", false, &together) == -1)
    return NULL;
  while (strcmp (finish, ends[i].finish) != 0)
    i++;
  if (has_wishes (call) ||
      (ends[i].owner == OWNER_DESTINATION && !may_pivot (call)) ||
      (ends[i].owner != OWNER_SOURCE && !may_leave (call)))
    return NULL;
  durable_map_look_remote (e); /* R14: it may have been lost in the pause */
  if (ends[i].end == RECORD_END_DETACHED)
    durable_map_detach (e);
  /* R10: what waits for other disks to be recorded can be taken back as long
   * as the gate is shut, so it stays shut; but not for ever (R8).
   */
  if (tracker_commit_begin (e->tracker, token,
                            together ? config.max_gate_ms : 0) == -1)
    return fail_gate (call, "commit");
  mirroring_disable (e);
  session_sockets_note_delays (e);
  return record_new_owner (call, ends[i].owner, ends[i].end);
}

json_t *
command_rollback (struct call *call)
{
  struct export *e = call->export;
  enum owner_outcome outcome = OWNER_RECORDED;
  uint64_t token;

  if (call_token (call, &token) == -1)
    return NULL;
  if (tracker_rollback_begin (e->tracker, token) == -1)
    return fail_gate (call, "rollback");
  /* A session begins only where the source is the owner, or becomes it. */
  if (tracker_owner (e->tracker) != OWNER_SOURCE)
    outcome = owner_record (e, OWNER_SOURCE, RECORD_END_INTERRUPTED);
  if (outcome == OWNER_RECORDED) {
    e->session.last_end = RECORD_END_NONE;
    /* From here on the migrator writes there again. */
    if (place_destination (e) != NULL)
      relay_set_owner (place_destination (e), false);
    tracker_commit_end (e->tracker, false, OWNER_SOURCE);
    audit_rollback (e);
    return answer_owner (call);
  }
  tracker_commit_end (e->tracker, true,
                      outcome == OWNER_KEPT ? tracker_owner (e->tracker)
                                            : OWNER_UNKNOWN);
  return call_fail (call, "OwnerUnknown",
                    "rollback: the old owner could not be recorded again; "
                    "nbdkit's own messages say why");
}
