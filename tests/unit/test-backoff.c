/* SPDX-License-Identifier: BSD-3-Clause */
/* When a destination that is away is tried again (backoff.h). */

#include "unit.h"

#include "policy/backoff.h"

#define SECOND INT64_C (1000000)
#define BEGUN (100 * SECOND)

/* The first at once, the others at twice the distance each, up to a limit. */
static void
test_distances (void)
{
  struct backoff b;
  int64_t now = BEGUN, wait = BACKOFF_FIRST_US;
  unsigned i;

  backoff_begin (&b, now);
  for (i = 0; i < 12; ++i) {
    CU_ASSERT_TRUE (backoff_is_due (&b, now));
    backoff_attempt (&b);
    now += SECOND / 100; /* it takes some time to fail */
    backoff_failed (&b, now);
    CU_ASSERT_FALSE (backoff_is_due (&b, now + wait - 1));
    now += wait;
    wait = 2 * wait < BACKOFF_LAST_US ? 2 * wait : BACKOFF_LAST_US;
  }
  CU_ASSERT_EQUAL (wait, BACKOFF_LAST_US);
  CU_ASSERT_EQUAL (b.attempts, 12);
}

static void
test_limit (void)
{
  struct backoff b;

  backoff_begin (&b, BEGUN);
  CU_ASSERT_TRUE (backoff_is_over (&b, 0, BEGUN));
  CU_ASSERT_FALSE (backoff_is_over (&b, 3000, BEGUN + 3 * SECOND - 1));
  CU_ASSERT_TRUE (backoff_is_over (&b, 3000, BEGUN + 3 * SECOND));
}

/* What we did not try while we were stopped was not tried in vain. */
static void
test_stopped (void)
{
  struct backoff b;

  backoff_begin (&b, BEGUN);
  backoff_attempt (&b);
  backoff_failed (&b, BEGUN);
  backoff_discount (&b, 60 * SECOND);
  CU_ASSERT_FALSE (backoff_is_over (&b, 3000, BEGUN + 62 * SECOND));
  CU_ASSERT_TRUE (backoff_is_over (&b, 3000, BEGUN + 63 * SECOND));
  CU_ASSERT_FALSE (backoff_is_due (&b, BEGUN + 60 * SECOND));
  CU_ASSERT_TRUE (backoff_is_due (&b, BEGUN + 60 * SECOND + BACKOFF_FIRST_US));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "distances", test_distances },
    { "the limit", test_limit },
    { "stopped meanwhile", test_stopped },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("backoff", tests);
}
