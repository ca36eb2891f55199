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

/* So much of the copy's speed, in hundredths, is there to gain on the guest. */
#define FORECAST_GAIN_PERCENT 90

/* So much of a disk, in hundredths, must be clean to see what becomes dirty. */
#define FORECAST_CLEAN_PERCENT 2

/* The shortest of so many questions is what one in the pause takes. */
#define FORECAST_TRIPS 4

struct forecast_trips { /* all 0 in the beginning */
  uint64_t us[FORECAST_TRIPS];
  unsigned n; /* noted so far */
};

/* Note how long a question to the proxies has taken; what one takes when
 * nothing is copied beside it.
 */
extern uint64_t forecast_trip (struct forecast_trips *t, uint64_t us);

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
 * FORECAST_GAIN_PERCENT of its speed count, as a guest that has made all dirty
 * it ever writes to can only repeat what was copied meanwhile.
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

/* No pass before counts, but what the best one would have needed is known. */
extern void forecast_restart (struct forecast *f);

/* Note the prediction after a dirty pass, which is above the limit.  Progress
 * is that what is above it has become less by a third.  Returns false when
 * FORECAST_PASSES passes in a row brought none: a guest that leaves the copy a
 * chance (forecast_is_outrun) leaves it more, and lucky passes can make up for
 * it a few times only, so that it ends.
 */
extern bool forecast_note (struct forecast *f, uint64_t predicted_ms,
                           uint64_t limit_ms);

/* ---- under load -------------------------------------------------------- */

/* What the load of late comes to if it stays as it is, from the first seconds
 * on.  Bytes, bytes a second; rates as in policy_snapshot.
 */
struct forecast_load {
  uint64_t remaining_bytes;
  uint64_t disk_bytes;
  uint64_t pause_rate; /* of the copy, in the pause */
  uint64_t copy_rate;  /* the same before it: with --rate, backing off */
  uint64_t dirty_rate, redirty_rate;
  uint64_t touch_rate;  /* chunks that guests touch, dirty or not */
  uint64_t guest_bytes; /* touched so far */
  uint64_t overhead_us; /* of the pause */
  uint64_t max_pause_ms;
  bool bulk; /* the first round is under way */
};

enum forecast_verdict {
  FORECAST_UNKNOWN, /* too little was copied yet */
  FORECAST_CONVERGES,
  FORECAST_DIVERGES, /* it will not converge at this load */
};

struct forecast_outlook {
  enum forecast_verdict verdict;
  uint64_t touch_rate; /* that counts: chunks, each once a round */
  uint64_t set_bytes;  /* what they write to again and again, at most */
  uint64_t rest_bytes; /* what copying for ever leaves dirty */
  uint64_t pause_ms;   /* of that rest; FORECAST_NEVER: not known */
  uint64_t end_ms; /* until the pause fits; FORECAST_NEVER: never, unknown */
};

extern struct forecast_outlook forecast_outlook (const struct forecast_load *l);

#endif /* NBDMIGRATE_FORECAST_H */
