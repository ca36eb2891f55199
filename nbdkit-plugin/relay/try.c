/* SPDX-License-Identifier: BSD-3-Clause */
/* One try of each kind of request, with what the destination does not offer
 * made up for: FUA by a flush, parts of blocks by read-modify-write (R19; the
 * request has its range lock), zero by writes, trim and cache by nothing.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "nbd-limits.h"
#include "internal.h"

struct span {
  uint64_t start, end; /* whole blocks around the range */
};

static struct span
whole_blocks (const struct view *v, uint64_t offset, uint64_t length)
{
  const uint64_t mask = v->destination.minimum - 1;

  return (struct span){ offset & ~mask, (offset + length + mask) & ~mask };
}

static int
read_range (struct relay *r, const struct view *v, void *data, uint64_t offset,
            uint64_t length)
{
  const struct command model = {
    .kind = COMMAND_READ,
    .offset = offset,
    .length = length,
    .data = data,
  };

  return remote_transfer (&r->remote, v, NULL, &model, NULL, NULL);
}

int
try_read (struct request *q, const struct view *v)
{
  const struct span s = whole_blocks (v, q->offset, q->length);
  CLEANUP_FREE uint8_t *bounce = NULL;
  int result;

  if (s.end - s.start == q->length)
    return read_range (q->relay, v, q->buf, q->offset, q->length);
  bounce = malloc (s.end - s.start);
  if (bounce == NULL)
    return ENOMEM;
  result = read_range (q->relay, v, bounce, s.start, s.end - s.start);
  if (result == 0)
    memcpy (q->buf, bounce + (q->offset - s.start), q->length);
  return result;
}

/* ---- Write-type requests ----------------------------------------------- */

static uint32_t
fua_flag (const struct request *q, const struct view *v)
{
  return (q->flags & RELAY_FUA) && v->destination.can_fua ? LIBNBD_CMD_FLAG_FUA
                                                          : 0;
}

/* The flush that stands for FUA. */
static int
finish (struct request *q, const struct view *v, int result)
{
  if (result != 0 || !(q->flags & RELAY_FUA) || v->destination.can_fua)
    return result;
  return relay_flush_once (q->relay, v->generation, NULL);
}

/* Read the blocks of which only a part will be written. */
static int
read_edges (struct relay *r, const struct view *v, uint8_t *bounce,
            const struct span *s, uint64_t offset, uint64_t length)
{
  const uint32_t block = v->destination.minimum;
  const uint64_t last = s->end - block;
  int result = 0;

  if (offset != s->start)
    result = read_range (r, v, bounce, s->start, block);
  if (result == 0 && offset + length != s->end &&
      !(offset != s->start && last == s->start))
    result = read_range (r, v, bounce + (last - s->start), last, block);
  return result;
}

static int
write_bytes (struct request *q, const struct view *v, const uint8_t *data,
             uint64_t offset, uint64_t length)
{
  const struct span s = whole_blocks (v, offset, length);
  CLEANUP_FREE uint8_t *bounce = NULL;
  int result;

  if (s.end - s.start == length)
    return relay_write_range (q, v, COMMAND_WRITE, fua_flag (q, v), offset,
                              length, data);
  bounce = malloc (s.end - s.start);
  if (bounce == NULL)
    return ENOMEM;
  result = read_edges (q->relay, v, bounce, &s, offset, length);
  if (result != 0)
    return result;
  memcpy (bounce + (offset - s.start), data, length);
  return relay_write_range (q, v, COMMAND_WRITE, fua_flag (q, v), s.start,
                            s.end - s.start, bounce);
}

int
try_write (struct request *q, const struct view *v)
{
  return finish (q, v, write_bytes (q, v, q->buf, q->offset, q->length));
}

static int
zero_part_of_block (struct request *q, const struct view *v, uint64_t offset,
                    uint64_t length)
{
  CLEANUP_FREE uint8_t *zero = calloc (1, length);

  return zero == NULL ? ENOMEM : write_bytes (q, v, zero, offset, length);
}

static int
zero_bytes (struct request *q, const struct view *v)
{
  const uint64_t mask = v->destination.minimum - 1;
  const uint64_t end = q->offset + q->length;
  uint64_t from = (q->offset + mask) & ~mask, to = end & ~mask;
  uint32_t flags = fua_flag (q, v);
  int result = 0;

  if (from > to) /* inside one block */
    return zero_part_of_block (q, v, q->offset, q->length);
  if (q->flags & RELAY_NO_HOLE)
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (q->flags & RELAY_FAST_ZERO)
    flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
  if (from < to)
    result =
      relay_write_range (q, v, COMMAND_ZERO, flags, from, to - from, NULL);
  if (result == 0 && q->offset < from)
    result = zero_part_of_block (q, v, q->offset, from - q->offset);
  if (result == 0 && to < end)
    result = zero_part_of_block (q, v, to, end - to);
  return result;
}

int
try_zero (struct request *q, const struct view *v)
{
  if ((q->flags & RELAY_FAST_ZERO) && !v->destination.can_fast_zero)
    return EOPNOTSUPP;
  return finish (q, v, zero_bytes (q, v));
}

/* A trim may do less than was asked: what is only a part of a block stays. */
int
try_trim (struct request *q, const struct view *v)
{
  const uint64_t mask = v->destination.minimum - 1;
  const uint64_t from = (q->offset + mask) & ~mask;
  const uint64_t to = (q->offset + q->length) & ~mask;

  if (!v->destination.can_trim || from >= to)
    return finish (q, v, 0);
  return finish (q, v,
                 relay_write_range (q, v, COMMAND_TRIM, fua_flag (q, v), from,
                                    to - from, NULL));
}

/* ---- The others -------------------------------------------------------- */

int
try_cache (struct request *q, const struct view *v)
{
  const struct span s = whole_blocks (v, q->offset, q->length);
  const struct command model = {
    .kind = COMMAND_CACHE,
    .offset = s.start,
    .length = s.end - s.start,
  };

  if (!v->destination.can_cache)
    return 0;
  return remote_transfer (&q->relay->remote, v, NULL, &model, NULL, NULL);
}

int
try_flush (struct request *q, const struct view *v)
{
  return relay_flush_once (q->relay, v->generation, q->seen);
}

/* One command only: the answer may be shorter than the question. */
int
try_block_status (struct request *q, const struct view *v)
{
  struct span s = whole_blocks (v, q->offset, q->length);
  const uint64_t limit = NBD_STATUS_MAX;
  struct command model = {
    .kind = COMMAND_STATUS,
    .offset = s.start,
    .extents = q->extents,
  };

  q->extents->n = 0;
  q->extents->start = s.start;
  if (!v->destination.has_allocation)
    return 0;
  model.length = s.end - s.start < limit ? s.end - s.start : limit;
  return remote_transfer (&q->relay->remote, v, NULL, &model, NULL, NULL);
}
