/* SPDX-License-Identifier: BSD-3-Clause */
/* Which ends of requests to zero a server takes. */

#include <stdbool.h>

#include "unit.h"
#include "zero-align.h"

static void
test_next (void)
{
  CU_ASSERT_EQUAL (zero_align_next (ZERO_ALIGN_ANY, 1, 512), 512);
  CU_ASSERT_EQUAL (zero_align_next (ZERO_ALIGN_ANY, 512, 4096), 4096);
  CU_ASSERT_EQUAL (zero_align_next (512, 4096, 512), 4096);
  CU_ASSERT_EQUAL (zero_align_next (4096, 0, 8192), ZERO_ALIGN_MAX);
  CU_ASSERT_EQUAL (zero_align_next (ZERO_ALIGN_ANY, 0, 4 * ZERO_ALIGN_MAX),
                   ZERO_ALIGN_NEVER);
  CU_ASSERT_EQUAL (zero_align_next (ZERO_ALIGN_MAX, 0, ZERO_ALIGN_MAX),
                   ZERO_ALIGN_NEVER);
  CU_ASSERT_EQUAL (zero_align_next (ZERO_ALIGN_NEVER, 1, 1), ZERO_ALIGN_NEVER);
}

static void
test_middle (void)
{
  uint64_t from, to;

  zero_align_middle (512, 100, 2000, &from, &to);
  CU_ASSERT (from == 512 && to == 2048);
  zero_align_middle (4096, 4096, 4096, &from, &to);
  CU_ASSERT (from == 4096 && to == 8192);
  zero_align_middle (4096, 100, 2000, &from, &to);
  CU_ASSERT (from == 2100 && to == 2100);
  zero_align_middle (4096, 4000, 200, &from, &to); /* a boundary, no unit */
  CU_ASSERT (from == 4200 && to == 4200);
  zero_align_middle (ZERO_ALIGN_NEVER, 0, 4096, &from, &to);
  CU_ASSERT (from == 4096 && to == 4096);
}

/* A server that wants any unit is found out, and asked nothing in vain then. */
static void
test_learns (void)
{
  static const uint32_t wants[] = { 1, 512, 4096, 65536 };
  uint64_t rnd = unit_seed ();

  for (unsigned i = 0; i < 4 * 200; i++) {
    uint32_t align = ZERO_ALIGN_ANY;
    unsigned refusals = 0;
    const uint64_t offset = unit_random (&rnd, 1 << 20);
    const uint64_t length = 1 + unit_random (&rnd, 1 << 20);

    for (;;) {
      uint64_t from, to;

      zero_align_middle (align, offset, length, &from, &to);
      if (from == to || (from | to) % wants[i / 200] == 0)
        break;
      align = zero_align_next (align, from, to - from);
      refusals++;
    }
    CU_ASSERT (refusals <= 3);
    CU_ASSERT (align != ZERO_ALIGN_NEVER);
  }
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the next unit", test_next },
    { "the part of whole units", test_middle },
    { "servers that want a unit", test_learns },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("zero-align", tests);
}
