/* SPDX-License-Identifier: BSD-3-Clause */
/* What guests write and make dirty in a second, of late.
 *
 * Bytes are summed in slots of 100 ms, of which the latest ten are kept: the
 * rate is the mean over about the last second, and 0 a second after the last
 * write.  In the first second it is too low rather than too high.
 * Not locked; the caller passes the monotonic time.
 */

#ifndef NBDMIGRATE_DIRTYRATE_H
#define NBDMIGRATE_DIRTYRATE_H

#include <stdint.h>

#include "dirt.h"

#define DIRTY_RATE_SLOTS 10
#define DIRTY_RATE_SLOT_MS 100

struct dirty_rate {
  int64_t newest; /* number of the newest slot: time / DIRTY_RATE_SLOT_MS */
  struct dirt slots[DIRTY_RATE_SLOTS]; /* slot n is at n % DIRTY_RATE_SLOTS */
};

extern void dirty_rate_init (struct dirty_rate *r);
extern void dirty_rate_add (struct dirty_rate *r, int64_t now_ms,
                            const struct dirt *d);

/* Bytes per second. */
extern struct dirt dirty_rate_get (struct dirty_rate *r, int64_t now_ms);

#endif /* NBDMIGRATE_DIRTYRATE_H */
