/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of byte ranges: merging, sorting, limits; random lists against a map
 * of single bytes.
 */

#include <errno.h>
#include <string.h>

#include "extents.h"
#include "unit.h"

#define SPACE 512 /* bytes in the map of the random test */

static void
append (struct extents *e, uint64_t offset, uint64_t length, bool touched)
{
  CU_ASSERT_EQUAL_FATAL (extents_append (e, offset, length, touched), 0);
}

static void
assert_extent (const struct extents *e, size_t i, uint64_t offset,
               uint64_t length, bool touched)
{
  CU_ASSERT_FATAL (i < e->n);
  CU_ASSERT_EQUAL (e->v[i].offset, offset);
  CU_ASSERT_EQUAL (e->v[i].length, length);
  CU_ASSERT_EQUAL (e->v[i].touched, touched);
}

static void
test_empty (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  CU_ASSERT_EQUAL (extents_bytes (&e), 0);
  extents_normalise (&e);
  CU_ASSERT_EQUAL (e.n, 0);
  extents_clear (&e);
  extents_free (&e); /* and once more at the end of the scope */
}

static void
test_append_merges (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  append (&e, 0, 10, false);
  append (&e, 10, 5, false); /* goes on where the last one ends */
  CU_ASSERT_EQUAL (e.n, 1);
  append (&e, 15, 5, true); /* differs in touched */
  CU_ASSERT_EQUAL (e.n, 2);
  append (&e, 20, 1, true);
  CU_ASSERT_EQUAL (e.n, 2);
  append (&e, 22, 1, true); /* a gap */
  CU_ASSERT_EQUAL (e.n, 3);
  append (&e, 22, 1, true); /* overlaps: normalise's business */
  CU_ASSERT_EQUAL (e.n, 4);
  append (&e, 0, 22, true); /* ends where the last one begins */
  CU_ASSERT_EQUAL_FATAL (e.n, 5);
  assert_extent (&e, 0, 0, 15, false);
  assert_extent (&e, 1, 15, 6, true);
  assert_extent (&e, 4, 0, 22, true);
  CU_ASSERT_EQUAL (extents_bytes (&e), 15 + 6 + 1 + 1 + 22);
}

static void
test_append_nothing (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  append (&e, 5, 0, false);
  CU_ASSERT_EQUAL (e.n, 0);
  append (&e, UINT64_MAX, 0, true);
  CU_ASSERT_EQUAL (e.n, 0);
}

static void
test_append_limits (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  append (&e, 0, UINT64_MAX, false);
  append (&e, UINT64_MAX - 1, 1, false);
  CU_ASSERT_EQUAL (e.n, 2);
  errno = 0;
  CU_ASSERT_EQUAL (extents_append (&e, 1, UINT64_MAX, false), -1);
  CU_ASSERT_EQUAL (errno, EOVERFLOW);
  CU_ASSERT_EQUAL (extents_append (&e, UINT64_MAX, 1, false), -1);
  CU_ASSERT_EQUAL (e.n, 2);
  CU_ASSERT_EQUAL (extents_bytes (&e), UINT64_MAX); /* not 0 */
  extents_normalise (&e);
  CU_ASSERT_EQUAL_FATAL (e.n, 1);
  assert_extent (&e, 0, 0, UINT64_MAX, false);
}

static void
test_many (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  for (uint64_t i = 0; i < 100000; i++)
    append (&e, i * 2, 1, false);
  CU_ASSERT_EQUAL (e.n, 100000);
  CU_ASSERT (e.allocated >= e.n);
  CU_ASSERT_EQUAL (extents_bytes (&e), 100000);
  for (uint64_t i = 0; i < 100000; i++)
    append (&e, i * 2 + 1, 1, false);
  extents_normalise (&e);
  CU_ASSERT_EQUAL_FATAL (e.n, 1);
  assert_extent (&e, 0, 0, 200000, false);
}

static void
test_clear_keeps_memory (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  const struct extent *v;

  append (&e, 1, 1, true);
  v = e.v;
  extents_clear (&e);
  CU_ASSERT_EQUAL (e.n, 0);
  append (&e, 2, 1, false); /* is not merged into what was forgotten */
  CU_ASSERT_PTR_EQUAL (e.v, v);
  assert_extent (&e, 0, 2, 1, false);
  extents_free (&e);
  CU_ASSERT_PTR_NULL (e.v);
  CU_ASSERT_EQUAL (e.n, 0);
  CU_ASSERT_EQUAL (e.allocated, 0);
}

static void
test_normalise (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  append (&e, 100, 10, false);
  append (&e, 50, 10, false); /* stays alone */
  append (&e, 0, 30, false);  /* contains the next one */
  append (&e, 5, 5, true);
  append (&e, 30, 1, false);   /* touches the one at 0 */
  append (&e, 105, 20, false); /* overlaps the one at 100 */
  append (&e, 100, 10, false); /* again */
  append (&e, 61, 1, true);    /* one byte short of touching */
  extents_normalise (&e);
  CU_ASSERT_EQUAL_FATAL (e.n, 4);
  assert_extent (&e, 0, 0, 31, true);
  assert_extent (&e, 1, 50, 10, false);
  assert_extent (&e, 2, 61, 1, true);
  assert_extent (&e, 3, 100, 25, false);
  extents_normalise (&e); /* changes nothing more */
  CU_ASSERT_EQUAL (e.n, 4);
}

/* ---- Random ------------------------------------------------------------ */

/* Offsets beyond 2^63 would break a comparison by subtraction. */
#define FAR (UINT64_MAX - SPACE)

/* Fill the list and a map of which byte is in it. */
static void
random_list (struct extents *e, bool map[SPACE], uint64_t base, uint64_t *rnd)
{
  const uint64_t n = unit_random (rnd, 20);

  memset (map, 0, SPACE * sizeof *map);
  for (uint64_t i = 0; i < n; i++) {
    const uint64_t first = unit_random (rnd, SPACE);
    const uint64_t most = SPACE - first < 50 ? SPACE - first : 50;
    const uint64_t length = unit_random (rnd, most + 1);

    append (e, base + first, length, unit_random (rnd, 4) == 0);
    memset (map + first, true, length);
  }
}

/* Whether the list is sorted, has gaps between its ranges, and covers what the
 * map says.
 */
static bool
is_normal (const struct extents *e, const bool map[SPACE], uint64_t base)
{
  uint64_t at = 0;

  for (size_t i = 0; i < e->n; i++) {
    const uint64_t first = e->v[i].offset - base;
    const uint64_t end = first + e->v[i].length;

    if (first < at || (i > 0 && first == at) || end > SPACE)
      return false;
    for (; at < first; at++)
      if (map[at])
        return false;
    for (; at < end; at++)
      if (!map[at])
        return false;
  }
  for (; at < SPACE; at++)
    if (map[at])
      return false;
  return true;
}

/* A range is touched if and only if one of those that it was made of was. */
static bool
touched_as_before (const struct extents *e, const struct extents *before)
{
  for (size_t i = 0; i < e->n; i++) {
    const struct extent *x = &e->v[i];
    bool touched = false;

    for (size_t j = 0; j < before->n; j++)
      if (before->v[j].offset >= x->offset &&
          before->v[j].offset < x->offset + x->length)
        touched |= before->v[j].touched;
    if (touched != x->touched)
      return false;
  }
  return true;
}

static bool
random_round (uint64_t *rnd)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents before = EXTENTS_EMPTY;
  const uint64_t base = unit_random (rnd, 2) ? FAR : 0;
  bool map[SPACE];

  random_list (&e, map, base, rnd);
  for (size_t i = 0; i < e.n; i++)
    append (&before, e.v[i].offset, e.v[i].length, e.v[i].touched);
  extents_normalise (&e);
  return is_normal (&e, map, base) && touched_as_before (&e, &before);
}

static void
test_random (void)
{
  uint64_t rnd = unit_seed ();
  bool ok = true;

  for (unsigned i = 0; i < 3000 && ok; i++) {
    ok = random_round (&rnd);
    if (!ok)
      printf ("(round %u) ", i);
  }
  CU_ASSERT (ok);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "an empty list", test_empty },
    { "append merges what adjoins", test_append_merges },
    { "append nothing", test_append_nothing },
    { "append up to the limits", test_append_limits },
    { "many", test_many },
    { "clear and free", test_clear_keeps_memory },
    { "normalise", test_normalise },
    { "normalise random lists", test_random },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("extents", tests);
}
