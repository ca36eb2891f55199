/* SPDX-License-Identifier: BSD-3-Clause */
/* The forecast of the pause, and what it is made of. */

#include "policy/forecast.h"
#include "policy/meter.h"
#include "unit.h"

#define SECOND INT64_C (1000000)

static void
test_pause (void)
{
  struct forecast_input in = { .flush_us = 1500, .round_trips_us = 400 };

  CU_ASSERT_EQUAL (forecast_pause_ms (&in), 2); /* 1.9 rounded up */
  in.remaining_bytes = 1;
  CU_ASSERT_EQUAL (forecast_pause_ms (&in), FORECAST_NEVER);
  in.remaining_bytes = 5000000;
  in.bytes_per_second = 100000000;
  CU_ASSERT_EQUAL (forecast_pause_ms (&in), 52); /* 50 and those */
  in.remaining_bytes = UINT64_MAX;
  in.bytes_per_second = 1;
  CU_ASSERT_EQUAL (forecast_pause_ms (&in), FORECAST_NEVER);
}

#define LIMIT 300

static void
test_converging (void)
{
  struct forecast f;
  uint64_t ms;

  forecast_init (&f);
  for (ms = 1000000; ms > LIMIT + 10; ms = LIMIT + (ms - LIMIT) * 9 / 10)
    CU_ASSERT_TRUE (forecast_note (&f, ms, LIMIT));
}

/* A part of it that no pass makes shorter does not hide the progress. */
static void
test_converging_slowly (void)
{
  static const uint64_t ms[] = { 400, 392, 385, 379, 374, 366, 358, 350,
                                 343, 338, 333, 328, 322, 316, 310, 304 };
  struct forecast f;

  forecast_init (&f);
  for (size_t i = 0; i < sizeof ms / sizeof ms[0]; ++i)
    CU_ASSERT_TRUE (forecast_note (&f, ms[i], LIMIT));
}

/* Passes until it is given up. */
static unsigned
passes_of (uint64_t (*next) (uint64_t ms, uint64_t *seed), uint64_t ms,
           uint64_t *seed)
{
  struct forecast f;
  unsigned passes = 1;

  forecast_init (&f);
  for (; forecast_note (&f, ms, LIMIT) && passes < 1000; ++passes)
    ms = next (ms, seed);
  return passes;
}

static uint64_t
crawl (uint64_t ms, uint64_t *seed)
{
  (void)seed;
  return ms - ms / 15;
}

/* Around ten seconds, whatever the pass before was. */
static uint64_t
scatter (uint64_t ms, uint64_t *seed)
{
  (void)ms;
  return 5000 + unit_random (seed, 10000);
}

static uint64_t
creep (uint64_t ms, uint64_t *seed)
{
  return ms - unit_random (seed, ms / 10);
}

/* Steps of a twentieth and more, or luck now and then, are no reason to make
 * dozens of passes.  Luck is bounded for certain only by how often a third can
 * be taken off: 9700 ms to 1 in 23 steps.  What matters is what is usual.
 */
static void
test_crawling (void)
{
  enum { ROUNDS = 1000, CERTAIN = (1 + 23 + 1) * FORECAST_PASSES };
  uint64_t seed = unit_seed ();
  unsigned passes, sum = 0;

  CU_ASSERT_EQUAL (passes_of (crawl, 10000, &seed), 1 + FORECAST_PASSES);
  for (unsigned i = 0; i < ROUNDS; ++i) {
    CU_ASSERT (passes_of (scatter, 10000, &seed) <= 3 * FORECAST_PASSES);
    passes = passes_of (creep, 10000, &seed);
    CU_ASSERT (passes <= CERTAIN);
    sum += passes;
  }
  CU_ASSERT (sum < ROUNDS * 2 * FORECAST_PASSES);
}

static uint64_t
stay (uint64_t ms, uint64_t *seed)
{
  (void)seed;
  return ms;
}

/* Of a millisecond, or two, too, a third has to go. */
static void
test_nearly_fits (void)
{
  for (uint64_t ms = LIMIT + 1; ms < LIMIT + 10; ++ms)
    CU_ASSERT_EQUAL (passes_of (stay, ms, NULL), 1 + FORECAST_PASSES);
}

static void
test_not_converging (void)
{
  struct forecast f;
  unsigned i;

  forecast_init (&f);
  CU_ASSERT_TRUE (forecast_note (&f, FORECAST_NEVER, LIMIT));
  CU_ASSERT_TRUE (forecast_note (&f, 500, LIMIT));
  for (i = 1; i < FORECAST_PASSES; ++i)
    CU_ASSERT_TRUE (forecast_note (&f, 480 + i, LIMIT));
  CU_ASSERT_FALSE (forecast_note (&f, 480, LIMIT));
  CU_ASSERT_EQUAL (f.best_ms, 480);
}

/* ---- meter ------------------------------------------------------------- */

/* A meter, and what it has been told. */
struct measured {
  struct meter m;
  uint64_t copied, compared;
  int64_t now;
};

static struct measured
begin_measuring (void)
{
  struct measured d = { .now = SECOND };

  meter_update (&d.m, 0, 0, 0, d.now);
  return d;
}

/* A tenth of a second goes by, in which so much was done. */
static void
measure (struct measured *d, uint64_t copied, uint64_t compared)
{
  d->copied += copied;
  d->compared += compared;
  d->now += 100000;
  meter_update (&d->m, d->copied, d->compared, d->copied + d->compared, d->now);
}

/* Half of the time something is under way, at 100 MB/s. */
static void
test_bandwidth (void)
{
  struct meter m = { 0 };
  uint64_t copied = 0, moved = 0;
  int64_t now;

  CU_ASSERT_EQUAL (meter_bandwidth (&m), 0);
  meter_update (&m, 0, 0, 0, SECOND);
  for (now = SECOND; now < 31 * SECOND;) {
    now += 100000;
    meter_busy (&m, 50000);
    copied += 5000000;
    moved += 15000000; /* with holes */
    meter_update (&m, copied, 0, moved, now);
  }
  CU_ASSERT (meter_bandwidth (&m) > 99000000);
  CU_ASSERT (meter_bandwidth (&m) < 101000000);
  CU_ASSERT (meter_throughput (&m) > 49000000);
  CU_ASSERT (meter_throughput (&m) < 51000000);
  CU_ASSERT (meter_pace (&m) > 149000000);
  CU_ASSERT (meter_pace (&m) < 151000000);

  meter_forget_pace (&m);
  CU_ASSERT_EQUAL (meter_pace (&m), 0);
  CU_ASSERT_EQUAL (meter_throughput (&m), 0);
  CU_ASSERT (meter_bandwidth (&m) > 99000000);
  meter_update (&m, copied, 0, moved + 1000000, now + 100000);
  CU_ASSERT_EQUAL (meter_pace (&m), 10000000);
}

/* The line becomes ten times slower: after ten seconds that is what it says,
 * and a rest does not make it forget.
 */
static void
test_recent (void)
{
  struct measured d = begin_measuring ();

  for (unsigned i = 0; i < 200; ++i) {
    meter_busy (&d.m, 100000);
    measure (&d, i < 100 ? 10000000 : 1000000, 0);
  }
  CU_ASSERT (meter_bandwidth (&d.m) > 10000000);
  CU_ASSERT (meter_bandwidth (&d.m) < 15000000);
  d.now += 3600 * SECOND;
  measure (&d, 0, 0);
  CU_ASSERT (meter_bandwidth (&d.m) > 10000000);
  CU_ASSERT_EQUAL (meter_throughput (&d.m), 0);
}

/* Two disks at 100 MB/s each: first together, then a large one alone, then the
 * other one alone, which had less to do so far.
 */
static void
test_several_disks (void)
{
  struct measured d = begin_measuring ();

  for (unsigned i = 0; i < 300; ++i) {
    const bool large = i < 200, small = i < 100 || i >= 200;

    meter_busy (&d.m, large ? 100000 : 0);
    meter_busy (&d.m, small ? 100000 : 0);
    measure (&d, (large ? 10000000 : 0) + (small ? 10000000 : 0), 0);
    if (i == 99)
      CU_ASSERT (meter_bandwidth (&d.m) > 199000000);
  }
  CU_ASSERT (meter_bandwidth (&d.m) > 99000000);
  CU_ASSERT (meter_bandwidth (&d.m) < 110000000);
}

/* A minute of reading back says how fast that is, and does not make the copying
 * look slow.
 */
static void
test_reading_back (void)
{
  struct measured d = begin_measuring ();

  for (unsigned i = 0; i < 600; ++i) {
    meter_busy (&d.m, 100000);
    measure (&d, 0, 8000000);
  }
  CU_ASSERT (meter_bandwidth (&d.m) > 79000000);
  CU_ASSERT (meter_bandwidth (&d.m) < 81000000);
  CU_ASSERT_EQUAL (meter_throughput (&d.m), 0);
}

/* A rate makes it no slower, but what is faster in spite of it counts. */
static void
test_held (void)
{
  struct measured d = begin_measuring ();
  unsigned i;

  for (i = 0; i < 300; ++i) {
    meter_busy (&d.m, 100000);
    if (i >= 100)
      meter_hold (&d.m);
    measure (&d, i < 100 ? 10000000 : i < 200 ? 1000000 : 20000000, 0);
    if (i >= 99 && i < 200)
      CU_ASSERT_EQUAL (meter_bandwidth (&d.m) / 1000000, 100);
  }
  CU_ASSERT (meter_bandwidth (&d.m) > 190000000);
  CU_ASSERT (meter_bandwidth (&d.m) < 201000000);
}

/* What the bulk was copied with is no promise for what comes: one round tells,
 * a single chunk does not.
 */
static void
test_end_of_bulk (void)
{
  struct measured d = begin_measuring ();
  unsigned i;

  for (i = 0; i < 30; ++i) {
    meter_busy (&d.m, 100000);
    measure (&d, 80000000, 0);
  }
  meter_end_bulk (&d.m);
  CU_ASSERT_EQUAL (meter_bandwidth (&d.m) / 1000000, 800);
  CU_ASSERT_EQUAL (meter_pace (&d.m), 0);
  meter_busy (&d.m, 300);
  measure (&d, 4096, 0);
  CU_ASSERT (meter_bandwidth (&d.m) > 700000000);
  meter_busy (&d.m, 100000);
  measure (&d, 10000000, 0);
  CU_ASSERT (meter_bandwidth (&d.m) < 170000000);
}

static void
test_percent (void)
{
  struct meter m = { 0 };
  uint64_t moved;
  unsigned last = 0;

  CU_ASSERT_EQUAL (meter_percent (&m, 0), 0); /* no pass yet */
  meter_update (&m, 0, 0, 777, SECOND);
  meter_start_pass (&m, 1000);
  for (moved = 0; moved <= 1000; moved += 10) {
    meter_update (&m, 0, 0, 777 + moved, SECOND);
    /* What is left is of no account: it may be behind. */
    CU_ASSERT (meter_percent (&m, moved * 2) >= last);
    last = meter_percent (&m, 0);
    CU_ASSERT (last == (moved < 990 ? moved / 10 : 99));
    CU_ASSERT_EQUAL (meter_pass_total (&m, 500), 1000);
  }
  CU_ASSERT_EQUAL (meter_pass_bytes (&m), 1000);
  meter_start_pass (&m, 50);
  CU_ASSERT_EQUAL (meter_percent (&m, 0), 0);
}

/* The guest adds to a pass while it is under way. */
static void
test_overrun (void)
{
  struct meter m = { 0 };

  meter_update (&m, 0, 0, 777, SECOND);
  meter_start_pass (&m, 258);
  meter_update (&m, 0, 0, 777 + 258, SECOND);
  CU_ASSERT_FALSE (meter_overran (&m));
  CU_ASSERT_EQUAL (meter_percent (&m, 616), 99);
  meter_update (&m, 0, 0, 777 + 520, SECOND);
  CU_ASSERT_TRUE (meter_overran (&m));
  CU_ASSERT_EQUAL (meter_pass_bytes (&m), 520);
  CU_ASSERT_EQUAL (meter_pass_total (&m, 616), 1136);
  CU_ASSERT_EQUAL (meter_percent (&m, 616), 45);
  CU_ASSERT_EQUAL (meter_percent (&m, 0), 99); /* nor is it complete */
  meter_start_pass (&m, 0);
  CU_ASSERT_FALSE (meter_overran (&m));
  CU_ASSERT_EQUAL (meter_percent (&m, 616), 0);
}

static void
test_outrun (void)
{
  CU_ASSERT_FALSE (forecast_is_outrun (0, 0));
  CU_ASSERT_FALSE (forecast_is_outrun (100, 0)); /* not known yet */
  CU_ASSERT_FALSE (forecast_is_outrun (899, 1000));
  CU_ASSERT_TRUE (forecast_is_outrun (900, 1000));
  CU_ASSERT_TRUE (forecast_is_outrun (2000, 1000));
}

/* One that took a turn of somebody else on the processors is not the measure.
 */
static void
test_trips (void)
{
  struct forecast_trips t = { .n = 0 };

  CU_ASSERT_EQUAL (forecast_trip (&t, 4000), 4000);
  CU_ASSERT_EQUAL (forecast_trip (&t, 200), 200);
  for (unsigned i = 1; i < FORECAST_TRIPS; ++i)
    CU_ASSERT_EQUAL (forecast_trip (&t, 8000 + i), 200);
  CU_ASSERT_EQUAL (forecast_trip (&t, 9000), 8001); /* it is slower now */
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the pause", test_pause },
    { "it converges", test_converging },
    { "it converges slowly", test_converging_slowly },
    { "it hardly gets nearer", test_crawling },
    { "it nearly fits", test_nearly_fits },
    { "it does not converge", test_not_converging },
    { "bandwidth, throughput and pace", test_bandwidth },
    { "recent bytes weigh more", test_recent },
    { "several disks", test_several_disks },
    { "reading back", test_reading_back },
    { "held up", test_held },
    { "meter: the end of the bulk", test_end_of_bulk },
    { "percent", test_percent },
    { "a pass that grows", test_overrun },
    { "a guest that is too fast", test_outrun },
    { "round trips", test_trips },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("forecast", tests);
}
