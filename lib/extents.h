/* SPDX-License-Identifier: BSD-3-Clause */
/* A list of byte ranges.  Not locked. */

#ifndef NBDMIGRATE_EXTENTS_H
#define NBDMIGRATE_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
  uint64_t offset; /* bytes */
  uint64_t length; /* bytes, never 0 */
  bool touched;    /* the destination may have been written here (R18) */
};

struct extents {
  struct extent *v; /* owned by the list */
  size_t n;
  size_t allocated;
};

#define EXTENTS_EMPTY ((struct extents){ NULL, 0, 0 })
#define CLEANUP_EXTENTS __attribute__ ((cleanup (extents_free)))

/* Add a range; an empty one adds nothing.  It is merged into the last one when
 * it begins where that one ends and has the same 'touched'.  Returns -1 with
 * errno set when there is no memory, or when it ends past 2^64 - 1 (EOVERFLOW).
 */
extern int extents_append (struct extents *e, uint64_t offset, uint64_t length,
                           bool touched) __attribute__ ((warn_unused_result));

/* Sort by offset and merge ranges that touch or overlap; 'touched' of a
 * merged range is true if it was true in one of them.
 */
extern void extents_normalise (struct extents *e);

/* The sum of the lengths, in bytes; UINT64_MAX if it is more than that. */
extern uint64_t extents_bytes (const struct extents *e);

/* Forget all ranges, keep the memory; release the memory. */
extern void extents_clear (struct extents *e);
extern void extents_free (struct extents *e);

#endif /* NBDMIGRATE_EXTENTS_H */
