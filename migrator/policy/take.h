/* SPDX-License-Identifier: BSD-3-Clause */
/* How much of a disk is leased at once.  What a guest writes while it is leased
 * is dirty again as soon as it is copied (R1, R2), is not mirrored either
 * (R12), and doubtful after a crash (R7).  So a lease is to last for a moment
 * only: in a slow copy it is small.  In a fast one it is large, as each costs
 * the proxy some work and a question, and where there is nothing but holes it
 * is larger still.
 *
 * Pure: no clock.  Bytes, microseconds.
 */

#ifndef NBDMIGRATE_TAKE_H
#define NBDMIGRATE_TAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd-limits.h"

/* What is taken is copied in about that time, but in the bulk: there guests
 * have most places still before them, and a look ahead finds the data behind
 * holes that are zeroed slowly.
 */
#define TAKE_US 100000

/* Of data, at least and at most. */
#define TAKE_BYTES_MIN (UINT64_C (64) * 1024)
#define TAKE_BYTES_MAX (UINT64_C (32) * 1024 * 1024)

/* As long as it is not known how fast is copied. */
#define TAKE_BYTES_FIRST (UINT64_C (4) * 1024 * 1024)

/* Of holes, and so many times that of data if they are none. */
#define TAKE_BYTES_HOLES (2 * NBD_STATUS_MAX)
#define TAKE_DATA_TIMES 4
#define TAKE_DATA_TIMES_BULK 2

/* A shorter time says nothing of how fast is copied: what is in flight together
 * is often answered together, and then more is taken.
 */
#define TAKE_MEASURED_US 250000

struct take_input {
  uint64_t copied_bytes, moved_bytes; /* all told: as data, of any kind */
  uint64_t busy_us;                   /* time in which something was copied */
  uint64_t limit;                     /* a second; 0: none */
  bool bulk;
};

struct take {     /* all 0 in the beginning */
  uint64_t bytes; /* of the latest in this pass; 0: there was none */
  uint64_t rate;  /* of data while something is copied, a second; 0: unknown */
  uint64_t copied_bytes, busy_us; /* when that was measured */
  struct take_input last;         /* at the latest take */
};

extern void take_begin_pass (struct take *t);

/* How much to take now. */
extern uint64_t take_next (struct take *t, const struct take_input *in);

/* What was taken for holes is none: the next one is of data.  No more of that
 * than take_data_max is to stay leased.
 */
extern void take_data (struct take *t, const struct take_input *in);
extern uint64_t take_data_max (const struct take *t,
                               const struct take_input *in);

#endif /* NBDMIGRATE_TAKE_H */
