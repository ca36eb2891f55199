/* SPDX-License-Identifier: BSD-3-Clause */
/* Measures a migration: how fast it copies, how far the pass is.
 *
 * Bandwidth is measured over the time in which something was being copied, so
 * that a rate limit or an idle guest does not make it look slow; recent bytes
 * weigh more than old ones.
 */

#ifndef NBDMIGRATE_METER_H
#define NBDMIGRATE_METER_H

#include <stdbool.h>
#include <stdint.h>

struct meter {
  /* Totals of all disks when meter_update was last called. */
  uint64_t copied_bytes, compared_bytes, moved_bytes;
  uint64_t busiest_us; /* since then, of the busiest disk */
  int64_t updated_us;
  /* Decaying sums. */
  struct meter_speed {
    double bytes, busy_us;
  } recent, held; /* as fast as it goes; while something of ours held it up */
  bool holds;
  double recent_copied, recent_moved, recent_us;
  /* The pass. */
  uint64_t pass_begin_bytes; /* moved_bytes when it began */
  uint64_t pass_total_bytes; /* as it was expected */
  unsigned percent;          /* runs backwards only when that was too little */
};

/* Bring it up to date with the totals so far.  Before, meter_busy for each
 * disk: for how long something was being copied there since the last time. (The
 * disks are copied side by side, so the longest counts.)
 */
extern void meter_busy (struct meter *m, uint64_t busy_us);

/* Also before: a rate has held the copying up since the last time.  It could go
 * faster than it does then.  (Not for backing off for guests: that ends with
 * the bulk, and what was held up would count for ever after.)
 */
extern void meter_hold (struct meter *m);
extern void meter_update (struct meter *m, uint64_t copied_bytes,
                          uint64_t compared_bytes, uint64_t moved_bytes,
                          int64_t now_us);

/* Bandwidth of copying and comparing in bytes per second, 0: not known yet.
 * What was held up counts only where it was faster even so.
 */
extern uint64_t meter_bandwidth (const struct meter *m);

/* Bytes per second by the clock, of late: sent as data; done in any way. */
extern uint64_t meter_throughput (const struct meter *m);
extern uint64_t meter_pace (const struct meter *m);

/* What comes is of another kind: the pace so far says nothing of it. */
extern void meter_forget_pace (struct meter *m);

/* The first round is over.  Those to come copy what guests have written here
 * and there, which is slower than long ranges one after the other: as soon as
 * they have copied for some milliseconds it is theirs that counts.
 */
extern void meter_end_bulk (struct meter *m);

/* A pass of so much, as far as is known.  The guest may add to it while it is
 * under way; once more was done than that, all that is left counts as its rest.
 */
extern void meter_start_pass (struct meter *m, uint64_t total_bytes);
extern uint64_t meter_pass_bytes (const struct meter *m);
extern bool meter_overran (const struct meter *m);
extern uint64_t meter_pass_total (const struct meter *m, uint64_t left_bytes);

/* 0 to 99; 100 is for who knows that the pass is complete. */
extern unsigned meter_percent (struct meter *m, uint64_t left_bytes);

#endif /* NBDMIGRATE_METER_H */
