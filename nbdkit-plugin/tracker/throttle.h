/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests' writes are slowed down, so that the copying can keep up with them.
 *
 * A request is delayed before it passes the gate: it is in no list, holds no
 * lock, and nobody waits for it.  The limit belongs to the session and lapses
 * by itself unless it is renewed, so that a session that is gone, or hangs,
 * cannot slow a guest down (R7).  While a gate is shut nobody is delayed here,
 * since all wait there.
 *
 * Has a lock of its own, under which nothing is waited for and nothing else is
 * called.  Without a limit a request costs one atomic read.  Knows no nbdkit.
 */

#ifndef NBDMIGRATE_THROTTLE_H
#define NBDMIGRATE_THROTTLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fair-bucket.h"

/* How long throttle_enter waits before its caller must look whether its client
 * is still there.
 */
#define THROTTLE_SLICE_MS 100

struct throttle {
  pthread_mutex_t lock; /* for all but 'limited' */
  bool limited;         /* atomic: there is a limit; written under the lock */
  struct fair_bucket bucket;
  int64_t lapses_ns;   /* when the limit is over */
  int64_t let_pass_ns; /* until then nobody is delayed */
  bool stopped;
  unsigned waiting;
  uint64_t charged;    /* bytes: the cost of all that passed with a limit */
  uint64_t requests;   /* that were delayed */
  uint64_t delayed_ns; /* the sum of it */
  uint64_t longest_ns;
};

/* Lives with the caller from the first throttle_enter, before which it is
 * THROTTLE_REQUEST_INIT, until that passes, or to throttle_give_up.
 */
struct throttle_request {
  struct fair_request queue;
  bool queued;
  pthread_cond_t changed;
  uint64_t delayed_ns; /* how long it took, for the caller */
};

#define THROTTLE_REQUEST_INIT                                                  \
  {                                                                            \
    .queued = false, .changed = PTHREAD_COND_INITIALIZER                       \
  }

extern void throttle_init (struct throttle *t);
extern void throttle_destroy (struct throttle *t);

/* Whether there may be a limit; for those who would have to find out the cost
 * of a request.  Takes no lock.
 */
extern bool throttle_is_limited (const struct throttle *t);

/* True: the request may go on.  False: it still waits; call again, at once, or
 * throttle_give_up.  'cost' is in bytes and counts in the first call.
 */
extern bool throttle_enter (struct throttle *t, struct fair_flow *flow,
                            struct throttle_request *r, uint64_t cost);
extern void throttle_give_up (struct throttle *t, struct throttle_request *r);

/* Bytes per second, or 0 for no limit, for as long as it is renewed at least
 * every 'ms'.
 */
extern void throttle_set (struct throttle *t, uint64_t rate, unsigned ms);
extern void throttle_renew (struct throttle *t, unsigned ms);

/* Delay nobody for so long: the gate is shut.  0: as before. */
extern void throttle_let_pass (struct throttle *t, unsigned ms);

/* For good: the server is quitting. */
extern void throttle_stop (struct throttle *t);

struct throttle_status {
  uint64_t rate;    /* bytes per second, 0: no limit */
  unsigned waiting; /* requests, now */
  uint64_t charged; /* bytes, as the three below ever */
  uint64_t delayed_requests, delayed_us, longest_us;
};

extern void throttle_get_status (struct throttle *t, struct throttle_status *s);

#endif /* NBDMIGRATE_THROTTLE_H */
