/* SPDX-License-Identifier: BSD-3-Clause */
/* A token bucket with a queue before it that is fair between connections.
 *
 * Tokens are bytes and come at a rate.  A request passes when there is no debt,
 * and pays then, so that a large one is not starved: what it costs more than
 * there is becomes debt for those behind it.  The burst is so small that
 * requests are spread evenly.
 *
 * Nobody waits longer than FAIR_WAIT_MAX_NS: no more than that is owed at any
 * time, and whoever has waited so long passes in any case.  So the rate may be
 * exceeded by what guests have under way at once, per second.
 *
 * Fair queueing by start tags (Goyal et al., SFQ): each request gets the bytes
 * at which its connection would be served if it had its share; the smallest tag
 * is first.  So a connection with one request at a time gets as much as one
 * with many.
 *
 * Without a clock, a lock and memory of its own: the caller passes the
 * monotonic time in nanoseconds, and each request lives with its caller from
 * fair_add to fair_pass or fair_remove.
 */

#ifndef NBDMIGRATE_FAIR_BUCKET_H
#define NBDMIGRATE_FAIR_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define FAIR_BURST_NS INT64_C (10000000)      /* 10 ms worth of tokens */
#define FAIR_WAIT_MAX_NS INT64_C (1000000000) /* 1 s */

_Static_assert(FAIR_BURST_NS < FAIR_WAIT_MAX_NS, "no stall by itself");

/* A connection; all zeroes at first. */
struct fair_flow {
  uint64_t finish; /* tag of its next request */
};

struct fair_request {
  uint64_t cost;  /* bytes */
  uint64_t start; /* tag */
  int64_t since_ns;
  struct fair_request *prev, *next;
};

struct fair_bucket {
  uint64_t rate;      /* bytes per second; 0: no limit */
  int64_t free_at_ns; /* when there is neither debt nor token */
  uint64_t served;    /* tag of the one that passed last */
  struct fair_request *first, *last;
};

/* All zeroes: no limit, nobody waits. */

/* Debts stay the same in bytes. */
extern void fair_set_rate (struct fair_bucket *b, uint64_t rate,
                           int64_t now_ns);

/* Queue a request of a connection. */
extern void fair_add (struct fair_bucket *b, struct fair_flow *flow,
                      struct fair_request *r, uint64_t cost, int64_t now_ns);

/* How long it waits still, if nothing changes for those before it; 0: it may
 * pass.
 */
extern int64_t fair_wait_ns (const struct fair_bucket *b,
                             const struct fair_request *r, int64_t now_ns);

/* It passes, and pays; or is taken away. */
extern void fair_pass (struct fair_bucket *b, struct fair_request *r,
                       int64_t now_ns);
extern void fair_remove (struct fair_bucket *b, struct fair_request *r);

#endif /* NBDMIGRATE_FAIR_BUCKET_H */
