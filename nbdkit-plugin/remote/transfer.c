/* SPDX-License-Identifier: BSD-3-Clause */
/* A range becomes commands: as many as the destination's limits need, up to
 * BATCH_MAX of them under way at a time.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "nbd-limits.h"
#include "zero-align.h"
#include "copy.h"
#include "remote.h"

#define ZEROES_BYTES (1024 * 1024)
static uint8_t zeroes[ZEROES_BYTES]; /* never written; not in the file so */

static uint64_t
command_limit (const struct destination *d, enum command_kind kind)
{
  switch (kind) {
  case COMMAND_READ:
  case COMMAND_WRITE:
    return d->maximum;
  case COMMAND_ZERO:
  case COMMAND_TRIM:
  case COMMAND_CACHE:
    return d->zero_maximum;
  case COMMAND_STATUS:
    return NBD_STATUS_MAX;
  case COMMAND_FLUSH:
    break; /* is about no range */
  }
  abort ();
}

/* Fill the batch from the range; returns how far it got. */
static uint64_t
add_pieces (struct batch *b, const struct command *model, uint64_t done,
            uint64_t limit, bool advance)
{
  while (done < model->length && b->n < BATCH_MAX) {
    const uint64_t left = model->length - done;
    const uint64_t length = left < limit ? left : limit;
    uint8_t *data = model->data;

    if (advance && data != NULL)
      data += done;
    batch_add (b, model->kind, model->flags, model->offset + done, length, data)
      ->extents = model->extents;
    done += length;
  }
  return done;
}

static int
transfer (struct remote *m, const struct view *v, struct connection *only,
          const struct command *model, uint64_t limit, bool advance,
          uint8_t *copy, bool *unknown)
{
  struct batch b;
  uint64_t done = 0;
  int result = 0;

  batch_init (&b, v->generation);
  while (result == 0 && done < model->length) {
    done = add_pieces (&b, model, done, limit, advance);
    batch_send (m, &b, only);
    if (copy != NULL) {
      copy_past_caches (copy, model->data, model->length);
      copy = NULL;
    }
    result = batch_wait (m, &b);
  }
  if (unknown != NULL && b.unknown)
    *unknown = true;
  batch_destroy (&b);
  return result;
}

/* ---- Without data ------------------------------------------------------ */

/* A server that zeroes slowly would keep a guest, and everything that overlaps,
 * waiting for the whole length, with nothing known before the end; and some do
 * nothing else meanwhile.  So pieces follow one another, and their length
 * follows what the last one took.
 */
#define PIECE_FIRST (UINT32_C (4) << 20)
#define PIECE_LEAST REMOTE_PIECE_SMALL
#define PIECE_FAST_MS 100
#define PIECE_SLOW_MS 500

_Static_assert(PIECE_LEAST >= 65536, "a piece has whole blocks");
_Static_assert(PIECE_FIRST <= NBD_ZERO_MAX, "no piece is longer than that");

void
remote_init_pieces (struct remote *m)
{
  m->piece_bytes = PIECE_FIRST;
}

static void
adapt_pieces (struct remote *m, int64_t took_ms, uint64_t length)
{
  const uint64_t now = __atomic_load_n (&m->piece_bytes, __ATOMIC_RELAXED);
  uint64_t next = now;

  if (took_ms >= PIECE_SLOW_MS && length <= now && now > PIECE_LEAST)
    next = now / 2;
  else if (took_ms < PIECE_FAST_MS && length == now && now < NBD_ZERO_MAX)
    next = now * 2;
  __atomic_store_n (&m->piece_bytes, next, __ATOMIC_RELAXED);
}

/* Zero or trim a range. */
static int
transfer_pieces (struct remote *m, const struct view *v,
                 struct connection *only, const struct command *model,
                 bool *unknown)
{
  const uint64_t limit = command_limit (&v->destination, model->kind);
  struct command piece = *model;
  uint64_t done = 0, length;
  int64_t start_ms;
  int result = 0;

  while (result == 0 && done < model->length) {
    length = __atomic_load_n (&m->piece_bytes, __ATOMIC_RELAXED);
    if (length > limit)
      length = limit;
    if (length > model->length - done)
      length = model->length - done;
    piece.offset = model->offset + done;
    piece.length = length;
    start_ms = clock_ms ();
    result = transfer (m, v, only, &piece, length, true, NULL, unknown);
    if (result == 0)
      adapt_pieces (m, clock_ms () - start_ms, length);
    done += length;
  }
  return result;
}

/* Send the middle of the range, [*from, *to), that is made of units which the
 * server takes; until it takes them.  What is left at both ends is the
 * caller's.
 */
static int
transfer_middle (struct remote *m, const struct view *v,
                 struct connection *only, const struct command *range,
                 _Atomic uint32_t *align, uint64_t *from, uint64_t *to,
                 bool *unknown)
{
  struct command model = *range;
  int result = EINVAL;

  while (result == EINVAL) {
    const uint32_t unit = *align;

    zero_align_middle (unit, range->offset, range->length, from, to);
    if (*from == *to)
      return 0;
    model.offset = *from;
    model.length = *to - *from;
    result = transfer_pieces (m, v, only, &model, unknown);
    if (result == EINVAL)
      *align = zero_align_next (unit, model.offset, model.length);
  }
  return result;
}

int
remote_transfer (struct remote *m, const struct view *v,
                 struct connection *only, const struct command *model,
                 uint8_t *copy, bool *unknown)
{
  uint64_t from, to;

  if (model->kind == COMMAND_TRIM)
    return transfer_middle (m, v, only, model, &m->trim_align, &from, &to,
                            unknown);
  return transfer (m, v, only, model,
                   command_limit (&v->destination, model->kind), true, copy,
                   unknown);
}

/* A write of zeroes, all pieces from the same place. */
static int
write_zeroes (struct remote *m, const struct view *v, struct connection *only,
              uint32_t flags, uint64_t offset, uint64_t end, bool *unknown)
{
  const uint64_t most = v->destination.maximum;
  const struct command model = {
    .kind = COMMAND_WRITE,
    .flags = flags & LIBNBD_CMD_FLAG_FUA,
    .offset = offset,
    .length = end - offset,
    .data = zeroes,
  };

  /* ZEROES_BYTES is a multiple of every block. */
  return transfer (m, v, only, &model,
                   most < ZEROES_BYTES ? most : ZEROES_BYTES, false, NULL,
                   unknown);
}

/* ENOTSUP if the destination does not do it by itself. */
static int
zero_by_itself (struct remote *m, const struct view *v, struct connection *only,
                const struct command *model, bool *unknown)
{
  const uint64_t end = model->offset + model->length;
  uint64_t from, to;
  int result;

  if (!v->destination.can_zero || m->zero_align == ZERO_ALIGN_NEVER)
    return ENOTSUP;
  result =
    transfer_middle (m, v, only, model, &m->zero_align, &from, &to, unknown);
  if (result == 0 && m->zero_align == ZERO_ALIGN_NEVER)
    return ENOTSUP;
  if (result == 0 && from > model->offset)
    result =
      write_zeroes (m, v, only, model->flags, model->offset, from, unknown);
  if (result == 0 && to < end)
    result = write_zeroes (m, v, only, model->flags, to, end, unknown);
  return result;
}

int
remote_transfer_zero (struct remote *m, const struct view *v,
                      struct connection *only, uint32_t flags, uint64_t offset,
                      uint64_t length, bool *unknown)
{
  const struct command model = {
    .kind = COMMAND_ZERO,
    .flags = flags,
    .offset = offset,
    .length = length,
  };
  const int result = zero_by_itself (m, v, only, &model, unknown);

  if (result != ENOTSUP)
    return result;
  if (flags & LIBNBD_CMD_FLAG_FAST_ZERO)
    return EOPNOTSUPP;
  return write_zeroes (m, v, only, flags, offset, offset + length, unknown);
}

static bool
is_aligned (uint32_t align, uint64_t offset, uint64_t length)
{
  return align != ZERO_ALIGN_NEVER && (offset | length) % align == 0;
}

bool
remote_takes_zero (struct remote *m, uint64_t offset, uint64_t length)
{
  return is_aligned (m->zero_align, offset, length);
}

bool
remote_takes_trim (struct remote *m, uint64_t offset, uint64_t length)
{
  return is_aligned (m->trim_align, offset, length);
}
