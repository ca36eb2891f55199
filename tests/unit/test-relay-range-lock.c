/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranges under way (R19) and suspects (R17). */

#include "relay/range-lock.h"
#include "unit.h"

static void
test_overlap (void)
{
  struct range_lock l;
  struct range_node a, b, c;

  range_lock_init (&l, 4096);
  range_lock_enter (&l, &a, 100, 1);    /* block 0 */
  range_lock_enter (&l, &b, 4095, 2);   /* blocks 0 and 1 */
  range_lock_enter (&l, &c, 8192, 512); /* block 2 */
  CU_ASSERT_EQUAL (a.start, 0);
  CU_ASSERT_EQUAL (a.end, 4096);
  CU_ASSERT_EQUAL (b.end, 8192);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &a, 0), RANGE_MINE);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 0), RANGE_HELD);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &c, 0), RANGE_MINE);
  range_lock_leave (&l, &a);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 0), RANGE_MINE);
  range_lock_leave (&l, &c);
  range_lock_leave (&l, &b);
  range_lock_destroy (&l);
}

/* First come, first served, also behind one that waits itself. */
static void
test_fair (void)
{
  struct range_lock l;
  struct range_node a, b, c;

  range_lock_init (&l, 1);
  range_lock_enter (&l, &a, 0, 10);
  range_lock_enter (&l, &b, 5, 10);
  range_lock_enter (&l, &c, 12, 10);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 0), RANGE_HELD);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &c, 0), RANGE_HELD);
  range_lock_leave (&l, &a);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 0), RANGE_MINE);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &c, 0), RANGE_HELD);
  range_lock_leave (&l, &b);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &c, 0), RANGE_MINE);
  range_lock_leave (&l, &c);
}

static void
count (void *opaque, uint64_t offset, uint64_t length, int64_t until)
{
  CU_ASSERT (offset == 0 && length == 512 && until == RANGE_NEVER);
  ++*(unsigned *)opaque;
}

static void
test_suspects (void)
{
  struct range_lock l;
  struct range_node a, b, c;
  unsigned n = 0;

  range_lock_init (&l, 512);
  range_lock_enter (&l, &a, 0, 512);
  range_lock_enter (&l, &c, 512, 512);
  CU_ASSERT_EQUAL (range_lock_leave_suspect (&l, &a, RANGE_NEVER), 0);
  CU_ASSERT_EQUAL (range_lock_leave_suspect (&l, &c, 50), 0);
  range_lock_each_suspect (&l, 50, count, &n); /* the other one is over */
  CU_ASSERT_EQUAL (n, 1);

  range_lock_enter (&l, &b, 0, 1);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 1000), RANGE_SUSPECT);
  range_lock_suspects_until (&l, 2000);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 1999), RANGE_SUSPECT);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 2000), RANGE_MINE);
  CU_ASSERT_PTR_NULL (l.suspects);
  range_lock_leave (&l, &b);

  range_lock_enter (&l, &a, 0, 512);
  CU_ASSERT_EQUAL (range_lock_leave_suspect (&l, &a, RANGE_NEVER), 0);
  range_lock_enter (&l, &c, 512, 512);
  CU_ASSERT_EQUAL (range_lock_ask (&l, &c, 0), RANGE_MINE);
  range_lock_leave (&l, &c);
  range_lock_destroy (&l);
}

/* A read waits for the writes to its bytes that came before it, in whatever
 * hands their ranges are, and not for later ones.
 */
static void
test_reads (void)
{
  struct range_lock l;
  struct range_node a, b, heir;
  uint64_t ticket;

  range_lock_init (&l, 512);
  CU_ASSERT_FALSE (range_lock_blocks_read (&l, 0, 4096, l.tickets));
  range_lock_enter (&l, &a, 512, 512);
  ticket = l.tickets;
  range_lock_enter (&l, &b, 2048, 512);
  CU_ASSERT_TRUE (range_lock_blocks_read (&l, 0, 4096, ticket));
  CU_ASSERT_FALSE (range_lock_blocks_read (&l, 0, 512, ticket));
  CU_ASSERT_FALSE (range_lock_blocks_read (&l, 2048, 512, ticket));
  CU_ASSERT_TRUE (range_lock_blocks_read (&l, 2048, 512, l.tickets));
  range_lock_replace (&a, &heir);
  CU_ASSERT_TRUE (range_lock_blocks_read (&l, 512, 1, ticket));
  CU_ASSERT_EQUAL (range_lock_ask (&l, &b, 0), RANGE_MINE);
  range_lock_leave (&l, &heir);
  CU_ASSERT_FALSE (range_lock_blocks_read (&l, 512, 1, ticket));
  range_lock_leave (&l, &b);
  range_lock_destroy (&l);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "overlap", test_overlap },
    { "first come, first served", test_fair },
    { "suspects", test_suspects },
    { "reads", test_reads },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("relay-range-lock", tests);
}
