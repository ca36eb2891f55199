/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate and the commit (R8 to R10). */

#include <assert.h>
#include <errno.h>

#include "cleanup.h"
#include "internal.h"

uint64_t
tracker_hold (struct tracker *t, unsigned deadline_ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  /* The open gate has woken them all; they only need the lock. */
  while (tracker_gate_is_open (t) && t->held > 0)
    pthread_cond_wait (&t->progress, &t->lock);
  if (!t->tracking)
    return 0; /* requests on the fast path would not see the gate */

  const int64_t now = now_us ();

  return gate_close (&t->gate, now, now + deadline_ms * INT64_C (1000));
}

/* The first check of all that needs a hold. */
static bool
token_is_valid (struct tracker *t, uint64_t token)
{
  tracker_apply_deadline (t);
  return gate_valid (&t->gate, token);
}

void
tracker_wait_open (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  while (!tracker_gate_is_open (t))
    tracker_wait_until (t, &t->gate_changed,
                        tracker_until_deadline (t, INT64_MAX));
}

static int
fail (int err)
{
  errno = err;
  return -1;
}

enum tracker_drain
tracker_wait_drained (struct tracker *t, uint64_t token, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const int64_t limit = now_us () + ms * INT64_C (1000);
  const unsigned wakes = t->wakes;

  while (token_is_valid (t, token)) {
    if (tracker_is_drained (t))
      return DRAIN_DONE;
    if (t->wakes != wakes || now_us () >= limit)
      return DRAIN_WAIT;
    tracker_wait_until (t, &t->progress, tracker_until_deadline (t, limit));
  }
  return DRAIN_EXPIRED;
}

int
tracker_release (struct tracker *t, uint64_t token, uint64_t *pause_us)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!token_is_valid (t, token))
    return fail (ETIMEDOUT);
  if (t->gate.state == GATE_COMMITTING)
    return fail (EBUSY);
  tracker_open_gate (t);
  *pause_us = t->gate.last_pause_us;
  return 0;
}

int
tracker_commit_begin (struct tracker *t, uint64_t token, unsigned patience_ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!token_is_valid (t, token))
    return fail (ETIMEDOUT);
  if (t->gate.state != GATE_CLOSED || tracker_owner (t) != OWNER_SOURCE)
    return fail (EINVAL);
  if (!tracker_is_drained (t) || t->flush_under_way ||
      !chunks_clean (&t->chunks))
    return fail (EBUSY); /* R10 */
  t->owner_before = tracker_owner (t);
  t->mirror_block = 0; /* what is committed is not written to behind it */
  gate_commit (&t->gate, patience_ms * INT64_C (1000));
  return 0;
}

int
tracker_rollback_begin (struct tracker *t, uint64_t token)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!token_is_valid (t, token))
    return fail (ETIMEDOUT);
  if (t->gate.state != GATE_COMMITTED)
    return fail (EINVAL);
  gate_uncommit (&t->gate);
  return 0;
}

void
tracker_commit_end (struct tracker *t, bool recorded, enum owner owner)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  assert (
    tracker_is_drained (t)); /* no request of the old owner is under way */
  gate_committed (&t->gate, recorded);
  set_route (t, recorded ? owner : t->owner_before);

  /* Of the new state: a commit that was taken back has no patience. */
  const bool late = now_us () >= gate_deadline_us (&t->gate);

  /* R10: only now what was put off, with the owner in effect. */
  if (late && !t->session_over)
    t->gates_expired++;
  if (late || t->session_over)
    tracker_open_gate (t);
  if (t->stop_wanted)
    tracker_stop_tracking (t);
  t->session_over = t->stop_wanted = false;
  tracker_wake_all (t); /* the deadline counts again for who sleeps */
}
