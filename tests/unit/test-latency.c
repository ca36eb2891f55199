/* SPDX-License-Identifier: BSD-3-Clause */
/* How long requests take: means and quantiles against sorted times, and what is
 * of late, on a clock of its own.
 */

#include <stdlib.h>

#include "export/latency.h"
#include "unit.h"

#define MANY 5000

static const struct delays none;

static int
compare (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

  return (x > y) - (x < y);
}

/* Any size: up to 30 bits of them. */
static uint64_t
random_time (uint64_t *rnd)
{
  return unit_random (rnd, UINT64_C (1) << unit_random (rnd, 25));
}

static void
test_random (void)
{
  static uint64_t times[MANY];
  struct latency *l = aligned_alloc (LANE_BYTES, sizeof *l);
  struct latency_status s;
  uint64_t rnd = unit_seed (), sum = 0;

  CU_ASSERT_PTR_NOT_NULL_FATAL (l);
  latency_init (l);
  latency_get_status (l, 1000, &s);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_READ].high_us, 0);
  for (unsigned i = 0; i < MANY; i++) {
    times[i] = random_time (&rnd);
    sum += times[i];
    latency_add (l, LATENCY_READ, times[i], &none);
  }
  qsort (times, MANY, sizeof times[0], compare);
  latency_get_status (l, 1001, &s);

  const uint64_t high = times[MANY - MANY / 100 - 1];

  CU_ASSERT_EQUAL (s.window_ms, 1);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_READ].all, MANY);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_READ].requests, MANY);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_READ].mean_us, sum / MANY);
  CU_ASSERT (s.kinds[LATENCY_READ].high_us >= high);
  CU_ASSERT (s.kinds[LATENCY_READ].high_us <= high + high / 4);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_WRITE].all, 0);
  latency_destroy (l);
  free (l);
}

/* What lasts longer than the last bucket counts there. */
static void
test_long (void)
{
  struct latency *l = aligned_alloc (LANE_BYTES, sizeof *l);
  struct latency_status s;

  CU_ASSERT_PTR_NOT_NULL_FATAL (l);
  latency_init (l);
  latency_get_status (l, 0, &s);
  latency_add (l, LATENCY_WRITE, UINT64_C (1) << 40, &none);
  latency_get_status (l, 1, &s);
  CU_ASSERT (s.kinds[LATENCY_WRITE].high_us >= 16000000);
  latency_destroy (l);
  free (l);
}

/* A request each 10 ms, and somebody who looks as often: a second's worth is
 * seen.  After a silence all of it is.
 */
static void
test_window (void)
{
  struct latency *l = aligned_alloc (LANE_BYTES, sizeof *l);
  const struct delays delays = { .throttle_us = 3, .gate_us = 2 };
  struct latency_status s;
  int64_t ms = 5000;

  CU_ASSERT_PTR_NOT_NULL_FATAL (l);
  latency_init (l);
  for (int i = 0; i < 1000; i++, ms += 10) {
    latency_get_status (l, ms, &s);
    latency_add (l, LATENCY_WRITE, 100, &delays);
  }
  CU_ASSERT (s.window_ms >= 1000 && s.window_ms < 1100);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_WRITE].requests, s.window_ms / 10);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_WRITE].mean_us, 100);
  CU_ASSERT_EQUAL (s.throttle_us, 3 * s.window_ms / 10);
  CU_ASSERT_EQUAL (s.gate_us, 2 * s.window_ms / 10);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_WRITE].all, 999);
  latency_get_status (l, ms + 100000, &s);
  CU_ASSERT (s.window_ms >= 100000);
  CU_ASSERT (s.kinds[LATENCY_WRITE].requests >= 1);
  latency_get_status (l, ms + 101000, &s);
  CU_ASSERT_EQUAL (s.window_ms, 1000);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_WRITE].requests, 0);
  latency_destroy (l);
  free (l);
}

/* Who looks read the clock before somebody else who was faster. */
static void
test_late_look (void)
{
  struct latency *l = aligned_alloc (LANE_BYTES, sizeof *l);
  struct latency_status s;

  CU_ASSERT_PTR_NOT_NULL_FATAL (l);
  latency_init (l);
  latency_get_status (l, 1000, &s);
  latency_add (l, LATENCY_READ, 100, &none);
  latency_get_status (l, 999, &s);
  CU_ASSERT_EQUAL (s.window_ms, 0);
  CU_ASSERT_EQUAL (s.kinds[LATENCY_READ].requests, 1);
  latency_destroy (l);
  free (l);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "against sorted times", test_random },
    { "longer than any bucket", test_long },
    { "of late", test_window },
    { "a look that comes late", test_late_look },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("latency", tests);
}
