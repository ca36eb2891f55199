/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's request: wait for the destination and for the range, try, and try
 * again when the destination was lost meanwhile.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

static struct request
new_request (struct relay *r, const void *buf, uint64_t length, uint64_t offset,
             unsigned flags, const struct relay_waiter *waiter)
{
  return (struct request){
    .relay = r,
    .waiter = waiter,
    .buf = (void *)buf,
    .length = length,
    .offset = offset,
    .flags = flags,
    .start_ms = clock_ms (),
  };
}

/* ---- Waiting ----------------------------------------------------------- */

int
request_wait (struct request *q)
{
  struct relay *r = q->relay;
  bool alive = true;

  if (!r->remote.stopping)
    remote_wait_changed (&r->remote);
  /* Also when something changes all the time. */
  if (!r->remote.stopping && q->waiter != NULL &&
      clock_ms () - q->asked_ms >= REMOTE_SLICE_MS) {
    pthread_mutex_unlock (&r->remote.lock);
    alive = q->waiter->alive (q->waiter->opaque);
    pthread_mutex_lock (&r->remote.lock);
    q->asked_ms = clock_ms ();
  }
  return r->remote.stopping || !alive ? ESHUTDOWN : 0;
}

/* Whether this request has waited for the destination for long enough.  The
 * time counts from the loss that hit it first, or that it met.  L.
 */
static bool
away_too_long (const struct request *q)
{
  return relay_is_over (q->relay, q->give_up_ms);
}

/* A write that came before has not ended.  L. */
static bool
must_wait_for_write (const struct request *q)
{
  return q->ticket > 0 && range_lock_blocks_read (&q->relay->ranges, q->offset,
                                                  q->length, q->ticket);
}

static int
wait_for_write (struct request *q)
{
  struct relay *r = q->relay;
  int result;

  ++r->range_waiters;
  result = request_wait (q);
  --r->range_waiters;
  return result;
}

/* Nothing more is sent to a server that has been silent for seconds (but a
 * flush, which adds nothing to what may still land).  L.
 */
static bool
must_wait_for_answer (const struct request *q)
{
  return q->length > 0 && remote_is_silent (&q->relay->remote, clock_ms ());
}

static int
wait_for_answer (struct request *q)
{
  struct relay *r = q->relay;
  int result;

  ++r->remote.silence_waiters;
  pthread_cond_signal (&r->watch); /* is it silent, or has it no work? */
  result = request_wait (q);
  --r->remote.silence_waiters;
  return result;
}

static int
wait_until_ready (struct request *q, struct view *v)
{
  struct relay *r = q->relay;
  int result = 0;

  pthread_mutex_lock (&r->remote.lock);
  if (r->remote.stopping)
    result = ESHUTDOWN;
  while (result == 0) {
    if (!r->remote.up)
      result = away_too_long (q) ? EIO : request_wait (q);
    else if (must_wait_for_write (q))
      result = wait_for_write (q);
    else if (must_wait_for_answer (q))
      result = wait_for_answer (q);
    else
      break;
  }
  if (result == 0) {
    relay_wake_watcher (r);
    v->generation = r->remote.generation;
    v->destination = r->remote.destination;
  }
  pthread_mutex_unlock (&r->remote.lock);
  return result;
}

/* The destination was lost during a try.  False: no further one. */
static bool
may_try_again (struct request *q)
{
  struct relay *r = q->relay;
  const int64_t reconnect_ms = r->options.reconnect_ms, now = clock_ms ();
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  if (q->give_up_ms == 0)
    q->give_up_ms = now + reconnect_ms;
  return reconnect_ms > 0 &&
         (now < q->give_up_ms || now < r->answered_ms + reconnect_ms);
}

static int
run (struct request *q, try_fn *try)
{
  struct view v;
  int result;

  do {
    result = wait_until_ready (q, &v);
    if (result != 0)
      return result;
    result = try (q, &v);
  } while (result == REMOTE_SILENT ||
           (result == REMOTE_LOST && may_try_again (q)));
  return result == REMOTE_LOST ? EIO : result;
}

/* ---- Ranges ------------------------------------------------------------ */

/* An old write that may still land there is waited for as long as the
 * destination may be away, and its grace period; more only if it comes and
 * goes all the time.
 */
static bool
suspect_too_long (const struct request *q)
{
  const struct relay *r = q->relay;
  const int64_t since =
    q->start_ms > r->answered_ms ? q->start_ms : r->answered_ms;

  return !relay_awaits_answers (r) &&
         clock_ms () >= since + r->options.reconnect_ms + relay_grace_ms (r);
}

static int
lock_range (struct request *q)
{
  struct relay *r = q->relay;
  enum range_answer answer;
  int result = 0;

  pthread_mutex_lock (&r->remote.lock);
  range_lock_enter (&r->ranges, &q->node, q->offset, q->length);
  while ((answer = range_lock_ask (&r->ranges, &q->node, clock_ms ())) !=
         RANGE_MINE) {
    if (away_too_long (q) || (answer == RANGE_SUSPECT && suspect_too_long (q)))
      result = EIO;
    else {
      ++r->range_waiters;
      result = request_wait (q);
      --r->range_waiters;
    }
    if (result != 0) {
      range_lock_leave (&r->ranges, &q->node);
      pthread_cond_broadcast (&r->remote.changed);
      break;
    }
  }
  if (result == 0)
    witness_forget (&r->witnesses, q->node.start, q->node.end - q->node.start);
  pthread_mutex_unlock (&r->remote.lock);
  return result;
}

/* It may still land.  What was repeated with success brings what is there
 * already: only other writes have to wait for it.  L.
 */
static void
leave_unknown (struct request *q, struct mend *mend)
{
  struct relay *r = q->relay;

#ifdef PLANT_BUG_relay_no_grace
  if (mend == NULL) {
    range_lock_leave (&r->ranges, &q->node);
    return;
  }
#endif
  if (mend != NULL) {
    mend_take_over (mend, q);
    return;
  }
  /* Without memory for the suspect: the range stays locked, or, as no other
   * request passes at the end, the next relay is told.
   */
  while (range_lock_leave_suspect (&r->ranges, &q->node,
                                   r->remote.up
                                     ? clock_ms () + relay_grace_ms (r)
                                     : RANGE_NEVER) == -1) {
    if (r->remote.stopping) {
      r->left_unknown = true;
      range_lock_leave (&r->ranges, &q->node);
      return;
    }
    remote_wait_changed (&r->remote);
  }
}

static void
unlock_range (struct request *q, try_fn *try, int result)
{
  struct relay *r = q->relay;
  const bool wants_mend = q->unknown && result != 0;
  struct mend *mend = wants_mend ? mend_new (q, try) : NULL;

  pthread_mutex_lock (&r->remote.lock);
  /* Without memory for it: the range stays locked, for reads too. */
  while (wants_mend && mend == NULL && !r->remote.stopping) {
    remote_wait_changed (&r->remote);
    mend = mend_new (q, try);
  }
  if (result != 0 && result != EOPNOTSUPP)
    witness_write_failed (&r->witnesses);
  if (q->unknown)
    leave_unknown (q, mend);
  else
    range_lock_leave (&r->ranges, &q->node);
  if (r->range_waiters > 0)
    pthread_cond_broadcast (&r->remote.changed);
  pthread_mutex_unlock (&r->remote.lock);
}

int
request_repeat (struct request *q, try_fn *try)
{
  return may_try_again (q) ? run (q, try) : EIO;
}

int
request_go_on (struct request *q, try_fn *try)
{
  const int result = request_repeat (q, try);

  unlock_range (q, try, result);
  return result;
}

static int
run_locked (struct request *q, try_fn *try)
{
  int result;

  if (q->length == 0)
    return 0;
  result = lock_range (q);
  if (result == 0) {
    result = run (q, try);
    unlock_range (q, try, result);
  }
  return result;
}

/* For at most as long as the operator lets it take. */
static int
perform (struct request *q, run_fn *how, try_fn *try)
{
  return q->relay->options.request_limit_ms == 0 ? how (q, try)
                                                 : limit_run (q, how, try);
}

static int
perform_read (struct request *q, try_fn *try)
{
  struct relay *r = q->relay;

  pthread_mutex_lock (&r->remote.lock);
  q->ticket = r->ranges.tickets;
  pthread_mutex_unlock (&r->remote.lock);
  return perform (q, run, try);
}

static int
answer (int result)
{
  if (result == 0)
    return 0;
  errno = result;
  return -1;
}

/* ---- What a read returns ----------------------------------------------- */

/* Nothing is unflushed, nothing is being written.  L. */
static bool
is_quiet (const struct relay *r)
{
  return r->remote.up && relay_log_empty (r->log) &&
         r->ranges.head.next == &r->ranges.head &&
         !range_lock_has_suspects (&r->ranges, clock_ms ());
}

/* A disk that reads as zero bears none, and costs each read two locks. */
#define WITNESS_READS_MAX 4096

/* Whether what a read returns that begins now is to be remembered (witness.h).
 */
static bool
witness_wanted (struct relay *r, uint64_t *writes)
{
  bool wanted;

  if (__atomic_load_n (&r->has_witnesses, __ATOMIC_RELAXED))
    return false;
  pthread_mutex_lock (&r->remote.lock);
  wanted = witness_wants_reads (&r->witnesses) && is_quiet (r);
  *writes = r->witnesses.writes;
  if (!witness_wants_reads (&r->witnesses) ||
      ++r->witness_reads == WITNESS_READS_MAX)
    __atomic_store_n (&r->has_witnesses, true, __ATOMIC_RELAXED);
  pthread_mutex_unlock (&r->remote.lock);
  return wanted;
}

static void
offer_witness (const struct request *q, uint64_t writes)
{
  struct relay *r = q->relay;

  pthread_mutex_lock (&r->remote.lock);
  if (is_quiet (r) && r->witnesses.writes == writes)
    witness_read (&r->witnesses, q->buf, q->offset, q->length);
  pthread_mutex_unlock (&r->remote.lock);
}

void
relay_want_witnesses (struct relay *r)
{
  r->witness_reads = 0;
  __atomic_store_n (&r->has_witnesses, false, __ATOMIC_RELAXED);
}

void
relay_set_owner (struct relay *r, bool ours)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  witness_owner (&r->witnesses, ours);
  relay_want_witnesses (r);
}

/* ---- The requests ------------------------------------------------------ */

int
relay_read (struct relay *r, void *buf, size_t count, uint64_t offset,
            const struct relay_waiter *waiter)
{
  struct request q = new_request (r, buf, count, offset, 0, waiter);
  uint64_t writes = 0;
  bool wanted;
  int result;

  if (count == 0)
    return 0;
  wanted = witness_wanted (r, &writes);
  if (!quick_read (&q, &result))
    result = perform_read (&q, try_read);
  if (result == 0 && wanted)
    offer_witness (&q, writes);
  return answer (result);
}

int
relay_write (struct relay *r, const void *buf, size_t count, uint64_t offset,
             unsigned flags, const struct relay_waiter *waiter)
{
  struct request q = new_request (r, buf, count, offset, flags, waiter);
  int result;

  if (!quick_write (&q, &result))
    result = perform (&q, run_locked, try_write);
  return answer (result);
}

int
relay_zero (struct relay *r, uint64_t count, uint64_t offset, unsigned flags,
            const struct relay_waiter *waiter)
{
  struct request q = new_request (r, NULL, count, offset, flags, waiter);

  return answer (perform (&q, run_locked, try_zero));
}

int
relay_trim (struct relay *r, uint64_t count, uint64_t offset, unsigned flags,
            const struct relay_waiter *waiter)
{
  struct request q = new_request (r, NULL, count, offset, flags, waiter);

  return answer (perform (&q, run_locked, try_trim));
}

int
relay_cache (struct relay *r, uint64_t count, uint64_t offset,
             const struct relay_waiter *waiter)
{
  struct request q = new_request (r, NULL, count, offset, 0, waiter);

  return count == 0 ? 0 : answer (perform (&q, run, try_cache));
}

int
relay_flush (struct relay *r, uint64_t *seen, const struct relay_waiter *waiter)
{
  struct request q = new_request (r, NULL, 0, 0, 0, waiter);

  q.seen = seen;
  return answer (perform (&q, run, try_flush));
}

/* Cut what the destination answered to what was asked for. */
static int
report_extents (const struct request *q, relay_extent_cb *cb, void *opaque)
{
  const struct extent_list *list = q->extents;
  const uint64_t end = q->offset + q->length;
  uint64_t at = list->start;
  int result = 0;

  if (list->n == 0) /* unknown is allocated */
    return cb (opaque, q->offset, q->length, 0);
  for (size_t i = 0; i < list->n && at < end && result == 0; ++i) {
    const uint64_t next = at + list->v[i].length;
    const uint64_t from = at > q->offset ? at : q->offset;
    const uint64_t to = next < end ? next : end;

    if (from < to)
      result = cb (opaque, from, to - from, list->v[i].flags);
    at = next;
  }
  return result;
}

int
relay_block_status (struct relay *r, uint64_t count, uint64_t offset,
                    relay_extent_cb *cb, void *opaque,
                    const struct relay_waiter *waiter)
{
  struct request q = new_request (r, NULL, count, offset, 0, waiter);
  struct extent_list list = { NULL, 0, 0 };
  int result;

  if (count == 0)
    return 0;
  q.extents = &list;
  result = perform_read (&q, try_block_status);
  if (result == 0)
    result = report_extents (&q, cb, opaque);
  free (list.v);
  return answer (result);
}
