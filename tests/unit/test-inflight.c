/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of requests in flight. */

#include <stdbool.h>

#include "tracker/inflight.h"
#include "unit.h"

static void
test_empty (void)
{
  struct inflight l;

  inflight_init (&l);
  CU_ASSERT_EQUAL (l.requests, 0);
  CU_ASSERT_EQUAL (l.bytes, 0);
  CU_ASSERT_FALSE (inflight_overlaps (&l, 0, UINT64_MAX));
}

static void
test_add_remove (void)
{
  struct inflight l;
  struct inflight_node n[3];

  inflight_init (&l);
  inflight_add (&l, &n[0], 0, 10);
  inflight_add (&l, &n[1], 5, 20); /* overlapping ones are fine */
  inflight_add (&l, &n[2], 100, 1);
  CU_ASSERT_EQUAL (l.requests, 3);
  CU_ASSERT_EQUAL (l.bytes, 31);

  inflight_remove (&l, &n[1]); /* from the middle, the end, the beginning */
  CU_ASSERT_EQUAL (l.requests, 2);
  CU_ASSERT_EQUAL (l.bytes, 11);
  CU_ASSERT_FALSE (inflight_overlaps (&l, 10, 90));
  inflight_remove (&l, &n[2]);
  CU_ASSERT_FALSE (inflight_overlaps (&l, 10, 1000));
  CU_ASSERT (inflight_overlaps (&l, 0, 1000));
  inflight_remove (&l, &n[0]);
  CU_ASSERT_EQUAL (l.requests, 0);
  CU_ASSERT_EQUAL (l.bytes, 0);
  CU_ASSERT_FALSE (inflight_overlaps (&l, 0, 1000));
}

static void
test_edges (void)
{
  struct inflight l;
  struct inflight_node n;

  inflight_init (&l);
  inflight_add (&l, &n, 100, 10);
  CU_ASSERT_FALSE (inflight_overlaps (&l, 90, 10));
  CU_ASSERT (inflight_overlaps (&l, 90, 11));
  CU_ASSERT (inflight_overlaps (&l, 100, 1));
  CU_ASSERT (inflight_overlaps (&l, 104, 2));
  CU_ASSERT (inflight_overlaps (&l, 109, 1));
  CU_ASSERT (inflight_overlaps (&l, 109, 100));
  CU_ASSERT_FALSE (inflight_overlaps (&l, 110, 1));
  CU_ASSERT_FALSE (inflight_overlaps (&l, 104, 0));
  inflight_remove (&l, &n);

  /* An empty request touches nothing. */
  inflight_add (&l, &n, 100, 0);
  CU_ASSERT_EQUAL (l.requests, 1);
  CU_ASSERT_FALSE (inflight_overlaps (&l, 0, 1000));
  CU_ASSERT_FALSE (inflight_overlaps (&l, 100, 1));
  inflight_remove (&l, &n);

  /* Nothing wraps around. */
  inflight_add (&l, &n, UINT64_MAX - 9, 9);
  CU_ASSERT (inflight_overlaps (&l, UINT64_MAX - 1, 1));
  CU_ASSERT (inflight_overlaps (&l, 0, UINT64_MAX));
  CU_ASSERT_FALSE (inflight_overlaps (&l, 0, 10));
  CU_ASSERT_FALSE (inflight_overlaps (&l, 0, UINT64_MAX - 9));
  inflight_remove (&l, &n);
}

#define SPACE 64 /* bytes of the model's disk */
#define NODES 12

/* The same question to a map of bytes. */
static bool
model_overlaps (const struct inflight_node *n, const bool *in, uint64_t offset,
                uint64_t length)
{
  for (unsigned i = 0; i < NODES; i++)
    for (uint64_t b = offset; in[i] && b < offset + length; b++)
      if (b >= n[i].offset && b < n[i].offset + n[i].length)
        return true;
  return false;
}

static void
test_random (void)
{
  uint64_t rnd = unit_seed ();
  struct inflight l;
  struct inflight_node n[NODES];
  bool in[NODES] = { false };
  unsigned wrong = 0;

  inflight_init (&l);
  for (unsigned i = 0; i < 20000; i++) {
    const unsigned k = unit_random (&rnd, NODES);
    const uint64_t offset = unit_random (&rnd, SPACE);
    const uint64_t length = unit_random (&rnd, (SPACE - offset) / 4 + 1);

    if (in[k])
      inflight_remove (&l, &n[k]);
    else
      inflight_add (&l, &n[k], offset, length);
    in[k] = !in[k];

    const uint64_t from = unit_random (&rnd, SPACE);
    const uint64_t count = unit_random (&rnd, SPACE - from + 1);

    wrong += inflight_overlaps (&l, from, count) !=
             model_overlaps (n, in, from, count);
  }
  CU_ASSERT_EQUAL (wrong, 0);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "empty", test_empty }, { "add and remove", test_add_remove },
    { "edges", test_edges }, { "random requests against a model", test_random },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("inflight", tests);
}
