/* SPDX-License-Identifier: BSD-3-Clause */
/* Where something was copied last, and flushed, by this run or by the one that
 * it goes on from.
 *
 * A destination that was lost and comes back as it was some time ago, or as the
 * other one of two copies that take turns at one address, differs there (R6a,
 * R20); a few random places would hardly find that.
 *
 * Whoever compares takes a lease on what is clean: what stands here and is not,
 * as it was written again or the flush did not count, is passed over.
 */

#ifndef NBDMIGRATE_LATEST_H
#define NBDMIGRATE_LATEST_H

#include <stdint.h>

#include "extents.h"
#include "protocol.h"

/* All zeroes is empty, as of the next one. */
struct latest_places {
  uint64_t offsets[PROTOCOL_LATELY_MAX]; /* bytes; no two are the same */
  unsigned n;
  unsigned next; /* the oldest, when there are so many */
};

struct latest {
  struct latest_places copied;   /* and reported */
  struct latest_places flushing; /* when the flush under way was begun */
  struct latest_places flushed;
};

/* An earlier run has copied this place, and flushed it. */
extern void latest_told (struct latest *l, uint64_t offset);

/* The proxy is told that these ranges were copied: before 'flush-begin', if
 * that flush is to count for them (R6).
 */
extern void latest_copied (struct latest *l, const struct extents *e);

/* The proxy is asked to begin a flush; it has ended with success. */
extern void latest_begin_flush (struct latest *l);
extern void latest_end_flush (struct latest *l);

#endif /* NBDMIGRATE_LATEST_H */
