/* SPDX-License-Identifier: BSD-3-Clause */
/* How long guests' requests take of late, as far as this filter sees them: from
 * a callback's begin to its end.  Delays of our own making are counted apart.
 *
 * Each request adds to counters that only grow, in its thread's lane, without a
 * lock.  Whoever looks takes a copy now and then, and the difference to one of
 * about a second ago is what was of late.  Times in microseconds.
 */

#ifndef NBDMIGRATE_LATENCY_H
#define NBDMIGRATE_LATENCY_H

#include <pthread.h>
#include <stdint.h>

#include "base/lane.h"

enum latency_kind { LATENCY_READ, LATENCY_WRITE, LATENCY_KINDS };

/* A bucket is a quarter of an octave: what is read from it is at most a fourth
 * too large.
 */
#define LATENCY_BUCKETS 96 /* up to 16 s */
#define LATENCY_SLOTS 16

struct latency_counts {
  uint64_t requests;
  uint64_t sum_us;
  uint64_t buckets[LATENCY_BUCKETS];
};

struct latency_sums {
  struct latency_counts kinds[LATENCY_KINDS];
  uint64_t others; /* requests */
  uint64_t throttle_us, gate_us;
};

struct latency_lane {
  _Alignas(LANE_BYTES) struct latency_sums sums;
};

struct latency {
  struct latency_lane lanes[LANES]; /* atomic */
  pthread_mutex_t lock;             /* for the copies */
  struct {
    int64_t at_ms;
    struct latency_sums sums;
  } slots[LATENCY_SLOTS]; /* copy n is at n % LATENCY_SLOTS */
  uint64_t copies;
};

/* How long a request waited for us. */
struct delays {
  uint64_t throttle_us, gate_us;
};

extern void latency_init (struct latency *l);
extern void latency_destroy (struct latency *l);

/* A request has taken so long, its delays not included. */
extern void latency_add (struct latency *l, enum latency_kind kind, uint64_t us,
                         const struct delays *delays);

/* One whose time tells nothing, as it may be as long as the disk. */
extern void latency_count_other (struct latency *l);

struct latency_status {
  uint64_t window_ms; /* what is not "ever" is about this time */
  struct {
    uint64_t all; /* requests ever */
    uint64_t requests;
    uint64_t mean_us;
    uint64_t high_us; /* 99 of 100 took no longer */
  } kinds[LATENCY_KINDS];
  uint64_t others;               /* ever */
  uint64_t throttle_us, gate_us; /* the sum of the delays */
};

extern void latency_get_status (struct latency *l, int64_t now_ms,
                                struct latency_status *s);

#endif /* NBDMIGRATE_LATENCY_H */
