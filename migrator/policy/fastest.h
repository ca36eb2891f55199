/* SPDX-License-Identifier: BSD-3-Clause */
/* What one small request takes at a server: the fastest of late, since all
 * others waited for something of ours as well (requests before it, a
 * processor). What the copy sends is long, and a guest's request may be short:
 * so what no server can need less for, moving the bytes, does not count.
 *
 * Of late is the present pass and the one before: the first requests of a pass
 * find nothing else in flight.  No clock: a pass without any changes nothing.
 */

#ifndef NBDMIGRATE_FASTEST_H
#define NBDMIGRATE_FASTEST_H

#include <stdint.h>

/* Bytes in a microsecond that nobody exceeds with one request. */
#define FASTEST_BYTES_PER_US 4000

struct fastest { /* all 0 in the beginning */
  uint64_t us;   /* in this pass; 0: none */
  uint64_t before_us;
};

extern void fastest_begin_pass (struct fastest *f);
extern void fastest_note (struct fastest *f, int64_t us, uint64_t bytes);

/* 0: not known. */
extern uint64_t fastest_us (const struct fastest *f);

#endif /* NBDMIGRATE_FASTEST_H */
