/* SPDX-License-Identifier: BSD-3-Clause */
/* How many requests are in flight at one side of a copy, over how many
 * connections, and how long they are: found, not set.
 *
 * Too few leave a distant server idle between them; too many on a near one cost
 * processor time, since what is in flight no longer fits its caches, and every
 * connection has threads of its own.  No number suits both, so the limits are
 * steps, each of about twice the requests in flight, and what is measured
 * chooses among them.  A step is tried for one round between two as usual:
 *
 *   growing   a step up, at once again as long as that brings a fifth more
 *   steady    now and then a step up or down: up if that is worth a fifth, down
 *             if it costs next to nothing.  What did not help is tried again
 *             after twice the time
 *
 * More than half as much again is believed at once, so that what is far away
 * grows with every round; less than that has to be better than the usual before
 * and after, since other work on a machine makes as much of a difference.  What
 * was taken for a gain all the same is given up at the next step down.
 *
 * A round counts only if the limit was what limited: a side that waits for the
 * other one learns nothing of itself.
 *
 * Pure: no clock, no descriptors, no memory of its own.  Times are in
 * microseconds of any clock that does not go back.
 */

#ifndef NBDMIGRATE_PACE_H
#define NBDMIGRATE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_STEPS_MAX 24

struct pace_limits {
  unsigned connections;   /* in use, of those that there are */
  unsigned depth;         /* requests in flight on each of them */
  uint64_t request_bytes; /* of one, at most */
};

struct pace_options {
  unsigned connections;       /* that there are, not 0 */
  unsigned depth_max;         /* not 0 */
  uint64_t request_bytes;     /* not 0; the smallest */
  uint64_t request_bytes_max; /* the same number: always that */
  uint64_t bytes_max;         /* in flight; the first step is always allowed */
  bool all_connections;       /* always: their number was asked for */
  bool whole_depth;           /* the same of depth_max */
  int64_t distance_us;        /* how long an answer takes at least, or 0 */
};

struct pace {
  struct pace_limits steps[PACE_STEPS_MAX];
  unsigned nr_steps;
  unsigned at; /* the one in use */

  enum pace_phase { PACE_GROWING, PACE_STEADY } phase;

  /* The round under way. */
  int64_t begun_us;    /* requests before it are of the round before; 0: now */
  int64_t measured_us; /* counting since; 0: not yet */
  uint64_t requests, full, work;

  /* Of a trial: which of its rounds it is. */
  enum { PACE_USUAL, PACE_TRIED, PACE_AFTER } round;
  unsigned usual; /* the step that is compared with */
  bool up;        /* the direction of it, or of the next one */
  double before, tried;
  int64_t hold_us, next_trial_us;
};

extern void pace_init (struct pace *p, const struct pace_options *options);

/* What is to be kept to now. */
extern const struct pace_limits *pace_limits (const struct pace *p);

/* A request that began at begun_us ended now.  'work' is what it was worth, in
 * bytes; 'full', whether as many as allowed were in flight.
 */
extern void pace_ended (struct pace *p, int64_t begun_us, int64_t now_us,
                        uint64_t work, bool full);

#endif /* NBDMIGRATE_PACE_H */
