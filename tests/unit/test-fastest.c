/* SPDX-License-Identifier: BSD-3-Clause */
/* The fastest request of late. */

#include "policy/fastest.h"
#include "unit.h"

static void
test_fastest (void)
{
  struct fastest f = { 0 };

  CU_ASSERT_EQUAL (fastest_us (&f), 0);
  fastest_note (&f, 8000, 0);
  CU_ASSERT_EQUAL (fastest_us (&f), 8000);
  fastest_note (&f, 300, 0);
  fastest_note (&f, 70000, 0); /* behind others */
  CU_ASSERT_EQUAL (fastest_us (&f), 300);
}

/* A server that has become slow is known to be so two passes later. */
static void
test_passes (void)
{
  struct fastest f = { 0 };

  fastest_note (&f, 300, 0);
  fastest_begin_pass (&f);
  CU_ASSERT_EQUAL (fastest_us (&f), 300);
  fastest_note (&f, 20000, 0);
  CU_ASSERT_EQUAL (fastest_us (&f), 300);
  fastest_begin_pass (&f);
  CU_ASSERT_EQUAL (fastest_us (&f), 20000);
  fastest_note (&f, 500, 0);
  CU_ASSERT_EQUAL (fastest_us (&f), 500);
}

/* Rounds that find nothing to copy do not forget. */
static void
test_nothing_written (void)
{
  struct fastest f = { 0 };
  unsigned i;

  fastest_begin_pass (&f);
  CU_ASSERT_EQUAL (fastest_us (&f), 0);
  fastest_note (&f, 400, 0);
  for (i = 0; i < 5; ++i)
    fastest_begin_pass (&f);
  CU_ASSERT_EQUAL (fastest_us (&f), 400);
}

/* A write of the copy is long, one of a guest may be short. */
static void
test_long_requests (void)
{
  struct fastest f = { 0 };

  fastest_note (&f, 220, 512 * 1024);
  CU_ASSERT_EQUAL (fastest_us (&f), 220 - 131);
  fastest_note (&f, 60, 4096);
  CU_ASSERT_EQUAL (fastest_us (&f), 59);
  fastest_note (&f, 100, 32 << 20);
  CU_ASSERT_EQUAL (fastest_us (&f), 1);
}

/* A clock of microseconds: known, and as good as nothing. */
static void
test_at_once (void)
{
  struct fastest f = { 0 };

  fastest_note (&f, 0, 0);
  CU_ASSERT_EQUAL (fastest_us (&f), 1);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "of this pass", test_fastest },
    { "of the one before", test_passes },
    { "passes without any", test_nothing_written },
    { "at once", test_at_once },
    { "long requests", test_long_requests },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("fastest", tests);
}
