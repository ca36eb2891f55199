/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast guests may write, so that the copy gains on them: a control loop.
 *
 * It is asked at each heartbeat and changes the limit by a step at a time: down
 * as long as more becomes dirty than a fraction of what is copied, up again,
 * and at last away, when that is not so.  Pure: numbers in, numbers out.
 *
 * What it limits are the bytes that guests write; what it looks at are the
 * chunks that become dirty.  How many of these a written byte makes differs by
 * guest and by moment, so the loop goes by their relation of late.
 */

#ifndef NBDMIGRATE_THROTTLE_H
#define NBDMIGRATE_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

/* Of what is copied, in hundredths, that guests may make dirty. */
#define THROTTLE_TARGET_PERCENT 50

/* The fraction is halved when rounds do not shrink in spite of it, so often. */
#define THROTTLE_STRICTER_MAX 5

/* The first limit is so much of what guests write, in hundredths; and a step
 * down leaves at least so much of the limit before.
 */
#define THROTTLE_SOFT_PERCENT 80
#define THROTTLE_DOWN_PERCENT 70

/* A step up, in hundredths of the limit before. */
#define THROTTLE_UP_PERCENT 125

/* It goes up at the end of a round in which less than this of the target became
 * dirty at any time, if guests write at least so much of the limit: one who is
 * quiet for a moment, or writes where all is dirty already, comes again.
 */
#define THROTTLE_SLACK_PERCENT 70
#define THROTTLE_USED_PERCENT 80

/* No two steps are nearer to each other: a bit less than a heartbeat. */
#define THROTTLE_STEP_US (INT64_C (400) * 1000)

/* No limit below this unless the user says so (--throttle-floor). */
#define THROTTLE_FLOOR_DEFAULT (UINT64_C (1024) * 1024)

struct throttle {
  uint64_t bytes_per_second; /* 0: none */
  unsigned stricter;         /* how often the target was halved */
  int64_t stepped_us;        /* when it was last changed */
  uint64_t peak_rate;        /* of what became dirty, in this round */
};

/* Bytes per second, of late. */
struct throttle_input {
  uint64_t write_rate; /* what guests write */
  uint64_t dirty_rate; /* what becomes dirty */
  uint64_t copy_rate;  /* what is copied, or could be */
  uint64_t floor;
  bool needed;    /* it would not converge otherwise */
  bool round_end; /* a round has ended */
  int64_t now_us;
};

/* Returns whether the limit has changed. */
extern bool throttle_step (struct throttle *t, const struct throttle_input *in);

/* Whether the loop has come to rest, so that a round tells of its limit. */
extern bool throttle_is_settled (const struct throttle *t, int64_t now_us);

/* A round did not shrink in spite of that: halve the target.  False: it was so
 * often enough.
 */
extern bool throttle_stricter (struct throttle *t);

/* Whether nothing more can be had of it. */
extern bool throttle_is_spent (const struct throttle *t, uint64_t floor);

#endif /* NBDMIGRATE_THROTTLE_H */
