/* SPDX-License-Identifier: BSD-3-Clause */
/* How long the pause would be, and whether more passes make it shorter.
 *
 * Pure functions: numbers in, numbers out.
 */

#ifndef NBDMIGRATE_FORECAST_H
#define NBDMIGRATE_FORECAST_H

#include <stdbool.h>
#include <stdint.h>

#define FORECAST_PASSES 5  /* without progress: it does not converge */
#define FORECAST_MISSES 10 /* gates in a row that missed their deadline */
#define FORECAST_NEVER UINT64_MAX

struct forecast_input {
  uint64_t remaining_bytes;  /* D + L + in flight, all disks */
  uint64_t bytes_per_second; /* measured copy bandwidth; 0: not known yet */
  uint64_t flush_us;         /* the last flush of the destination */
  uint64_t round_trips_us;   /* control and NBD round trips of a final pass */
};

/* The predicted pause in milliseconds, rounded up; FORECAST_NEVER if bytes
 * remain and the bandwidth is not known.
 */
extern uint64_t forecast_pause_ms (const struct forecast_input *in);

/* Whether a guest that makes so much dirty a second leaves the copy no chance:
 * nine tenths of its speed count, as a guest that has made all dirty it ever
 * writes to can only repeat what was copied meanwhile.
 */
extern bool forecast_is_outrun (uint64_t dirty_rate, uint64_t copy_rate);

/* Remembers the best prediction so far, and by how much the pause was too long
 * when there was progress last.
 */
struct forecast {
  uint64_t best_ms;
  uint64_t excess_ms;
  unsigned stale_passes; /* dirty passes since then */
};

extern void forecast_init (struct forecast *f);

/* Note the prediction after a dirty pass, which is above the limit.  Progress
 * is that what is above it has become less by a third.  Returns false when
 * FORECAST_PASSES passes in a row brought none: a guest that leaves the copy a
 * chance (forecast_is_outrun) leaves it more, and lucky passes can make up for
 * it a few times only, so that it ends.
 */
extern bool forecast_note (struct forecast *f, uint64_t predicted_ms,
                           uint64_t limit_ms);

#endif /* NBDMIGRATE_FORECAST_H */
