/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>

#include "policy/pace.h"

/* What a good line carries: with a server so far away, as many requests
 * as are on their way then are begun with.
 */
#define FIRST_BYTES_PER_SECOND 400e6

/* Long enough to be more than chance, and for a distant server as long as all
 * that is in flight takes.
 */
#define GROWING_US 15000
#define STEADY_US 50000

#define MISSES_MAX 2
#define HOLD_FIRST_US (INT64_C (500) * 1000)
#define HOLD_LAST_US (INT64_C (8) * 1000000)

/* How much must be gained by more, and may be lost by less. */
#define WORTH_GROWING 1.2
#define WORTH_A_STEP 1.1
#define AS_GOOD 0.95
#define NOT_WORSE 0.97

/* ---- steps ------------------------------------------------------------- */

static uint64_t
bytes_of (const struct pace_limits *l)
{
  return l->connections * l->depth * l->request_bytes;
}

static uint64_t
twice (uint64_t n, uint64_t most)
{
  return n < most / 2 ? 2 * n : most;
}

/* Connections and depth grow in turn, then the requests.  False: there is no
 * further step.
 */
static bool
grow (struct pace_limits *l, const struct pace_options *o)
{
  const uint64_t fit = o->bytes_max / l->connections / l->request_bytes;
  const unsigned depth_max = fit < o->depth_max ? (unsigned)fit : o->depth_max;
  const bool deeper = l->depth < depth_max;
  const bool wider =
    l->connections < o->connections && bytes_of (l) <= o->bytes_max / 2;

  if (deeper && (!wider || l->depth <= l->connections / 2))
    l->depth = (unsigned)twice (l->depth, depth_max);
  else if (wider)
    l->connections = (unsigned)twice (l->connections, o->connections);
  else if (l->request_bytes < o->request_bytes_max &&
           bytes_of (l) <= o->bytes_max / 2)
    l->request_bytes = twice (l->request_bytes, o->request_bytes_max);
  else
    return false;
  return true;
}

static void
make_steps (struct pace *p, const struct pace_options *o)
{
  struct pace_limits l = {
    .connections =
      o->all_connections || o->connections < 2 ? o->connections : 2,
    .depth = o->whole_depth ? o->depth_max : 1,
    .request_bytes = o->request_bytes,
  };

  do
    p->steps[p->nr_steps++] = l;
  while (p->nr_steps < PACE_STEPS_MAX && grow (&l, o));
}

void
pace_init (struct pace *p, const struct pace_options *o)
{
  const double on_its_way =
    FIRST_BYTES_PER_SECOND * (double)o->distance_us / 1e6;

  assert (o->connections > 0 && o->depth_max > 0 && o->request_bytes > 0);
  *p = (struct pace){ .hold_us = HOLD_FIRST_US, .up = true };
  make_steps (p, o);
  while (p->at + 1 < p->nr_steps &&
         (double)bytes_of (&p->steps[p->at]) < on_its_way)
    p->at++;
}

const struct pace_limits *
pace_limits (const struct pace *p)
{
  return &p->steps[p->at];
}

/* ---- growing ----------------------------------------------------------- */

/* The smallest of the steps tried that is about as fast as any. */
static void
stop_growing (struct pace *p, int64_t now_us)
{
  double most = 0;
  unsigned i;

  for (i = 0; i < p->nr_steps; ++i)
    if (p->rates[i] > most)
      most = p->rates[i];
  for (i = 0; p->rates[i] < most * AS_GOOD;)
    ++i;
  p->phase = PACE_STEADY;
  p->next_trial_us = now_us + p->hold_us;
  p->at = i;
}

static void
grown (struct pace *p, double rate, int64_t now_us)
{
  p->rates[p->at] = rate;
  if (rate >= p->best * WORTH_GROWING) {
    p->best = rate;
    p->misses = 0;
  }
  else
    p->misses++;
  if (p->misses == MISSES_MAX || p->at + 1 == p->nr_steps)
    stop_growing (p, now_us);
  else
    p->at = p->at + 1;
}

/* ---- steady ------------------------------------------------------------ */

static bool
can_try (const struct pace *p)
{
  return p->up ? p->at + 1 < p->nr_steps : p->at > 0;
}

/* Up and down by turns; what helped is tried again at once. */
static void
end_trial (struct pace *p, double after, int64_t now_us)
{
  const double usual = (p->before + after) / 2;
  const bool better = p->tried >= usual * (p->up ? WORTH_A_STEP : NOT_WORSE);

  p->trial = 0;
  if (better) {
    p->hold_us = HOLD_FIRST_US;
    p->next_trial_us = now_us;
    p->at = p->usual + (p->up ? 1 : -1);
    return;
  }
  p->up = !p->up;
  p->next_trial_us = now_us + p->hold_us;
  if (p->hold_us < HOLD_LAST_US)
    p->hold_us *= 2;
}

static void
steadied (struct pace *p, double rate, int64_t now_us)
{
  if (p->trial == 0) {
    if (now_us < p->next_trial_us)
      return;
    if (!can_try (p))
      p->up = !p->up;
    if (!can_try (p))
      return;
    p->before = rate;
    p->usual = p->at;
    p->trial = 1;
    p->at = p->up ? p->at + 1 : p->at - 1;
  }
  else if (p->trial == 1) {
    p->tried = rate;
    p->trial = 2;
    p->at = p->usual;
  }
  else
    end_trial (p, rate, now_us);
}

/* ---- rounds ------------------------------------------------------------ */

static void
begin_round (struct pace *p, int64_t now_us)
{
  p->begun_us = now_us;
  p->measured_us = 0;
  p->requests = p->full = p->work = 0;
}

/* As many as may be in flight have ended: of a distant server's answers, which
 * come in bursts, a whole one.
 */
static bool
round_is_over (const struct pace *p, int64_t now_us)
{
  const struct pace_limits *l = &p->steps[p->at];
  const unsigned rounds = p->phase == PACE_GROWING ? 1 : 2;
  const int64_t us = p->phase == PACE_GROWING ? GROWING_US : STEADY_US;

  return p->requests >= rounds * l->connections * l->depth &&
         now_us - p->measured_us >= us;
}

void
pace_ended (struct pace *p, int64_t begun_us, int64_t now_us, uint64_t work,
            bool full)
{
  double rate;

  if (p->begun_us == 0)
    begin_round (p, now_us);
  if (p->measured_us == 0) {
    /* It began under other limits, or others did that are still in flight. */
    if (begun_us >= p->begun_us)
      p->measured_us = now_us;
    return;
  }
  p->requests++;
  p->full += full;
  p->work += work;
  if (!round_is_over (p, now_us))
    return;
  rate = (double)p->work / (double)(now_us - p->measured_us);
  if (p->full * 2 >= p->requests) {
    if (p->phase == PACE_GROWING)
      grown (p, rate, now_us);
    else
      steadied (p, rate, now_us);
  }
  else if (p->phase == PACE_GROWING && p->best > 0) /* more than is needed */
    stop_growing (p, now_us);
  else if (p->trial == 1) { /* it was not needed: no reason to try more */
    p->trial = 0;
    p->next_trial_us = now_us + p->hold_us;
    p->at = p->usual;
  }
  begin_round (p, now_us);
}
