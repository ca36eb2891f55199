/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading a disk in pieces: cells, and what lies between them.
 *
 * Neighbouring pieces are read with one request.  On a very large disk what the
 * server calls zero is not read.
 */

#include "verify.h"

#include <inttypes.h>
#include <string.h>

#include <libnbd.h>

#include "util.h"

#define BATCH_BYTES (1024 * 1024)
#define ASK_FIRST (UINT64_C (4) << 30)  /* larger disks are asked for holes */
#define ASK_LENGTH (UINT64_C (1) << 30) /* per question */
#define BLOCK_MAX 65536                 /* the largest minimum block */
#define NO_CELL SIZE_MAX

struct reader {
  struct verdict *v;
  struct nbd_handle *nbd;
  uint32_t disk;
  uint64_t size;
  uint64_t position;    /* everything before it was dealt with */
  size_t cell;          /* the next one */
  uint64_t zero_until;  /* the server said that it is zero from here */
  uint64_t asked_until; /* it was asked up to here */
  uint64_t min, max;    /* of the server's requests */
  uint8_t *buf;         /* BATCH_BYTES + LAYOUT_CELL_MAX + 2 * BLOCK_MAX */
};

struct piece {
  size_t cell; /* or NO_CELL */
  uint32_t length;
};

/* The piece at an offset, where 'cell' is the next cell. */
static struct piece
piece_at (const struct reader *r, uint64_t offset, size_t cell)
{
  const struct layout *const l = &r->v->record.layout;
  uint64_t end = r->size;

  if (cell < l->first_cell[r->disk + 1]) {
    if (l->cells[cell].offset == offset)
      return (struct piece){ cell, l->cells[cell].length };
    end = l->cells[cell].offset;
  }
  if (end - offset > LAYOUT_CELL_MAX)
    end = offset + LAYOUT_CELL_MAX;
  return (struct piece){ NO_CELL, end - offset };
}

/* ---- Holes ------------------------------------------------------------- */

/* Remembers the first run of zeroes. */
static int
on_extent (void *opaque, const char *context, uint64_t offset,
           uint32_t *entries, size_t nr_entries, int *error)
{
  struct reader *const r = opaque;

  (void)error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || nr_entries < 2 ||
      offset != r->position)
    return 0;
  r->asked_until = offset + entries[0];
  r->zero_until = entries[1] & LIBNBD_STATE_ZERO ? offset + entries[0] : offset;
  return 0;
}

static bool
is_zero (struct reader *r, uint64_t end)
{
  const nbd_extent_callback cb = { .callback = on_extent, .user_data = r };
  const uint64_t rest = r->size - r->position;

  if (r->size < ASK_FIRST ||
      nbd_can_meta_context (r->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1)
    return false;
  if (r->asked_until <= r->position &&
      nbd_block_status (r->nbd, rest < ASK_LENGTH ? rest : ASK_LENGTH,
                        r->position, cb, 0) == -1)
    die (EXIT_BROKEN, "block status at %" PRIu64 ": %s", r->position,
         nbd_get_error ());
  return r->zero_until >= end;
}

/* ---- Reading ----------------------------------------------------------- */

static void
judge (struct reader *r, struct piece p, const uint8_t *buf)
{
  if (p.cell == NO_CELL)
    verify_gap (r->v, r->disk, r->position, buf, p.length);
  else {
    verify_cell (r->v, p.cell, buf);
    r->cell++;
  }
  r->position += p.length;
}

/* One piece that is known to be zero; false if the next one is not. */
static bool
skip_zero (struct reader *r)
{
  const struct piece p = piece_at (r, r->position, r->cell);

  if (!is_zero (r, r->position + p.length))
    return false;
  memset (r->buf, 0, p.length);
  judge (r, p, r->buf);
  return true;
}

/* Read [offset, end) in requests that the server takes.  Returns where in the
 * buffer the first byte is.
 */
static const uint8_t *
read_range (struct reader *r, uint64_t offset, uint64_t end)
{
  const uint64_t begin = offset - offset % r->min;
  uint8_t *p = r->buf;

  end += (r->min - end % r->min) % r->min;
  for (uint64_t i = begin; i < end; i += r->max) {
    const size_t n = end - i < r->max ? end - i : r->max;

    if (nbd_pread (r->nbd, p, n, i, 0) == -1)
      die (EXIT_BROKEN, "%s: reading at %" PRIu64 ": %s",
           r->v->o->uris[r->disk], i, nbd_get_error ());
    p += n;
  }
  return r->buf + (offset - begin);
}

static void
read_batch (struct reader *r)
{
  uint64_t end = r->position;
  size_t cell = r->cell;
  const uint8_t *p;

  while (end < r->size && end - r->position < BATCH_BYTES) {
    const struct piece piece = piece_at (r, end, cell);

    cell += piece.cell != NO_CELL;
    end += piece.length;
  }
  p = read_range (r, r->position, end);
  while (r->position < end) {
    const struct piece piece = piece_at (r, r->position, r->cell);

    judge (r, piece, p);
    p += piece.length;
  }
}

/* A multiple of the minimum, so that all requests but the last are aligned. */
static void
learn_limits (struct reader *r)
{
  const int64_t min = nbd_get_block_size (r->nbd, LIBNBD_SIZE_MINIMUM);
  const int64_t max = nbd_get_block_size (r->nbd, LIBNBD_SIZE_MAXIMUM);

  r->min = min > 0 ? min : 1;
  if (r->min > BLOCK_MAX)
    die (EXIT_BROKEN, "a minimum block of %" PRIu64 " bytes", r->min);
  r->max = max > 0 && max < BATCH_BYTES ? max : BATCH_BYTES;
  r->max -= r->max % r->min;
}

void
verify_read (struct verdict *v, uint32_t disk)
{
  const char *const uri = v->o->uris[disk];
  struct reader r = { .v = v, .nbd = nbd_create (), .disk = disk };
  int64_t size;

  if (r.nbd == NULL || nbd_set_uri_allow_local_file (r.nbd, true) == -1 ||
      nbd_add_meta_context (r.nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_connect_uri (r.nbd, uri) == -1 || (size = nbd_get_size (r.nbd)) == -1)
    die (EXIT_BROKEN, "%s: %s", uri, nbd_get_error ());
  r.size = v->record.layout.disk_bytes[disk];
  if ((uint64_t)size < r.size)
    die (EXIT_WRONG, "%s: the disk has %" PRIi64 " bytes instead of %" PRIu64,
         uri, size, r.size);
  r.cell = v->record.layout.first_cell[disk];
  learn_limits (&r);
  r.buf = xcalloc (1, BATCH_BYTES + LAYOUT_CELL_MAX + 2 * BLOCK_MAX);
  while (r.position < r.size)
    if (!skip_zero (&r))
      read_batch (&r);
  free (r.buf);
  nbd_shutdown (r.nbd, 0);
  nbd_close (r.nbd);
}
