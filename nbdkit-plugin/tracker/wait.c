/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting, and the gate's clock.
 *
 * Deadlines need no thread: each call first opens a gate whose time has come,
 * and a request held at it sleeps no longer than until then.
 */

#include "internal.h"

/* How long tracker_enter waits at the gate before its caller must look
 * whether its client is still there.
 */
#define HELD_US 100000

void
tracker_wait_until (struct tracker *t, pthread_cond_t *cond, int64_t until_us)
{
  const struct timespec ts = { until_us / 1000000, until_us % 1000000 * 1000 };

  pthread_cond_clockwait (cond, &t->lock, CLOCK_MONOTONIC, &ts);
}

void
tracker_wake_all (struct tracker *t)
{
  pthread_cond_broadcast (&t->gate_changed);
  pthread_cond_broadcast (&t->progress);
}

/* ---- The gate's clock --------------------------------------------------- */

/* R8: called first by everything that depends on the gate. */
void
tracker_apply_deadline (struct tracker *t)
{
  if (gate_expire (&t->gate, now_us ())) {
    t->gates_expired++;
    tracker_wake_all (t);
  }
}

void
tracker_open_gate (struct tracker *t)
{
  gate_open (&t->gate, now_us ());
  tracker_wake_all (t);
}

bool
tracker_gate_is_open (struct tracker *t)
{
  tracker_apply_deadline (t);
  return t->gate.state == GATE_OPEN;
}

/* 'us', or the gate's deadline if that counts and comes first. */
int64_t
tracker_until_deadline (const struct tracker *t, int64_t us)
{
  const bool counts =
    t->gate.state == GATE_CLOSED || t->gate.state == GATE_COMMITTED;

  const int64_t deadline = gate_deadline_us (&t->gate);

  return counts && deadline < us ? deadline : us;
}

/* The request waits no more: it passes, or does not come again. */
void
tracker_end_held (struct tracker *t, bool *held)
{
  if (*held && --t->held == 0)
    pthread_cond_broadcast (&t->progress);
  *held = false;
}

/* Wait at the gate.  False if it is still shut: then the request stays counted
 * in 'held' until its next turn, or a chain of holds could pass it by.
 */
bool
tracker_pass_gate (struct tracker *t, bool *held, uint64_t *held_us)
{
  if (!tracker_gate_is_open (t)) {
    const int64_t begun = now_us ();
    const int64_t limit = begun + HELD_US;
    const unsigned wakes = t->wakes;

    t->held += !*held;
    *held = true;
    while (!tracker_gate_is_open (t) && t->wakes == wakes && now_us () < limit)
      tracker_wait_until (t, &t->gate_changed,
                          tracker_until_deadline (t, limit));
    *held_us += now_us () - begun;
    if (t->gate.state != GATE_OPEN)
      return false;
  }
  tracker_end_held (t, held);
  return true;
}
