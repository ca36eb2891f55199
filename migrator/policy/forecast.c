/* SPDX-License-Identifier: BSD-3-Clause */

#include <math.h>

#include "policy/forecast.h"

uint64_t
forecast_trip (struct forecast_trips *t, uint64_t us)
{
  uint64_t shortest = us;

  t->us[t->n++ % FORECAST_TRIPS] = us;
  for (unsigned i = 0; i < t->n && i < FORECAST_TRIPS; ++i)
    if (t->us[i] < shortest)
      shortest = t->us[i];
  return shortest;
}

uint64_t
forecast_pause_ms (const struct forecast_input *in)
{
  double us = (double)in->flush_us + (double)in->round_trips_us;

  if (in->remaining_bytes > 0) {
    if (in->bytes_per_second == 0)
      return FORECAST_NEVER;
    us += (double)in->remaining_bytes * 1e6 / (double)in->bytes_per_second;
  }
  if (us >= 1e18)
    return FORECAST_NEVER;
  return ((uint64_t)us + 999) / 1000;
}

bool
forecast_is_outrun (uint64_t dirty_rate, uint64_t copy_rate)
{
  return copy_rate > 0 && dirty_rate >= copy_rate / 100 * FORECAST_GAIN_PERCENT;
}

void
forecast_init (struct forecast *f)
{
  f->best_ms = FORECAST_NEVER;
  f->excess_ms = FORECAST_NEVER;
  f->stale_passes = 0;
}

void
forecast_restart (struct forecast *f)
{
  f->excess_ms = FORECAST_NEVER;
  f->stale_passes = 0;
}

bool
forecast_note (struct forecast *f, uint64_t predicted_ms, uint64_t limit_ms)
{
  const uint64_t excess_ms =
    predicted_ms > limit_ms ? predicted_ms - limit_ms : 0;

  if (predicted_ms < f->best_ms)
    f->best_ms = predicted_ms;
  if (excess_ms < f->excess_ms &&
      excess_ms <= f->excess_ms - f->excess_ms / 3) {
    f->excess_ms = excess_ms;
    f->stale_passes = 0;
    return true;
  }
  return ++f->stale_passes < FORECAST_PASSES;
}

/* ---- under load -------------------------------------------------------- */

/* The model: of a set of S bytes guests touch d bytes a second anywhere, and
 * the copy goes round at c.  Of what they touch only what is clean becomes
 * dirty, so with R dirty
 *
 *   dR/dt = d (1 - R/S) - c
 *
 * which ends at R = S (1 - c/d) if d > c, and otherwise at nothing.
 */
struct model {
  double set, touch, copy, dirty;
};

/* Good and Turing's estimate: where a share q of what becomes dirty was touched
 * before, what was touched is a share q of what there is.
 */
static double
set_of (const struct forecast_load *l)
{
  const double disk = (double)l->disk_bytes;
  double again, set;

  if (l->bulk || l->dirty_rate == 0 || l->redirty_rate == 0)
    return disk;
  again = fmin ((double)l->redirty_rate / (double)l->dirty_rate, 1);
  set = fmax ((double)l->guest_bytes / again, (double)l->remaining_bytes);
  return fmin (set, disk);
}

/* How much of the set is clean; not less than what can be seen through. */
static double
clean_of (const struct forecast_load *l, double set)
{
  const double clean = 1 - (double)l->remaining_bytes / set;

  return fmax (clean, FORECAST_CLEAN_PERCENT / 100.0);
}

/* What is dirty already cannot become so: see through that.  But one chunk that
 * is written to many times in a row is no more than one, which the chunks that
 * are touched, taken by themselves, hide.
 */
static double
touch_of (const struct forecast_load *l, double set)
{
  const double seen = (double)l->dirty_rate;
  const double through = seen / clean_of (l, set);

  return fmax (seen, fmin (through, (double)l->touch_rate));
}

static double
rest_of (const struct model *m)
{
  return m->touch > m->copy ? m->set * (1 - m->copy / m->touch) : 0;
}

static uint64_t
pause_of (const struct forecast_load *l, double bytes)
{
  return forecast_pause_ms (&(struct forecast_input){
    .remaining_bytes = (uint64_t)bytes,
    .bytes_per_second = l->pause_rate,
    .flush_us = l->overhead_us,
  });
}

/* Until no more than 'fit' is dirty: the solution of the equation. */
static uint64_t
end_of (const struct model *m, double fit)
{
  double s;

  if (m->dirty <= fit)
    return 0;
  if (m->touch <= 0)
    s = (m->dirty - fit) / m->copy;
  else {
    const double k = m->set * (m->copy - m->touch) / m->touch;

    if (fit + k <= 0)
      return FORECAST_NEVER;
    s = m->set / m->touch * log ((m->dirty + k) / (fit + k));
  }
  return s < 1e12 ? (uint64_t)(s * 1000) : FORECAST_NEVER;
}

static double
that_fits (const struct forecast_load *l)
{
  const double us = (double)l->max_pause_ms * 1000 - (double)l->overhead_us;

  return us > 0 ? us * (double)l->pause_rate / 1e6 : 0;
}

static bool
is_known (const struct forecast_load *l)
{
  return l->copy_rate > 0 && l->pause_rate > 0 && l->disk_bytes > 0;
}

/* As long as next to nothing is clean, next to nothing becomes dirty. */
static bool
is_blind (const struct forecast_load *l)
{
  const double clean = 1 - (double)l->remaining_bytes / (double)l->disk_bytes;

  return l->bulk && clean * 100 < FORECAST_CLEAN_PERCENT;
}

struct forecast_outlook
forecast_outlook (const struct forecast_load *l)
{
  struct forecast_outlook o = { .set_bytes = l->disk_bytes,
                                .pause_ms = FORECAST_NEVER,
                                .end_ms = FORECAST_NEVER };
  struct model m;
  double rest;

  if (!is_known (l))
    return o;
  m = (struct model){
    .set = set_of (l),
    .copy = (double)l->copy_rate * FORECAST_GAIN_PERCENT / 100,
    .dirty = (double)l->remaining_bytes,
  };
  m.touch = is_blind (l) ? (double)l->touch_rate : touch_of (l, m.set);
  rest = rest_of (&m);
  o.set_bytes = (uint64_t)m.set;
  o.touch_rate = (uint64_t)m.touch;
  o.rest_bytes = (uint64_t)rest;
  o.pause_ms = pause_of (l, rest);
  if (o.pause_ms <= l->max_pause_ms) {
    o.verdict = FORECAST_CONVERGES;
    o.end_ms = end_of (&m, that_fits (l));
  }
  else
    o.verdict = is_blind (l) ? FORECAST_UNKNOWN : FORECAST_DIVERGES;
  return o;
}
