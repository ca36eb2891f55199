/* SPDX-License-Identifier: BSD-3-Clause */
/* What is kept of the places that a session has copied: some of all of it. */

#include "export/lately.h"
#include "unit.h"

static void
copy (struct lately *l, uint64_t offset)
{
  struct extent x = { .offset = offset, .length = 1 };
  const struct extents e = { .v = &x, .n = 1 };

  lately_add (l, &e);
}

static void
test_few (void)
{
  struct lately l = { .n = 0 };

  for (uint64_t i = 0; i < PROTOCOL_LATELY_MAX; i++)
    copy (&l, i);
  CU_ASSERT_EQUAL_FATAL (l.n, PROTOCOL_LATELY_MAX);
  for (uint64_t i = 0; i < PROTOCOL_LATELY_MAX; i++)
    CU_ASSERT_EQUAL (l.offsets[i], i);
}

/* Of however many: as far from each other as can be, from the first on. */
static void
test_many (void)
{
  struct lately l = { .n = 0 };

  for (uint64_t i = 0; i < 1000 * PROTOCOL_LATELY_MAX; i++) {
    copy (&l, i);
    CU_ASSERT_TRUE_FATAL (l.n <= PROTOCOL_LATELY_MAX);
    CU_ASSERT_TRUE_FATAL (l.n > PROTOCOL_LATELY_MAX / 2 ||
                          l.n == (size_t)i + 1);
  }
  for (size_t i = 0; i < l.n; i++)
    CU_ASSERT_EQUAL (l.offsets[i], i << l.shift);
  CU_ASSERT_TRUE (l.offsets[l.n - 1] >= 900 * PROTOCOL_LATELY_MAX);
}

static void
test_sessions (void)
{
  struct lately l = { .n = 0 };

  copy (&l, 7);
  copy (&l, 8);
  lately_begin (&l, true);
  CU_ASSERT_EQUAL (l.n,
                   2); /* another one that copies nothing knows them, too */
  lately_begin (&l, true);
  CU_ASSERT_EQUAL (l.n, 2);
  copy (&l, 9);
  copy (&l, 10);
  CU_ASSERT_EQUAL_FATAL (l.n, 2);
  CU_ASSERT_EQUAL (l.offsets[0], 9);
  CU_ASSERT_EQUAL (l.offsets[1], 10);
  lately_begin (&l, false);
  CU_ASSERT_EQUAL (l.n, 0);
  copy (&l, 11);
  CU_ASSERT_EQUAL (l.n, 1);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "few", test_few },
    { "many", test_many },
    { "sessions", test_sessions },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("lately", tests);
}
