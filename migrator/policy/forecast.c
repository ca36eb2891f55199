/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/forecast.h"

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
  return copy_rate > 0 && dirty_rate >= copy_rate - copy_rate / 10;
}

void
forecast_init (struct forecast *f)
{
  f->best_ms = FORECAST_NEVER;
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
  if (excess_ms <= f->excess_ms - f->excess_ms / 3) {
    f->excess_ms = excess_ms;
    f->stale_passes = 0;
    return true;
  }
  return ++f->stale_passes < FORECAST_PASSES;
}
