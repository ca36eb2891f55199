/* SPDX-License-Identifier: BSD-3-Clause */
/* Cells from a seed.
 *
 * A small disk is tiled without gaps.  A large one has groups of cells spread
 * over it; the first group begins with the disk's first byte, the last one
 * ends with its last, because ends are where mistakes are.
 */

#include "layout.h"

#include "content.h"
#include "util.h"

#define GROUP 16 /* cells lying side by side on a large disk */

static void
add_cell (struct layout *l, uint32_t disk, uint64_t offset, uint32_t length)
{
  if (l->n == l->allocated) {
    l->allocated = l->allocated ? l->allocated * 2 : 1024;
    l->cells = xrealloc (l->cells, l->allocated * sizeof *l->cells);
  }
  l->cells[l->n++] = (struct cell){ offset, length, disk };
}

/* All orders of magnitude are equally likely. */
static uint32_t
cell_length (struct rng *r, uint64_t align)
{
  const uint32_t top = UINT32_C (1) << rng_below (r, 17);
  const uint32_t length = top / 2 + 1 + rng_below (r, top - top / 2);

  return (length + align - 1) / align * align;
}

/* Cells side by side in [offset, end), at most 'max'.  Returns where the last
 * one ends.
 */
static uint64_t
tile (struct layout *l, uint32_t disk, struct rng *r, uint64_t offset,
      uint64_t end, uint64_t max)
{
  while (offset < end && max-- > 0) {
    uint32_t length = cell_length (r, l->align);

    if (length > LAYOUT_CELL_MAX)
      length = LAYOUT_CELL_MAX;
    if (length > end - offset)
      length = end - offset;
    add_cell (l, disk, offset, length);
    offset += length;
  }
  return offset;
}

/* Moves the cells from 'first' on so that the last ends at 'end'. */
static void
shift (struct layout *l, size_t first, uint64_t by)
{
  for (size_t i = first; i < l->n; i++)
    l->cells[i].offset += by;
}

static void
scatter (struct layout *l, uint32_t disk, struct rng *r)
{
  const uint64_t size = l->disk_bytes[disk];
  const uint64_t groups = l->max_cells < GROUP ? 1 : l->max_cells / GROUP;
  const uint64_t zone = size / groups / l->align * l->align;

  for (uint64_t i = 0; i < groups; i++) {
    const uint64_t begin = i * zone;
    const uint64_t end = i + 1 == groups ? size : begin + zone;
    const size_t first = l->n;
    const uint64_t stop = tile (l, disk, r, begin, end, GROUP);

    if (i + 1 == groups && groups > 1)
      shift (l, first, end - stop);
    else if (i > 0)
      shift (l, first, rng_below (r, (end - stop) / l->align + 1) * l->align);
  }
}

void
layout_build (struct layout *l)
{
  for (uint32_t disk = 0; disk < l->disks; disk++) {
    struct rng r = { content_mix (l->seed ^ (disk + 1)) };
    const struct rng again = r;
    const size_t first = l->n;

    l->first_cell[disk] = first;
    if (tile (l, disk, &r, 0, l->disk_bytes[disk], l->max_cells) <
        l->disk_bytes[disk]) {
      l->n = first;
      r = again;
      scatter (l, disk, &r);
    }
  }
  l->first_cell[l->disks] = l->n;
}

void
layout_free (struct layout *l)
{
  free (l->cells);
  l->cells = NULL;
  l->n = l->allocated = 0;
}

bool
layout_adjacent (const struct layout *l, size_t i)
{
  return i + 1 < l->n && l->cells[i].disk == l->cells[i + 1].disk &&
         l->cells[i].offset + l->cells[i].length == l->cells[i + 1].offset;
}
