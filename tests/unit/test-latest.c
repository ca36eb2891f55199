/* SPDX-License-Identifier: BSD-3-Clause */
/* Where something was copied last, and flushed. */

#include "disk/latest.h"
#include "unit.h"

static void
copy (struct latest *l, uint64_t offset)
{
  struct extent x = { .offset = offset, .length = 1 };
  const struct extents e = { .v = &x, .n = 1 };

  latest_copied (l, &e);
}

static void
flush (struct latest *l)
{
  latest_begin_flush (l);
  latest_end_flush (l);
}

static bool
is_flushed (const struct latest *l, uint64_t offset)
{
  for (unsigned i = 0; i < l->flushed.n; i++)
    if (l->flushed.offsets[i] == offset)
      return true;
  return false;
}

/* R6: a flush covers what was copied before it was begun. */
static void
test_flush (void)
{
  struct latest l = { .copied.n = 0 };

  copy (&l, 1);
  CU_ASSERT_EQUAL (l.flushed.n, 0);
  latest_begin_flush (&l);
  copy (&l, 2);
  CU_ASSERT_EQUAL (l.flushed.n, 0);
  latest_end_flush (&l);
  CU_ASSERT_EQUAL (l.flushed.n, 1);
  CU_ASSERT_TRUE (is_flushed (&l, 1));
  latest_begin_flush (&l); /* and fails */
  CU_ASSERT_FALSE (is_flushed (&l, 2));
  flush (&l);
  CU_ASSERT_TRUE (is_flushed (&l, 1) && is_flushed (&l, 2));
}

/* The latest are kept, and nothing twice. */
static void
test_many (void)
{
  struct latest l = { .copied.n = 0 };

  for (uint64_t i = 0; i < 10 * PROTOCOL_LATELY_MAX; i++) {
    copy (&l, i);
    copy (&l, i / 2 * 2); /* again and again */
  }
  flush (&l);
  CU_ASSERT_EQUAL (l.flushed.n, PROTOCOL_LATELY_MAX);
  for (uint64_t i = 9 * PROTOCOL_LATELY_MAX; i < 10 * PROTOCOL_LATELY_MAX; i++)
    CU_ASSERT_TRUE (is_flushed (&l, i));
}

/* Those of the run before count as long as this one has copied few. */
static void
test_told (void)
{
  struct latest l = { .copied.n = 0 };

  for (uint64_t i = 0; i < PROTOCOL_LATELY_MAX; i++)
    latest_told (&l, i);
  CU_ASSERT_EQUAL (l.flushed.n, PROTOCOL_LATELY_MAX);
  copy (&l, 100);
  flush (&l);
  CU_ASSERT_TRUE (is_flushed (&l, 100));
  CU_ASSERT_FALSE (is_flushed (&l, 0));
  CU_ASSERT_TRUE (is_flushed (&l, 1));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a flush", test_flush },
    { "many", test_many },
    { "the run before", test_told },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("latest", tests);
}
