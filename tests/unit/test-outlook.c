/* SPDX-License-Identifier: BSD-3-Clause */
/* What a load comes to: the forecast against the same model, gone through step
 * by step.
 */

#include <math.h>

#include "policy/forecast.h"
#include "unit.h"

#define MiB (UINT64_C (1024) * 1024)

static const struct forecast_load plain = {
  .disk_bytes = 1024 * MiB,
  .pause_rate = 400 * MiB,
  .copy_rate = 400 * MiB,
  .overhead_us = 3000,
  .max_pause_ms = 300,
};

/* A guest that touches so much of a set anywhere; what the filter then sees. */
static struct forecast_load
load (uint64_t touch, uint64_t set, uint64_t dirty)
{
  struct forecast_load l = plain;

  l.remaining_bytes = dirty;
  l.touch_rate = touch;
  l.dirty_rate = (uint64_t)((double)touch * (1 - (double)dirty / (double)set));
  l.redirty_rate = l.dirty_rate;
  l.guest_bytes = set;
  return l;
}

/* Milliseconds until no more than 'fit' is dirty, or what is dirty after an
 * hour.
 */
static double
walk (double touch, double set, double dirty, double fit, bool until_fit)
{
  const double copy = 400.0 * (double)MiB * FORECAST_GAIN_PERCENT / 100;
  double ms = 0;

  for (; ms < 3600e3 && !(until_fit && dirty <= fit); ++ms) {
    dirty += (touch * (1 - dirty / set) - copy) / 1000;
    if (dirty < 0)
      dirty = 0;
  }
  return until_fit ? ms : dirty;
}

static bool
near (double a, double b)
{
  return fabs (a - b) <= 0.02 * fmax (a, b) + 2;
}

static void
test_converges (void)
{
  const double fit = 0.297 * 400 * (double)MiB;
  unsigned touch, dirty;

  for (touch = 0; touch < 350; touch += 50)
    for (dirty = 0; dirty < 1024; dirty += 128) {
      const struct forecast_load l =
        load (touch * MiB, 1024 * MiB, dirty * MiB);
      const struct forecast_outlook o = forecast_outlook (&l);
      const double ms = walk ((double)touch * (double)MiB, 1024.0 * (double)MiB,
                              (double)dirty * (double)MiB, fit, true);

      CU_ASSERT_EQUAL (o.verdict, FORECAST_CONVERGES);
      CU_ASSERT_TRUE (near ((double)o.end_ms, ms));
      CU_ASSERT_EQUAL (o.rest_bytes, 0);
    }
}

static void
test_diverges (void)
{
  unsigned touch;

  for (touch = 600; touch < 5000; touch += 400) {
    const struct forecast_load l = load (touch * MiB, 1024 * MiB, 600 * MiB);
    const struct forecast_outlook o = forecast_outlook (&l);
    const double rest = walk ((double)touch * (double)MiB, 1024.0 * (double)MiB,
                              600.0 * (double)MiB, 0, false);

    CU_ASSERT_EQUAL (o.verdict, FORECAST_DIVERGES);
    CU_ASSERT_EQUAL (o.end_ms, FORECAST_NEVER);
    CU_ASSERT_TRUE (near ((double)o.rest_bytes, rest));
    CU_ASSERT_TRUE (near ((double)o.pause_ms, rest * 1000 / 400 / MiB + 3));
  }
}

/* What the pause can copy may be written as fast as a guest likes. */
static void
test_small_set (void)
{
  struct forecast_load l = load (4000 * MiB, 100 * MiB, 90 * MiB);
  struct forecast_outlook o = forecast_outlook (&l);

  CU_ASSERT_EQUAL (o.verdict, FORECAST_CONVERGES);
  CU_ASSERT_TRUE (o.set_bytes <= 101 * MiB);
  l = load (4000 * MiB, 200 * MiB, 180 * MiB);
  o = forecast_outlook (&l);
  CU_ASSERT_EQUAL (o.verdict, FORECAST_DIVERGES);
  /* Half of what becomes dirty was not touched before: as much is to come. */
  l.redirty_rate = l.dirty_rate / 2;
  o = forecast_outlook (&l);
  CU_ASSERT_TRUE (near ((double)o.set_bytes, 400.0 * (double)MiB));
}

/* In the first seconds nothing is clean, and nothing becomes dirty: what is
 * touched is known, but not whether it is the same again and again.
 */
static void
test_first_seconds (void)
{
  struct forecast_load l = load (100 * MiB, 1024 * MiB, 1024 * MiB);

  l.bulk = true;
  CU_ASSERT_EQUAL (forecast_outlook (&l).verdict, FORECAST_CONVERGES);
  l.touch_rate = 4000 * MiB;
  CU_ASSERT_EQUAL (forecast_outlook (&l).verdict, FORECAST_UNKNOWN);
  CU_ASSERT_EQUAL (forecast_outlook (&l).end_ms, FORECAST_NEVER);
  l.remaining_bytes = 960 * MiB;
  l.dirty_rate = 250 * MiB;
  CU_ASSERT_EQUAL (forecast_outlook (&l).verdict, FORECAST_DIVERGES);
  l.copy_rate = 0;
  CU_ASSERT_EQUAL (forecast_outlook (&l).verdict, FORECAST_UNKNOWN);
}

/* A chunk that is written to sixteen times is one chunk; and what is dirty
 * already hides nothing that is not touched.
 */
static void
test_touches (void)
{
  struct forecast_load l = load (1600 * MiB, 1024 * MiB, 512 * MiB);

  l.dirty_rate = l.redirty_rate = 50 * MiB;
  CU_ASSERT_EQUAL (forecast_outlook (&l).touch_rate, 100 * MiB);
  l.touch_rate = 60 * MiB;
  CU_ASSERT_EQUAL (forecast_outlook (&l).touch_rate, 60 * MiB);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "it converges", test_converges },
    { "it will not converge", test_diverges },
    { "a small set", test_small_set },
    { "the first seconds", test_first_seconds },
    { "touched, and dirty", test_touches },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("outlook", tests);
}
