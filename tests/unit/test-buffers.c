/* SPDX-License-Identifier: BSD-3-Clause */
/* No two jobs have the same bytes, and the low ones are used again. */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "copy/buffers.h"
#include "shared-memory.h"
#include "unit.h"

#define PAGE 4096
#define PAGES (SHARED_UNIT / PAGE)

static void
test_lowest (void)
{
  struct buffers *b = buffers_new (SHARED_UNIT);
  char *v[4];

  CU_ASSERT_PTR_NOT_NULL_FATAL (b);
  v[0] = buffers_take (b, 1);
  v[1] = buffers_take (b, PAGE);
  v[2] = buffers_take (b, PAGE + 1);
  CU_ASSERT_PTR_EQUAL (v[1], v[0] + PAGE);
  CU_ASSERT_PTR_EQUAL (v[2], v[1] + PAGE);
  v[3] = buffers_take (b, PAGE);
  CU_ASSERT_PTR_EQUAL (v[3], v[2] + 2 * PAGE);

  buffers_give_back (b, v[1], PAGE);
  CU_ASSERT_PTR_EQUAL (buffers_take (b, 2 * PAGE), v[3] + PAGE); /* no room */
  CU_ASSERT_PTR_EQUAL (buffers_take (b, PAGE - 1), v[1]);
  buffers_give_back (b, v[0], 1);
  buffers_give_back (b, v[1], PAGE - 1);
  CU_ASSERT_PTR_EQUAL (buffers_take (b, 2 * PAGE), v[0]);
  buffers_give_back (b, NULL, PAGE);
  buffers_free (b);
}

/* Then it has memory of its own, which the proxy is not asked to fill. */
static void
test_no_room (void)
{
  struct buffers *b = buffers_new (1);
  char *all, *more, *huge;

  CU_ASSERT_PTR_NOT_NULL_FATAL (b);
  all = buffers_take (b, SHARED_UNIT);
  more = buffers_take (b, 1);
  huge = buffers_take (b, 4 * SHARED_UNIT);
  memset (all, 1, SHARED_UNIT);
  memset (huge, 2, 4 * SHARED_UNIT);
  *more = 3;
  CU_ASSERT_EQUAL (all[SHARED_UNIT - 1], 1);
  CU_ASSERT_PTR_NOT_NULL (buffers_post (b, 0, 512, all));
  CU_ASSERT_PTR_NULL (buffers_post (b, 0, 512, more));
  CU_ASSERT_PTR_NULL (buffers_post (b, 0, 512, huge));
  buffers_give_back (b, huge, 4 * SHARED_UNIT);
  buffers_give_back (b, more, 1);
  buffers_give_back (b, all, SHARED_UNIT);
  CU_ASSERT_PTR_EQUAL (buffers_take (b, SHARED_UNIT), all);
  CU_ASSERT_PTR_NOT_NULL (buffers_take (b, 1));
  buffers_free (b); /* as the address sanitizer sees */
}

/* Each of them is filled with its number, and keeps it. */
static void
test_disjoint (void)
{
  struct buffers *b = buffers_new (SHARED_UNIT);
  struct {
    char *p;
    size_t bytes;
  } v[PAGES] = { 0 };

  srand (1);
  for (unsigned i = 0; i < 20000; ++i) {
    const unsigned k = (unsigned)rand () % PAGES;

    if (v[k].p != NULL) {
      for (size_t at = 0; at < v[k].bytes; at += 1 + v[k].bytes / 8)
        CU_ASSERT_EQUAL (v[k].p[at], (char)k);
      buffers_give_back (b, v[k].p, v[k].bytes);
      v[k].p = NULL;
      continue;
    }
    v[k].bytes = 1 + (unsigned)rand () % (4 * PAGE);
    v[k].p = buffers_take (b, v[k].bytes);
    memset (v[k].p, (int)k, v[k].bytes);
  }
  for (unsigned k = 0; k < PAGES; ++k)
    buffers_give_back (b, v[k].p, v[k].bytes);
  buffers_free (b);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the lowest free piece is taken", test_lowest },
    { "what there is no room for", test_no_room },
    { "no two of them overlap", test_disjoint },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("buffers", tests);
}
