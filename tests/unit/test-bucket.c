/* SPDX-License-Identifier: BSD-3-Clause */
/* The rate limit, on a clock of its own. */

#include "policy/bucket.h"
#include "unit.h"

#define SECOND INT64_C (1000000)

/* How many requests of that many bytes may start until 'end_us'? */
static unsigned
requests_until (struct bucket *b, uint64_t bytes, int64_t *now_us,
                int64_t end_us)
{
  unsigned n = 0;

  for (;;) {
    while (bucket_ready (b, *now_us)) {
      bucket_take (b, bytes, *now_us);
      n++;
    }

    const int64_t next_us = *now_us + bucket_wait_ms (b, *now_us) * 1000;

    if (next_us >= end_us)
      return n;
    *now_us = next_us;
  }
}

/* Whatever a request's length: the rate, and once what the bucket holds. */
static void
test_long_term (void)
{
  static const uint64_t lengths[] = { 512, 65536, 262144, 33554432 };
  const uint64_t rate = 10000000;
  size_t i;

  for (i = 0; i < sizeof lengths / sizeof lengths[0]; ++i) {
    const uint64_t length = lengths[i];
    int64_t now = 5 * SECOND;
    struct bucket b;
    uint64_t bytes;

    bucket_init (&b, rate, now);
    bytes = requests_until (&b, length, &now, now + 100 * SECOND) * length;
    CU_ASSERT (bytes >= 100 * rate - rate / 5);
    CU_ASSERT (bytes <= 100 * rate + rate / 10 + length);
  }
}

/* An hour of rest is no permission for more than a tenth of a second's worth,
 * and one request.
 */
static void
test_no_saving_up (void)
{
  const uint64_t rate = 10000000, length = 100000;
  int64_t now = SECOND;
  struct bucket b;

  bucket_init (&b, rate, now);
  now += 3600 * SECOND;
  CU_ASSERT (requests_until (&b, length, &now, now + 1) <=
             rate / 10 / length + 1);
}

/* Whatever was saved up, and whether there is a rate or not. */
static void
test_paused (void)
{
  static const uint64_t rates[] = { 0, 1000 };
  size_t i;

  for (i = 0; i < sizeof rates / sizeof rates[0]; ++i) {
    struct bucket b;

    bucket_init (&b, rates[i], SECOND);
    bucket_pause (&b, true);
    CU_ASSERT_FALSE (bucket_ready (&b, 10 * SECOND));
    bucket_hold (&b, true, 11 * SECOND);
    bucket_hold (&b, false, 12 * SECOND);
    CU_ASSERT_FALSE (bucket_ready (&b, 20 * SECOND));
    CU_ASSERT (bucket_wait_ms (&b, 20 * SECOND) > 0);
    bucket_pause (&b, false);
    CU_ASSERT (bucket_ready (&b, 20 * SECOND));
  }
}

/* Polled every few microseconds, where a byte takes longer than that. */
static void
test_slow (void)
{
  struct bucket b;
  uint64_t bytes = 0;
  int64_t now;

  bucket_init (&b, 1000, SECOND);
  for (now = SECOND; now < 11 * SECOND; now += 7)
    if (bucket_ready (&b, now)) {
      bucket_take (&b, 1, now);
      bytes++;
    }
  CU_ASSERT (bytes >= 9990 && bytes <= 10102);
}

static void
test_give_back (void)
{
  struct bucket b;

  bucket_init (&b, 1000000, SECOND);
  bucket_take (&b, 400000, SECOND);
  CU_ASSERT_FALSE (bucket_ready (&b, SECOND));
  bucket_give_back (&b, 400000);
  CU_ASSERT_TRUE (bucket_ready (&b, SECOND));
  /* What comes back is no saving up either. */
  bucket_give_back (&b, 1000000);
  bucket_take (&b, 100002, SECOND);
  CU_ASSERT_FALSE (bucket_ready (&b, SECOND));
}

static void
test_change (void)
{
  struct bucket b;

  bucket_init (&b, 1000, SECOND);
  bucket_take (&b, 1000000, SECOND); /* a debt of a quarter of an hour */
  CU_ASSERT_FALSE (bucket_ready (&b, SECOND));
  CU_ASSERT_EQUAL (bucket_wait_ms (&b, SECOND), 1000); /* look again then */
  bucket_set_rate (&b, 0, SECOND);
  CU_ASSERT_TRUE (bucket_ready (&b, SECOND));
  CU_ASSERT_EQUAL (bucket_wait_ms (&b, SECOND), 0);
  bucket_take (&b, UINT64_C (1) << 40, SECOND);
  bucket_set_rate (&b, 1000000, 2 * SECOND); /* no debt from free times */
  CU_ASSERT_TRUE (bucket_ready (&b, 2 * SECOND + 1000));
}

/* For guests: the lower of the two counts, and it can be held. */
static void
test_ceiling (void)
{
  int64_t now = 0;
  struct bucket b;

  bucket_init (&b, 0, now);
  CU_ASSERT_EQUAL (bucket_limit (&b), 0);
  bucket_set_ceiling (&b, 1000000, now);
  CU_ASSERT_EQUAL (bucket_limit (&b), 1000000);
  requests_until (&b, 1000, &now, SECOND);
  CU_ASSERT (requests_until (&b, 1000, &now, 11 * SECOND) >= 9990);
  bucket_set_rate (&b, 500000, now);
  CU_ASSERT_EQUAL (bucket_limit (&b), 500000);
  bucket_set_rate (&b, 2000000, now);
  CU_ASSERT_EQUAL (bucket_limit (&b), 1000000);
  bucket_hold (&b, true, now);
  now += SECOND;
  CU_ASSERT (!bucket_ready (&b, now));
  CU_ASSERT (bucket_wait_ms (&b, now) > 0);
  bucket_hold (&b, false, now);
  CU_ASSERT (bucket_ready (&b, now + 1001)); /* a request is owed at most */
  bucket_set_ceiling (&b, 0, now);
  bucket_set_rate (&b, 0, now);
  bucket_hold (&b, true, now);
  CU_ASSERT (!bucket_ready (&b, now));
  CU_ASSERT (bucket_wait_ms (&b, now) > 0);
}

/* For guests a hold is time without the copy, and not to be caught up with
 * beside them; the user's rate is kept whatever is held meanwhile.
 */
static void
test_held (void)
{
  static const struct {
    uint64_t rate, ceiling;
    bool held_counts;
  } limits[] = {
    { 0, 1000000, false },
    { 2000000, 1000000, false },
    { 100000, 1000000, true },
  };
  unsigned i, k;

  for (i = 0; i < sizeof limits / sizeof limits[0]; ++i) {
    int64_t now = 0, held = 0;
    double requests = 0, expected;
    struct bucket b;

    bucket_init (&b, limits[i].rate, now);
    bucket_set_ceiling (&b, limits[i].ceiling, now);
    for (k = 0; k < 200; ++k) {
      requests += requests_until (&b, 1000, &now, now + SECOND / 40);
      bucket_hold (&b, true, now);
      now += SECOND / 40;
      held += SECOND / 40;
      bucket_ready (&b, now - SECOND / 80); /* it may be asked meanwhile */
      bucket_hold (&b, false, now);
    }
    expected = (double)bucket_limit (&b) / 1000 *
               (double)(limits[i].held_counts ? now : now - held) / SECOND;
    CU_ASSERT (requests >= expected * 0.98 - 1);
    CU_ASSERT (requests <= expected * 1.02 + 101); /* the first burst */
  }
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the rate holds for every length", test_long_term },
    { "rest is not saved up", test_no_saving_up },
    { "a slow rate, often polled", test_slow },
    { "what was not needed comes back", test_give_back },
    { "the rate changes", test_change },
    { "a ceiling, and a hold", test_ceiling },
    { "nothing is saved up for guests' sake", test_held },
    { "paused", test_paused },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("bucket", tests);
}
