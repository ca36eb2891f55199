/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <stddef.h>

#include "fair-bucket.h"

#define NS_PER_SECOND 1000000000.0

static int64_t
smaller (int64_t a, int64_t b)
{
  return a < b ? a : b;
}

static int64_t
greater (int64_t a, int64_t b)
{
  return a > b ? a : b;
}

/* How long the rate takes for so much, but no longer than anybody waits. */
static int64_t
time_of (const struct fair_bucket *b, uint64_t bytes)
{
  const double ns = bytes * NS_PER_SECOND / b->rate;

  return ns < FAIR_WAIT_MAX_NS ? (int64_t)ns : FAIR_WAIT_MAX_NS;
}

void
fair_set_rate (struct fair_bucket *b, uint64_t rate, int64_t now_ns)
{
  const int64_t debt_ns = greater (b->free_at_ns - now_ns, 0);

  if (b->rate == 0 || rate == 0)
    b->free_at_ns = now_ns;
  else if (debt_ns > 0)
    b->free_at_ns =
      now_ns + smaller (debt_ns * ((double)b->rate / rate), FAIR_WAIT_MAX_NS);
  b->rate = rate;
}

/* The most of a request that counts for its connection's share: what nobody
 * pays for is not held against it either.
 */
static uint64_t
share_of (const struct fair_bucket *b, uint64_t cost)
{
  const uint64_t most = b->rate * (FAIR_WAIT_MAX_NS / NS_PER_SECOND);

  return b->rate > 0 && cost > most ? most : cost;
}

void
fair_add (struct fair_bucket *b, struct fair_flow *flow, struct fair_request *r,
          uint64_t cost, int64_t now_ns)
{
  struct fair_request *before = b->last;

  *r = (struct fair_request){
    .cost = cost,
    .start = flow->finish > b->served ? flow->finish : b->served,
    .since_ns = now_ns,
  };
  flow->finish = r->start + share_of (b, cost);
  while (before != NULL && before->start > r->start)
    before = before->prev;
  r->prev = before;
  r->next = before ? before->next : b->first;
  *(r->prev ? &r->prev->next : &b->first) = r;
  *(r->next ? &r->next->prev : &b->last) = r;
}

int64_t
fair_wait_ns (const struct fair_bucket *b, const struct fair_request *r,
              int64_t now_ns)
{
  const int64_t at_most = greater (r->since_ns + FAIR_WAIT_MAX_NS - now_ns, 0);

  if (b->rate == 0)
    return 0;
  if (r != b->first)
    return at_most;
  return smaller (at_most, greater (b->free_at_ns - now_ns, 0));
}

void
fair_remove (struct fair_bucket *b, struct fair_request *r)
{
  *(r->prev ? &r->prev->next : &b->first) = r->next;
  *(r->next ? &r->next->prev : &b->last) = r->prev;
  r->prev = r->next = NULL;
}

void
fair_pass (struct fair_bucket *b, struct fair_request *r, int64_t now_ns)
{
  assert (fair_wait_ns (b, r, now_ns) == 0);

  fair_remove (b, r);
  if (r->start > b->served)
    b->served = r->start;
  if (b->rate == 0)
    return;
  b->free_at_ns = greater (b->free_at_ns, now_ns - FAIR_BURST_NS);
  b->free_at_ns =
    smaller (b->free_at_ns + time_of (b, r->cost), now_ns + FAIR_WAIT_MAX_NS);
}
