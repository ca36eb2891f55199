/* SPDX-License-Identifier: BSD-3-Clause */
/* How the disks are divided into cells, the units of the referee's knowledge.
 *
 * A cell has odd boundaries, 1 byte to 64 KiB (or multiples of 'align').  Every
 * operation covers whole cells: one, or several that lie side by side.  What no
 * cell covers is never written.  The layout follows from seed, disk sizes and
 * 'max_cells'.
 */

#ifndef REFEREE_LAYOUT_H
#define REFEREE_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_DISKS_MAX 64
#define LAYOUT_CELL_MAX 65536 /* bytes */

struct cell {
  uint64_t offset; /* bytes, on its disk */
  uint32_t length; /* bytes, never 0 */
  uint32_t disk;
};

struct layout {
  uint64_t seed;
  uint64_t max_cells; /* per disk */
  uint64_t align;     /* bytes; 1 for the nastiest layout */
  uint32_t disks;
  uint64_t disk_bytes[LAYOUT_DISKS_MAX];
  size_t first_cell[LAYOUT_DISKS_MAX + 1]; /* the last one is 'n' */
  struct cell *cells;                      /* by disk and offset; owned */
  size_t n, allocated;
};

/* Fill in the cells; seed, max_cells, align, disks and disk_bytes must be set.
 */
extern void layout_build (struct layout *l);
extern void layout_free (struct layout *l);

/* Whether cell i + 1 begins where cell i ends. */
extern bool layout_adjacent (const struct layout *l, size_t i);

#endif /* REFEREE_LAYOUT_H */
