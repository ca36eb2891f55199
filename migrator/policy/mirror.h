/* SPDX-License-Identifier: BSD-3-Clause */
/* When guests' writes are mirrored: late, and not to a destination that is
 * slower than guests can wait for.
 *
 * A mirrored write waits for both sides, so mirroring is for what tracking
 * cannot do: the rest of a copy that does not shrink any more.  The filter ends
 * it by itself when the destination takes longer than 'max_ms' for an answer (a
 * demotion); it is tried again after a wait that grows.  Pure.
 */

#ifndef NBDMIGRATE_MIRROR_H
#define NBDMIGRATE_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

/* As the filters say, the worst of all disks. */
enum mirror_state {
  MIRROR_OFF,
  MIRROR_STARTING,
  MIRROR_ON,
};

/* A demotion ends a mirrored write's wait: a third of the pause leaves room for
 * the pause itself, within these bounds; but it is never longer than the pause,
 * which the filter would refuse (migrate-max-gate).
 */
#define MIRROR_WAIT_DIVISOR 3
#define MIRROR_WAIT_MIN_MS 10
#define MIRROR_WAIT_MAX_MS 100

/* It is not begun when even the fastest write of the copy takes longer than
 * this part of it.
 */
#define MIRROR_SLOW_DIVISOR 2

/* After a demotion it is off for so long, after each further one twice as long;
 * after so many it is not tried again.
 */
#define MIRROR_AGAIN_US (INT64_C (2) * 1000000)
#define MIRROR_AGAIN_FACTOR 2
#define MIRROR_DEMOTIONS_MAX 5

/* What went before is forgotten once it was on for so long. */
#define MIRROR_GOOD_US (INT64_C (60) * 1000000)

/* Starting (connections to the destination) may take so long. */
#define MIRROR_START_US (INT64_C (15) * 1000000)

struct mirror {
  bool wanted;
  bool refused;        /* a filter cannot: not asked again */
  unsigned demotions;  /* seen */
  unsigned failures;   /* demotions, and starts that came to nothing */
  int64_t asked_us;    /* when it was asked for, or last on */
  int64_t on_since_us; /* 0: it has not been, since it was asked for */
  int64_t not_before_us;
};

struct mirror_input {
  enum mirror_state state;
  unsigned demotions; /* of this session, the sum over the disks */
  bool refused;
  uint64_t destination_us; /* a write takes there; 0: not known */
  uint64_t max_pause_ms;
  int64_t now_us;
};

/* Of an answer to a mirrored write: max_ms of the filter's command. */
extern uint64_t mirror_wait_ms (uint64_t max_pause_ms);

/* Take note of demotions, refusals, and a start that takes too long.  Returns
 * whether it is not wanted any more because of that.
 */
extern bool mirror_note (struct mirror *m, const struct mirror_input *in);

enum mirror_verdict {
  MIRROR_MAY,    /* it can be begun */
  MIRROR_LATER,  /* not before m->not_before_us */
  MIRROR_SLOW,   /* the destination is too slow now */
  MIRROR_CANNOT, /* refused, or demoted too often */
};
extern enum mirror_verdict mirror_judge (const struct mirror *m,
                                         const struct mirror_input *in);

extern void mirror_begin (struct mirror *m, int64_t now_us);

/* It does nothing: as after a demotion. */
extern void mirror_fail (struct mirror *m, int64_t now_us);
extern void mirror_end (struct mirror *m);

#endif /* NBDMIGRATE_MIRROR_H */
