/* SPDX-License-Identifier: BSD-3-Clause */
/* What of a leased range reads as zeroes, and what if it did not. */

#include <errno.h>
#include <string.h>

#include "call.h"
#include "cleanup.h"
#include "export/allocation.h"
#include "export/durable-map.h"
#include "nbd-limits.h"
#include "protocol.h"

#define SLICE_MS 50 /* of a wait: what the session says next waits so long */

/* The range that is asked about. */
static int
get_range (struct call *call, uint64_t *offset, uint64_t *length)
{
  const uint64_t disk_bytes = call->export->disk_bytes;

  if (call_u64 (call, "offset", true, offset) == -1 ||
      call_u64 (call, "length", true, length) == -1)
    return -1;
  if (*length > 0 && *length <= NBD_STATUS_MAX && *offset < disk_bytes &&
      *length <= disk_bytes - *offset)
    return 0;
  call_fail (call, "BadArgument",
             "\"offset\", \"length\": at least one byte of the disk (%llu), "
             "at most %llu bytes",
             (unsigned long long)disk_bytes,
             (unsigned long long)NBD_STATUS_MAX);
  return -1;
}

static json_t *
answer_data (uint64_t question, uint64_t end)
{
  return json_pack ("{s:I, s:[], s:I}", "question", (json_int_t)question,
                    "zero", "end", (json_int_t)end);
}

/* Where a guest has written since the session began there is nothing to ask. */
static int
all_touched (struct export *e, uint64_t offset, uint64_t length, bool *touched)
{
  struct extent range = { offset, length, false };
  const struct extents whole = { &range, 1, 1 };
  CLEANUP_EXTENTS struct extents left = EXTENTS_EMPTY;
  uint64_t end;

  if (tracker_untouched (e->tracker, &whole, 1, &left, &end) == -1)
    return -1;
  *touched = left.n == 0;
  return 0;
}

/* Without the session lock, which is held again at the return: the plugin may
 * take its time.
 */
static enum allocation_result
ask (struct call *call, const struct allocation_question *question,
     struct allocation_answer *answer, const char **why)
{
  struct export *e = call->export;
  enum allocation_result r;

  pthread_mutex_unlock (&e->session.lock);
  r = allocation_ask (e->allocation, question, SLICE_MS, answer, why);
  pthread_mutex_lock (&e->session.lock);
  return r;
}

static json_t *
answer_known (struct call *call, uint64_t question,
              const struct allocation_answer *answer)
{
  CLEANUP_EXTENTS struct extents zero = EXTENTS_EMPTY;
  uint64_t end = answer->end, got;

  if (answer->zero.n == 0)
    return answer_data (question, end);
  if (tracker_untouched (call->export->tracker, &answer->zero,
                         PROTOCOL_EXTENTS_MAX, &zero, &got) == -1)
    return NULL;
  if (zero.n == PROTOCOL_EXTENTS_MAX && got < end)
    end = got;
  return json_pack ("{s:I, s:o, s:I}", "question", (json_int_t)question, "zero",
                    protocol_extents (&zero, false), "end", (json_int_t)end);
}

json_t *
command_extents (struct call *call)
{
  struct allocation_question q;
  struct allocation_answer answer;
  enum allocation_result r;
  json_t *value = NULL;
  const char *why;
  bool touched;

  if (call_u64 (call, "question", true, &q.number) == -1 ||
      get_range (call, &q.offset, &q.length) == -1 ||
      all_touched (call->export, q.offset, q.length, &touched) == -1)
    return NULL;
  if (touched)
    return answer_data (q.number, q.offset + q.length);
  r = ask (call, &q, &answer, &why);
  if (call_is_session (call)) {
    if (r == ALLOCATION_KNOWN)
      value = answer_known (call, q.number, &answer);
    else if (r == ALLOCATION_PENDING)
      value = json_pack ("{s:I, s:b}", "question", (json_int_t)q.number,
                         "pending", 1);
    else if (r == ALLOCATION_UNKNOWN)
      call_fail (call, "Unsupported", "%s", why);
  }
  extents_free (&answer.zero);
  return value;
}

json_t *
command_distrust (struct call *call)
{
  /* R14: what is dirty loses no mark, so none is lost between the two. */
  tracker_distrust (call->export->tracker);
  durable_map_mark (call->export, 0, call->export->disk_bytes);
  return json_object ();
}
