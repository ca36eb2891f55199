/* SPDX-License-Identifier: BSD-3-Clause */
/* How long a server may keep a command waiting. */

#include "remote/patience.h"
#include "unit.h"

#define LIMIT 100

static bool
is_over (const struct patience *p, int64_t now_ms)
{
  return patience_over (p, LIMIT, now_ms) != NULL;
}

static void
test_silence (void)
{
  const struct patience p = { .sent_ms = 1000, .progress_ms = 1000 };

  CU_ASSERT_FALSE (is_over (&p, 1099));
  CU_ASSERT_TRUE (is_over (&p, 1100));
}

/* Others are answered, this one is not. */
static void
test_left_out (void)
{
  const struct patience p = { .sent_ms = 1000, .progress_ms = 1390 };

  CU_ASSERT_FALSE (is_over (&p, 1399));
  CU_ASSERT_TRUE (is_over (&p, 1400));
}

static void
test_flush (void)
{
  const struct patience p = {
    .sent_ms = 1000,
    .progress_ms = 1000,
    .flushing = true,
  };

  CU_ASSERT_FALSE (is_over (&p, 1599));
  CU_ASSERT_TRUE (is_over (&p, 1600));
}

/* A server that does one thing after the other answered a flush just in time:
 * what came behind it gets its own time then.
 */
static void
test_behind_flush (void)
{
  struct patience p = {
    .sent_ms = 1010,
    .progress_ms = 1590,
    .flush_done_ms = 1590,
  };

  CU_ASSERT_FALSE (is_over (&p, 1610));
  CU_ASSERT_TRUE (is_over (&p, 1690)); /* silent again */
  p.progress_ms = 2000;
  CU_ASSERT_FALSE (is_over (&p, 2009));
  CU_ASSERT_TRUE (is_over (&p, 2010));
  p.flushing = true;
  CU_ASSERT_FALSE (is_over (&p, 2209));
  CU_ASSERT_TRUE (is_over (&p, 2210));
}

/* A flush before it was sent is of no account. */
static void
test_earlier_flush (void)
{
  const struct patience p = {
    .sent_ms = 1000,
    .progress_ms = 1390,
    .flush_done_ms = 999,
  };

  CU_ASSERT_TRUE (is_over (&p, 1400));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "silence", test_silence },
    { "left out", test_left_out },
    { "flush", test_flush },
    { "behind a flush", test_behind_flush },
    { "earlier flush", test_earlier_flush },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("remote-patience", tests);
}
