/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty rate, on a clock of its own. */

#include "tracker/dirtyrate.h"
#include "unit.h"

static struct dirt
bytes (uint64_t n)
{
  return (struct dirt){
    .changed = n, .touched = 2 * n, .dirtied = n / 2, .redirtied = n / 4
  };
}

static void
add (struct dirty_rate *r, int64_t ms, uint64_t n)
{
  const struct dirt d = bytes (n);

  dirty_rate_add (r, ms, &d);
}

static uint64_t
changed (struct dirty_rate *r, int64_t ms)
{
  return dirty_rate_get (r, ms).changed;
}

static void
test_steady (void)
{
  struct dirty_rate r;

  dirty_rate_init (&r);
  CU_ASSERT_EQUAL (changed (&r, 1000000), 0);
  for (int64_t ms = 1000000; ms < 1005000; ms++)
    add (&r, ms, 1000);

  const uint64_t rate = changed (&r, 1004999);

  CU_ASSERT (rate >= 990000 && rate <= 1010000);
}

static void
test_decays (void)
{
  struct dirty_rate r;

  dirty_rate_init (&r);
  add (&r, 5000, 1000000);
  CU_ASSERT (changed (&r, 5000) >= 1000000);
  CU_ASSERT (changed (&r, 5999) >= 1000000);
  CU_ASSERT_EQUAL (changed (&r, 6000), 0);
  CU_ASSERT_EQUAL (changed (&r, 900000), 0);
}

static void
test_long_gap (void)
{
  struct dirty_rate r;

  dirty_rate_init (&r);
  add (&r, 100, 7);
  add (&r, INT64_C (1) << 50, 1000);

  const uint64_t rate = changed (&r, INT64_C (1) << 50);

  CU_ASSERT (rate >= 1000 && rate < 1200);
}

/* Each measure by itself. */
static void
test_measures (void)
{
  struct dirty_rate r;
  struct dirt d;

  dirty_rate_init (&r);
  for (int64_t ms = 0; ms < 2000; ms++)
    add (&r, ms, 4000);
  d = dirty_rate_get (&r, 1999);
  CU_ASSERT_EQUAL (d.changed, 4000000);
  CU_ASSERT_EQUAL (d.touched, 8000000);
  CU_ASSERT_EQUAL (d.dirtied, 2000000);
  CU_ASSERT_EQUAL (d.redirtied, 1000000);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "steady", test_steady },
    { "decays to nothing in a second", test_decays },
    { "a long gap", test_long_gap },
    { "each measure by itself", test_measures },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("dirtyrate", tests);
}
