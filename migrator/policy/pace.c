/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>

#include "policy/pace.h"

/* What a good line carries: with a server so far away, as many requests
 * as are on their way then are begun with.
 */
#define FIRST_BYTES_PER_SECOND 1e9

/* So many requests are begun with where that much is not on its way.  Over one
 * connection if it may be: a server that has the next request in its socket
 * already need not be woken for it.
 */
#define FIRST_DEPTH 8

/* Over a longer line one connection carries no more than its window. */
#define FAR_US 1000
#define FAR_CONNECTIONS 4

/* Long enough to be more than chance, and for a distant server as long as all
 * that is in flight takes.
 */
#define GROWING_US 30000
#define STEADY_US 100000

#define HOLD_FIRST_US (INT64_C (500) * 1000)
#define HOLD_LAST_US (INT64_C (8) * 1000000)

/* How much must be gained by more, and may be lost by less. */
#define CLEARLY_MORE 1.6 /* believed at once */
#define WORTH_GROWING 1.2
#define WORTH_A_STEP 1.1
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

/* No more than a half of what may be in flight, since the other side needs it,
 * too.
 */
static unsigned
first_depth (const struct pace_options *o)
{
  const uint64_t fit = o->bytes_max / 2 / o->request_bytes;
  unsigned depth = FIRST_DEPTH;

  if (o->whole_depth)
    return o->depth_max;
  if (depth > fit)
    depth = fit > 0 ? (unsigned)fit : 1;
  return depth < o->depth_max ? depth : o->depth_max;
}

static void
make_steps (struct pace *p, const struct pace_options *o)
{
  const bool far = o->distance_us >= FAR_US && !o->whole_depth;
  const unsigned depth = first_depth (o);
  const unsigned connections = far ? FAR_CONNECTIONS : depth > 1 ? 1 : 2;
  struct pace_limits l = {
    .connections = o->all_connections || o->connections < connections
                     ? o->connections
                     : connections,
    .depth = far ? (depth + 3) / FAR_CONNECTIONS : depth,
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

/* ---- trials ------------------------------------------------------------ */

static bool
can_try (const struct pace *p)
{
  return p->up ? p->at + 1 < p->nr_steps : p->at > 0;
}

/* The step in use brought 'rate'; try the next one in this direction. */
static void
begin_trial (struct pace *p, double rate)
{
  p->before = rate;
  p->usual = p->at;
  p->round = PACE_TRIED;
  p->at = p->up ? p->at + 1 : p->at - 1;
}

/* What grew has now grown enough; later the other direction is tried. */
static void
reject (struct pace *p, int64_t now_us)
{
  p->round = PACE_USUAL;
  p->at = p->usual;
  p->phase = PACE_STEADY;
  p->up = !p->up;
  p->next_trial_us = now_us + p->hold_us;
  if (p->hold_us < HOLD_LAST_US)
    p->hold_us *= 2;
}

/* What helped is tried again at once. */
static void
accept (struct pace *p, int64_t now_us)
{
  p->round = PACE_USUAL;
  p->at = p->up ? p->usual + 1 : p->usual - 1;
  p->hold_us = HOLD_FIRST_US;
  p->next_trial_us = now_us;
}

/* How much more than usual it must bring, or may bring less. */
static double
wanted (const struct pace *p)
{
  return !p->up                     ? NOT_WORSE
         : p->phase == PACE_GROWING ? WORTH_GROWING
                                    : WORTH_A_STEP;
}

/* The step that is tried has brought 'rate'. */
static void
tried (struct pace *p, double rate, int64_t now_us)
{
  if (rate < p->before * wanted (p)) {
    reject (p, now_us);
    return;
  }
  if (p->up && rate >= p->before * CLEARLY_MORE) {
    accept (p, now_us);
    if (can_try (p))
      begin_trial (p, rate);
    return;
  }
  p->tried = rate;
  p->round = PACE_AFTER;
  p->at = p->usual;
}

/* It is compared with what was usual before and after it. */
static void
end_trial (struct pace *p, double after, int64_t now_us)
{
  const double usual = (p->before + after) / 2;

  if (p->tried >= usual * wanted (p))
    accept (p, now_us);
  else
    reject (p, now_us);
}

static void
measured (struct pace *p, double rate, int64_t now_us)
{
  if (p->round == PACE_TRIED)
    tried (p, rate, now_us);
  else if (p->round == PACE_AFTER)
    end_trial (p, rate, now_us);
  else if (now_us >= p->next_trial_us) {
    if (!can_try (p))
      p->up = !p->up;
    if (can_try (p))
      begin_trial (p, rate);
  }
}

/* It was not needed: no reason to try more. */
static void
not_limited (struct pace *p, int64_t now_us)
{
  if (p->round != PACE_USUAL)
    p->at = p->usual;
  if (p->round != PACE_USUAL || p->phase == PACE_GROWING)
    p->next_trial_us = now_us + p->hold_us;
  p->phase = PACE_STEADY;
  p->round = PACE_USUAL;
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
  if (p->full * 2 >= p->requests)
    measured (p, rate, now_us);
  else
    not_limited (p, now_us);
  begin_round (p, now_us);
}
