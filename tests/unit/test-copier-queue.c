/* SPDX-License-Identifier: BSD-3-Clause */
/* The queue of ranges that wait to be copied: what becomes one request. */

#include "copy/copier-internal.h"
#include "unit.h"

#define K 1024

static void
append (struct queue *q, uint64_t offset, uint64_t length,
        enum segment_kind kind, bool touched)
{
  CU_ASSERT_EQUAL_FATAL (queue_append (q, offset, length, kind, touched), 0);
}

static void
expect (struct segment s, uint64_t offset, uint64_t length,
        enum segment_kind kind, bool touched)
{
  CU_ASSERT_EQUAL (s.offset, offset);
  CU_ASSERT_EQUAL (s.length, length);
  CU_ASSERT_EQUAL (s.kind, kind);
  CU_ASSERT_EQUAL (s.touched, touched);
}

static void
test_side_by_side (void)
{
  struct queue q;
  unsigned i;

  queue_init (&q);
  for (i = 0; i < 8; ++i) /* as where a guest has written every other chunk */
    append (&q, i * 4 * K, 4 * K, SEGMENT_DATA, i % 2 == 1);
  expect (queue_cut_data (&q, 18 * K), 0, 18 * K, SEGMENT_DATA, true);
  expect (queue_cut_data (&q, 2 * K), 18 * K, 2 * K, SEGMENT_DATA, false);
  expect (queue_cut_data (&q, 64 * K), 20 * K, 12 * K, SEGMENT_DATA, true);
  CU_ASSERT_PTR_NULL (q.first);
  CU_ASSERT_EQUAL (q.bytes, 0);
}

static void
test_apart (void)
{
  struct queue q;

  queue_init (&q);
  append (&q, 0, 4 * K, SEGMENT_DATA, false);
  append (&q, 8 * K, 4 * K, SEGMENT_DATA, false);  /* a gap before it */
  append (&q, 12 * K, 4 * K, SEGMENT_ZERO, false); /* of another kind */
  append (&q, 16 * K, 4 * K, SEGMENT_ZERO, true);
  append (&q, 20 * K, 4 * K, SEGMENT_DATA, true);
  append (&q, 0, 4 * K, SEGMENT_DATA, false); /* of the next round */
  expect (queue_cut_data (&q, 64 * K), 0, 4 * K, SEGMENT_DATA, false);
  expect (queue_cut_data (&q, 64 * K), 8 * K, 4 * K, SEGMENT_DATA, false);
  expect (queue_cut_data (&q, 64 * K), 12 * K, 4 * K, SEGMENT_ZERO, false);
  expect (queue_cut_data (&q, 64 * K), 16 * K, 4 * K, SEGMENT_ZERO, true);
  expect (queue_cut_data (&q, 64 * K), 20 * K, 4 * K, SEGMENT_DATA, true);
  expect (queue_cut_data (&q, 64 * K), 0, 4 * K, SEGMENT_DATA, false);
  CU_ASSERT_PTR_NULL (q.first);
  queue_free (&q);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "side by side", test_side_by_side },
    { "apart", test_apart },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("copier queue", tests);
}
