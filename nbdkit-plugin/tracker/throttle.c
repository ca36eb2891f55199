/* SPDX-License-Identifier: BSD-3-Clause */
/* Each request sleeps on a condition of its own, since usually only the first
 * in the queue has a reason to wake: when its time has come, or when the one
 * before it has passed.  What changes for all wakes all.
 */

#include <stddef.h>
#include <time.h>

#include "cleanup.h"
#include "throttle.h"

static int64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * INT64_C (1000000000) + ts.tv_nsec;
}

void
throttle_init (struct throttle *t)
{
  *t = (struct throttle){ .limited = false };
  pthread_mutex_init (&t->lock, NULL);
}

void
throttle_destroy (struct throttle *t)
{
  pthread_mutex_destroy (&t->lock);
}

/* The lock must be held for every call of a static function below this line. */

static struct throttle_request *
request_of (struct fair_request *r)
{
  return (struct throttle_request *)r; /* its first member */
}

_Static_assert(offsetof (struct throttle_request, queue) == 0, "request_of");

static void
wake_all (struct throttle *t)
{
  for (struct fair_request *r = t->bucket.first; r; r = r->next)
    pthread_cond_signal (&request_of (r)->changed);
}

static void
wake_first (struct throttle *t)
{
  if (t->bucket.first)
    pthread_cond_signal (&request_of (t->bucket.first)->changed);
}

static void
set_rate (struct throttle *t, uint64_t rate, int64_t now)
{
  fair_set_rate (&t->bucket, rate, now);
  __atomic_store_n (&t->limited, rate > 0, __ATOMIC_RELAXED);
  wake_all (t);
}

/* R7: the limit was not renewed. */
static void
apply_lapse (struct throttle *t, int64_t now)
{
  if (t->bucket.rate > 0 && now >= t->lapses_ns)
    set_rate (t, 0, now);
}

/* How long it waits still; 0: it passes. */
static int64_t
wait_ns (struct throttle *t, const struct throttle_request *r, int64_t now)
{
  apply_lapse (t, now);
  if (t->stopped || now < t->let_pass_ns)
    return 0;
  return fair_wait_ns (&t->bucket, &r->queue, now);
}

static void
sleep_until (struct throttle *t, struct throttle_request *r, int64_t until)
{
  const struct timespec ts = { until / 1000000000, until % 1000000000 };

  pthread_cond_clockwait (&r->changed, &t->lock, CLOCK_MONOTONIC, &ts);
}

static void
count (struct throttle *t, struct throttle_request *r, int64_t now)
{
  r->delayed_ns = now - r->queue.since_ns;
  t->requests++;
  t->delayed_ns += r->delayed_ns;
  if (r->delayed_ns > t->longest_ns)
    t->longest_ns = r->delayed_ns;
}

static void
enter_queue (struct throttle *t, struct fair_flow *flow,
             struct throttle_request *r, uint64_t cost, int64_t now)
{
  fair_add (&t->bucket, flow, &r->queue, cost, now);
  r->queued = true;
  t->waiting++;
}

/* It passes: as the queue has it, or for nothing. */
static void
leave_queue (struct throttle *t, struct throttle_request *r, int64_t now)
{
  t->charged += r->queue.cost;
  if (fair_wait_ns (&t->bucket, &r->queue, now) == 0)
    fair_pass (&t->bucket, &r->queue, now);
  else
    fair_remove (&t->bucket, &r->queue);
  r->queued = false;
  t->waiting--;
  wake_first (t);
}

bool
throttle_is_limited (const struct throttle *t)
{
  return __atomic_load_n (&t->limited, __ATOMIC_RELAXED);
}

bool
throttle_enter (struct throttle *t, struct fair_flow *flow,
                struct throttle_request *r, uint64_t cost)
{
  if (!r->queued && !throttle_is_limited (t))
    return true;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  int64_t now = now_ns ();
  const int64_t limit = now + THROTTLE_SLICE_MS * INT64_C (1000000);
  bool waited = r->queued;
  int64_t left;

  if (!r->queued)
    enter_queue (t, flow, r, cost, now);
  while ((left = wait_ns (t, r, now)) > 0) {
    if (now >= limit)
      return false;
    waited = true;
    sleep_until (t, r, left < limit - now ? now + left : limit);
    now = now_ns ();
  }
  if (waited)
    count (t, r, now);
  leave_queue (t, r, now);
  return true;
}

void
throttle_give_up (struct throttle *t, struct throttle_request *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  if (!r->queued)
    return;
  fair_remove (&t->bucket, &r->queue);
  r->queued = false;
  t->waiting--;
  wake_first (t);
}

void
throttle_set (struct throttle *t, uint64_t rate, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const int64_t now = now_ns ();

  apply_lapse (t, now);
  t->lapses_ns = now + ms * INT64_C (1000000);
  set_rate (t, rate, now);
}

void
throttle_renew (struct throttle *t, unsigned ms)
{
  if (!throttle_is_limited (t))
    return;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const int64_t now = now_ns ();

  apply_lapse (t, now); /* what is over stays so */
  t->lapses_ns = now + ms * INT64_C (1000000);
}

void
throttle_let_pass (struct throttle *t, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  t->let_pass_ns = ms > 0 ? now_ns () + ms * INT64_C (1000000) : 0;
  wake_all (t);
}

void
throttle_stop (struct throttle *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  t->stopped = true;
  wake_all (t);
}

void
throttle_get_status (struct throttle *t, struct throttle_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  apply_lapse (t, now_ns ());
  *s = (struct throttle_status){
    .rate = t->bucket.rate,
    .waiting = t->waiting,
    .charged = t->charged,
    .delayed_requests = t->requests,
    .delayed_us = t->delayed_ns / 1000,
    .longest_us = t->longest_ns / 1000,
  };
}
