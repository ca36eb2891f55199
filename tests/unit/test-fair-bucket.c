/* SPDX-License-Identifier: BSD-3-Clause */
/* The bucket before which guests' writes wait, on a clock of its own: guests
 * that send their next request when one has passed.
 */

#include <string.h>

#include "tracker/fair-bucket.h"
#include "unit.h"

#define MiB (UINT64_C (1) << 20)
#define MS INT64_C (1000000)
#define SECOND (1000 * MS)
#define DEPTH_MAX 64

struct guest {
  struct fair_flow flow;
  struct fair_request requests[DEPTH_MAX];
  unsigned depth;
  uint64_t size;
  uint64_t bytes; /* that have passed */
  int64_t longest_ns;
};

/* The first that may pass now, of whose guest; or NULL and when to look again.
 */
static struct fair_request *
find_ready (struct fair_bucket *b, int64_t now, int64_t *next)
{
  for (struct fair_request *r = b->first; r; r = r->next) {
    const int64_t wait = fair_wait_ns (b, r, now);

    if (wait == 0)
      return r;
    if (now + wait < *next)
      *next = now + wait;
  }
  return NULL;
}

static struct guest *
guest_of (struct guest *guests, unsigned n, struct fair_request *r)
{
  for (unsigned g = 0; g < n; g++)
    if (r >= guests[g].requests && r < guests[g].requests + DEPTH_MAX)
      return &guests[g];
  return NULL;
}

/* Let them write until then. */
static void
run (struct fair_bucket *b, struct guest *guests, unsigned n, int64_t now,
     int64_t end)
{
  for (unsigned g = 0; g < n; g++)
    for (unsigned i = 0; i < guests[g].depth; i++)
      fair_add (b, &guests[g].flow, &guests[g].requests[i], guests[g].size,
                now);
  while (now < end) {
    int64_t next = end;
    struct fair_request *r = find_ready (b, now, &next);

    if (r == NULL) {
      now = next;
      continue;
    }
    struct guest *g = guest_of (guests, n, r);

    if (now - r->since_ns > g->longest_ns)
      g->longest_ns = now - r->since_ns;
    g->bytes += g->size;
    fair_pass (b, r, now);
    fair_add (b, &g->flow, r, g->size, now);
  }
  while (b->first)
    fair_remove (b, b->first);
}

static struct fair_bucket
bucket (uint64_t rate, int64_t now)
{
  struct fair_bucket b;

  memset (&b, 0, sizeof b);
  fair_set_rate (&b, rate, now);
  return b;
}

/* Within a part in fifty. */
static bool
about (uint64_t bytes, uint64_t expected)
{
  return bytes * 50 >= expected * 49 && bytes * 50 <= expected * 51;
}

/* One request at a time: each waits for its own bytes only, never for long. */
static void
test_smooth (void)
{
  struct fair_bucket b = bucket (MiB, 7 * SECOND);
  struct guest g = { .depth = 1, .size = 4096 };

  run (&b, &g, 1, 7 * SECOND, 17 * SECOND);
  CU_ASSERT (about (g.bytes, 10 * MiB));
  CU_ASSERT (g.longest_ns <= 4096 * SECOND / (int64_t)MiB + MS);
}

/* The rate holds for any size and depth that the bound of the waiting allows.
 */
static void
test_rate (void)
{
  static const struct {
    uint64_t rate;
    unsigned depth;
    uint64_t size;
  } cases[] = {
    { MiB, 16, 4096 },
    { 100 * MiB, 16, 4096 },
    { 1000 * MiB, 64, 65536 },
    { 64 * MiB, 16, MiB },
    { 10000 * MiB, 64, 32 * MiB },
  };

  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct fair_bucket b = bucket (cases[i].rate, 0);
    struct guest g = { .depth = cases[i].depth, .size = cases[i].size };

    run (&b, &g, 1, 0, 10 * SECOND);
    CU_ASSERT (about (g.bytes, 10 * cases[i].rate));
  }
}

/* Nobody waits longer than that, whatever is under way. */
static void
test_bound (void)
{
  static const uint64_t sizes[] = { 4096, MiB, 32 * MiB, UINT32_MAX };

  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    struct fair_bucket b = bucket (MiB, 0);
    struct guest g[2] = { { .depth = 64, .size = sizes[i] },
                          { .depth = 1, .size = 4096 } };

    run (&b, g, 2, 0, 10 * SECOND);
    CU_ASSERT (g[0].longest_ns <= FAIR_WAIT_MAX_NS);
    CU_ASSERT (g[1].longest_ns <= FAIR_WAIT_MAX_NS);
    CU_ASSERT (g[0].bytes > 0 && g[1].bytes > 0);
  }
}

/* A connection with many requests under way gets no more than one with one. */
static void
test_fair (void)
{
  struct fair_bucket b = bucket (8 * MiB, 0);
  struct guest g[3] = { { .depth = 16, .size = 4096 },
                        { .depth = 1, .size = 4096 },
                        { .depth = 4, .size = 65536 } };

  run (&b, g, 3, 0, 10 * SECOND);
  CU_ASSERT (about (g[0].bytes + g[1].bytes + g[2].bytes, 80 * MiB));
  for (unsigned i = 0; i < 3; i++)
    CU_ASSERT (g[i].bytes > 24 * MiB && g[i].bytes < 30 * MiB);
}

/* A large request passes among many small ones, and what it owes is forgiven
 * after a while.
 */
static void
test_large (void)
{
  struct fair_bucket b = bucket (MiB, 0);
  struct guest g[2] = { { .depth = 16, .size = 4096 },
                        { .depth = 1, .size = 32 * MiB } };

  run (&b, g, 2, 0, 10 * SECOND);
  CU_ASSERT (g[1].bytes >= 5 * 32 * MiB);
  CU_ASSERT (g[0].bytes >= MiB / 2);
}

static void
test_rate_changes (void)
{
  struct fair_bucket b = bucket (MiB, 0);
  struct fair_flow flow = { 0 };
  struct fair_request a, c;

  fair_add (&b, &flow, &a, MiB / 2, 0);
  fair_pass (&b, &a, 0);
  fair_add (&b, &flow, &c, 1, 0);
  CU_ASSERT (fair_wait_ns (&b, &c, 0) > 480 * MS);
  CU_ASSERT (fair_wait_ns (&b, &c, 0) <= 500 * MS);
  fair_set_rate (&b, 10 * MiB, 0); /* the debt stays the same in bytes */
  CU_ASSERT (fair_wait_ns (&b, &c, 0) > 48 * MS);
  CU_ASSERT (fair_wait_ns (&b, &c, 0) <= 50 * MS);
  fair_set_rate (&b, 1, 0);
  CU_ASSERT_EQUAL (fair_wait_ns (&b, &c, 0), FAIR_WAIT_MAX_NS);
  fair_set_rate (&b, 0, 0);
  CU_ASSERT_EQUAL (fair_wait_ns (&b, &c, 0), 0);
  fair_pass (&b, &c, 0);
  fair_add (&b, &flow, &a, MiB, 0); /* for nothing */
  CU_ASSERT_EQUAL (fair_wait_ns (&b, &a, 0), 0);
  fair_pass (&b, &a, 0);
  fair_set_rate (&b, 1, 0); /* nothing is left of it */
  fair_add (&b, &flow, &a, 1, 0);
  CU_ASSERT_EQUAL (fair_wait_ns (&b, &a, 0), 0);
  fair_remove (&b, &a);
}

/* Where nothing was owed nothing is. */
static void
test_rate_changes_late (void)
{
  struct fair_bucket b = bucket (MiB, 0);
  struct fair_flow flow = { 0 };
  struct fair_request a;

  fair_set_rate (&b, 2 * MiB, SECOND);
  fair_add (&b, &flow, &a, 1, SECOND);
  CU_ASSERT_EQUAL (fair_wait_ns (&b, &a, SECOND), 0);
  fair_pass (&b, &a, SECOND);
}

/* After a time without writes no more passes at once than the burst. */
static void
test_burst (void)
{
  struct fair_bucket b = bucket (100 * MiB, 0);
  struct guest g = { .depth = 64, .size = 65536 };

  run (&b, &g, 1, 100 * SECOND, 100 * SECOND + 1);
  CU_ASSERT (g.bytes <= MiB + 65536);
  CU_ASSERT (g.bytes >= MiB);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "one at a time waits evenly", test_smooth },
    { "the rate", test_rate },
    { "nobody waits longer than the bound", test_bound },
    { "fair between connections", test_fair },
    { "a large one is not starved", test_large },
    { "another rate", test_rate_changes },
    { "another rate, late", test_rate_changes_late },
    { "the burst is small", test_burst },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("fair-bucket", tests);
}
