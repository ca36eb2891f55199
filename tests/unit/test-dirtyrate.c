/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty rate, on a clock of its own. */

#include "tracker/dirtyrate.h"
#include "unit.h"

static void
test_steady (void)
{
  struct dirty_rate r;

  dirty_rate_init (&r);
  CU_ASSERT_EQUAL (dirty_rate_get (&r, 1000000), 0);
  for (int64_t ms = 1000000; ms < 1005000; ms++)
    dirty_rate_add (&r, ms, 1000);

  const uint64_t rate = dirty_rate_get (&r, 1004999);

  CU_ASSERT (rate >= 990000 && rate <= 1010000);
}

static void
test_decays (void)
{
  struct dirty_rate r;

  dirty_rate_init (&r);
  dirty_rate_add (&r, 5000, 1000000);
  CU_ASSERT (dirty_rate_get (&r, 5000) >= 1000000);
  CU_ASSERT (dirty_rate_get (&r, 5999) >= 1000000);
  CU_ASSERT_EQUAL (dirty_rate_get (&r, 6000), 0);
  CU_ASSERT_EQUAL (dirty_rate_get (&r, 900000), 0);
}

static void
test_long_gap (void)
{
  struct dirty_rate r;

  dirty_rate_init (&r);
  dirty_rate_add (&r, 100, 7);
  dirty_rate_add (&r, INT64_C (1) << 50, 1000);

  const uint64_t rate = dirty_rate_get (&r, INT64_C (1) << 50);

  CU_ASSERT (rate >= 1000 && rate < 1200);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "steady", test_steady },
    { "decays to nothing in a second", test_decays },
    { "a long gap", test_long_gap },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("dirtyrate", tests);
}
