/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands that hand out chunks and take them back (R3 to R6a). */

#include <errno.h>
#include <string.h>

#include "call.h"
#include "cleanup.h"
#include "export/durable-map.h"
#include "export/mirroring.h"
#include "protocol.h"
#include "session-sockets.h"

/* The error of a tracker function that got extents. */
static json_t *
fail_extents (struct call *call)
{
  if (errno == EINVAL)
    return call_fail (call, "BadArgument",
                      "\"extents\" must be whole chunks that are leased");
  return call_fail (call, "Failed", "\"extents\": %s", strerror (errno));
}

/* "cursor" and "max_bytes" of take and compare. */
static int
get_window (struct call *call, uint64_t *cursor, uint64_t *max_bytes)
{
  if (call_u64 (call, "cursor", true, cursor) == -1 ||
      call_u64 (call, "max_bytes", true, max_bytes) == -1)
    return -1;
  if (*cursor <= call->export->disk_bytes)
    return 0;
  call_fail (
    call, "BadArgument", "\"cursor\": %llu is past the end of the disk, %llu",
    (unsigned long long)*cursor, (unsigned long long)call->export->disk_bytes);
  return -1;
}

static json_t *
answer_window (const struct extents *extents, uint64_t next)
{
  return json_pack ("{s:o, s:I}", "extents", protocol_extents (extents, true),
                    "cursor", (json_int_t)next);
}

json_t *
command_take (struct call *call)
{
  CLEANUP_EXTENTS struct extents extents = EXTENTS_EMPTY;
  struct tracker *t = call->export->tracker;
  bool not_hot = false, new_round = false;
  uint64_t cursor, max_bytes, next;
  json_t *answer;
  int r;

  if (get_window (call, &cursor, &max_bytes) == -1 ||
      call_bool (call, "not_hot", false, &not_hot) == -1 ||
      call_bool (call, "new_round", false, &new_round) == -1)
    return NULL;
  if (new_round)
    tracker_begin_round (t);
  r = (not_hot ? tracker_take_cold : tracker_take) (
    t, cursor, max_bytes, PROTOCOL_EXTENTS_MAX, &extents, &next);
  if (r == -1)
    return call_fail (call, "Failed", "take: %s", strerror (errno));
  answer = answer_window (&extents, next);
  if (answer == NULL) /* nobody knows of that lease: nothing is read or sent */
    tracker_put_back (t, &extents);
  return answer;
}

json_t *
command_compare (struct call *call)
{
  CLEANUP_EXTENTS struct extents extents = EXTENTS_EMPTY;
  uint64_t cursor, max_bytes, next;
  bool quarantined = false;
  json_t *answer;

  if (get_window (call, &cursor, &max_bytes) == -1 ||
      call_bool (call, "quarantined", false, &quarantined) == -1)
    return NULL;
  if (quarantined && session_sockets_look (call->export)) /* R17: not yet */
    return answer_window (&extents, call->export->disk_bytes);
  if (tracker_compare (call->export->tracker, quarantined, cursor, max_bytes,
                       PROTOCOL_EXTENTS_MAX, &extents, &next) == -1)
    return call_fail (call, "Failed", "compare: %s", strerror (errno));
  for (size_t i = 0; i < extents.n; i++)
    extents.v[i].touched = true;
  answer = answer_window (&extents, next);
  if (answer == NULL) /* as above; Q stays (R17) */
    tracker_failed (call->export->tracker, &extents, quarantined);
  return answer;
}

json_t *
command_done (struct call *call)
{
  CLEANUP_EXTENTS struct extents extents = EXTENTS_EMPTY;
  struct tracker *t = call->export->tracker;
  bool skipped = false;
  uint64_t epoch;
  int r;

  if (call_extents (call, &extents) == -1 ||
      call_u64 (call, "epoch", true, &epoch) == -1 ||
      call_bool (call, "skipped", false, &skipped) == -1)
    return NULL;
  r = skipped ? tracker_skipped (t, &extents, epoch)
              : tracker_done (t, &extents, epoch);
  if (r == 0 && !skipped)
    lately_add (&call->export->session.lately, &extents);
  return r == -1 ? fail_extents (call) : json_object ();
}

json_t *
command_failed (struct call *call)
{
  CLEANUP_EXTENTS struct extents extents = EXTENTS_EMPTY;
  struct tracker *t = call->export->tracker;
  bool unknown = false, put_back = false;
  int r;

  if (call_extents (call, &extents) == -1 ||
      call_bool (call, "unknown", false, &unknown) == -1 ||
      call_bool (call, "put_back", false, &put_back) == -1)
    return NULL;
  r = put_back && !unknown ? tracker_put_back (t, &extents)
                           : tracker_failed (t, &extents, unknown);
  return r == -1 ? fail_extents (call) : json_object ();
}

/* R14: what was taken for the same, and is not, stays so beyond a crash.  They
 * may not be of this lease; then there is a mark too many.
 */
static void
mark_different (struct export *e, const struct extents *extents)
{
  for (size_t i = 0; i < extents->n; i++) {
    const struct extent *x = &extents->v[i];

    if (x->offset <= e->disk_bytes && x->length <= e->disk_bytes - x->offset)
      durable_map_mark (e, x->offset, x->length);
  }
}

json_t *
command_compared (struct call *call)
{
  CLEANUP_EXTENTS struct extents extents = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  bool equal;

  if (call_extents (call, &extents) == -1 ||
      call_bool (call, "equal", true, &equal) == -1)
    return NULL;
  if (!equal)
    mark_different (call->export, &extents);
  if (tracker_compared (call->export->tracker, &extents, equal, &wrong) == -1)
    return fail_extents (call);
  return json_pack ("{s:o}", "wrong", protocol_extents (&wrong, false));
}

json_t *
command_flush_begin (struct call *call)
{
  uint64_t epoch;

  if (tracker_flush_begin (call->export->tracker, &epoch) == -1)
    return call_fail (call, "BadArgument",
                      "flush-begin: the flush before has not ended");
  mirroring_flush_begin (call->export);
  return json_pack ("{s:I}", "epoch", (json_int_t)epoch);
}

/* R6: the proxy's own connections, flushed since flush-begin.  False after
 * call_fail, or if nobody is there.
 */
static bool
flush_mirror (struct call *call, bool *success)
{
  const bool flushed = mirroring_flush_wait (call->export, call_is_alive, call);

  *success = *success && flushed;
  call->gone = client_is_gone (call->client);
  return !call->gone && call_is_session (call);
}

json_t *
command_flush_end (struct call *call)
{
  struct tracker_status s;
  uint64_t epoch;
  bool success;

  if (call_bool (call, "success", true, &success) == -1 ||
      call_u64 (call, "epoch", true, &epoch) == -1)
    return NULL;
  if (!flush_mirror (call, &success))
    return NULL;
  if (tracker_flush_end (call->export->tracker, success, epoch) == -1)
    return call_fail (call, "BadArgument",
                      "flush-end: no flush-begin came before");
  durable_map_flushed (call->export, false);
  tracker_get_status (call->export->tracker, &s);
  return json_pack ("{s:I}", "remaining_bytes", (json_int_t)s.remaining_bytes);
}
