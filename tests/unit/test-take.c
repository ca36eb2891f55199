/* SPDX-License-Identifier: BSD-3-Clause */
/* How much is leased at once. */

#include "policy/take.h"
#include "unit.h"

#define MIB (UINT64_C (1024) * 1024)
#define SECOND UINT64_C (1000000)

/* After so long a copy of data at that rate. */
static struct take_input
copied (uint64_t rate, uint64_t us)
{
  const uint64_t bytes = (uint64_t)((double)rate * (double)us / SECOND);

  return (struct take_input){
    .copied_bytes = bytes,
    .moved_bytes = bytes,
    .busy_us = us,
  };
}

static void
test_unknown (void)
{
  const struct take_input nothing = { 0 }, limited = { .limit = 2 * MIB };
  struct take t = { 0 };

  CU_ASSERT_EQUAL (take_next (&t, &nothing), TAKE_BYTES_FIRST);
  t = (struct take){ 0 };
  CU_ASSERT_EQUAL (take_next (&t, &limited), 2 * MIB / 10);
}

/* Whatever the rate, it is for a tenth of a second. */
static void
test_lasts (void)
{
  static const struct {
    uint64_t rate, bytes;
  } rows[] = {
    { 10000, TAKE_BYTES_MIN },
    { 10 * MIB, MIB },
    { 100 * MIB, 10 * MIB },
    { 2000 * MIB, TAKE_BYTES_MAX },
  };

  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
    const struct take_input in = copied (rows[i].rate, 8 * SECOND);
    struct take t = { 0 };

    CU_ASSERT_EQUAL (take_next (&t, &in), rows[i].bytes);
  }
}

/* While nothing is copied its rate is what it was; and the limit may be less.
 */
static void
test_rate (void)
{
  struct take_input in = copied (100 * MIB, SECOND);
  struct take t = { 0 };

  take_next (&t, &in);
  CU_ASSERT_EQUAL (take_next (&t, &in), 10 * MIB);
  in.busy_us += TAKE_MEASURED_US - 1;
  in.moved_bytes += 1;
  in.copied_bytes += 1;
  CU_ASSERT_EQUAL (take_next (&t, &in), 10 * MIB);
  in.limit = 20 * MIB;
  CU_ASSERT_EQUAL (take_next (&t, &in), 2 * MIB);
  in.limit = 1000 * MIB;
  CU_ASSERT_EQUAL (take_next (&t, &in), 10 * MIB);

  /* Now it is slow: what was before does not count. */
  in = copied (100 * MIB, SECOND);
  in.busy_us += SECOND;
  in.moved_bytes += 10 * MIB;
  in.copied_bytes += 10 * MIB;
  t = (struct take){ 0 };
  take_next (&t, &(struct take_input){ .moved_bytes = 100 * MIB,
                                       .copied_bytes = 100 * MIB,
                                       .busy_us = SECOND });
  CU_ASSERT_EQUAL (take_next (&t, &in), MIB);
}

static void
test_holes (void)
{
  struct take_input in = copied (100 * MIB, SECOND);
  struct take t = { 0 };
  uint64_t bytes = take_next (&t, &in);

  CU_ASSERT_EQUAL (bytes, 10 * MIB);
  for (unsigned i = 0; i < 20; ++i) {
    uint64_t next;

    in.moved_bytes += bytes;
    next = take_next (&t, &in);
    CU_ASSERT (next == 2 * bytes || next == TAKE_BYTES_HOLES);
    bytes = next;
  }
  CU_ASSERT_EQUAL (bytes, TAKE_BYTES_HOLES);

  /* There are data. */
  in.limit = 10 * MIB;
  take_data (&t, &in);
  CU_ASSERT_EQUAL (t.bytes, MIB);
  CU_ASSERT_EQUAL (take_data_max (&t, &in), TAKE_DATA_TIMES * MIB);
  in.limit = 0;
  CU_ASSERT_EQUAL (take_next (&t, &in), 10 * MIB); /* no more holes since */

  /* What was holes in the pass before says nothing of this one. */
  in.moved_bytes += 1000 * MIB;
  take_begin_pass (&t);
  CU_ASSERT_EQUAL (take_next (&t, &in), 10 * MIB);
}

static void
test_bulk (void)
{
  struct take_input in = copied (10 * MIB, SECOND);
  struct take t = { 0 };

  in.bulk = true;
  CU_ASSERT_EQUAL (take_next (&t, &in), TAKE_BYTES_MAX);
  CU_ASSERT_EQUAL (take_data_max (&t, &in),
                   TAKE_DATA_TIMES_BULK * TAKE_BYTES_MAX);
  in.limit = 4 * MIB;
  CU_ASSERT_EQUAL (take_next (&t, &in), 4 * MIB);
  in.limit = 0;
  in.bulk = false; /* what it has shown counts then */
  CU_ASSERT_EQUAL (take_next (&t, &in), MIB);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "nothing is known", test_unknown },
    { "it lasts for a moment", test_lasts },
    { "the rate, and a limit", test_rate },
    { "holes", test_holes },
    { "the bulk", test_bulk },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("take", tests);
}
