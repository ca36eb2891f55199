/* SPDX-License-Identifier: BSD-3-Clause */
/* A range becomes commands: as many as the destination's limits need, up to
 * BATCH_MAX of them under way at a time.
 */

#include <errno.h>
#include <stdlib.h>

#include "nbd-limits.h"
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

int
remote_transfer (struct remote *m, const struct view *v,
                 struct connection *only, const struct command *model,
                 uint8_t *copy, bool *unknown)
{
  return transfer (m, v, only, model,
                   command_limit (&v->destination, model->kind), true, copy,
                   unknown);
}

int
remote_transfer_zero (struct remote *m, const struct view *v,
                      struct connection *only, uint32_t flags, uint64_t offset,
                      uint64_t length, bool *unknown)
{
  struct command model = {
    .kind = COMMAND_ZERO,
    .flags = flags,
    .offset = offset,
    .length = length,
  };
  uint64_t limit = v->destination.maximum;
  int result;

  if (v->destination.can_zero) {
    result = remote_transfer (m, v, only, &model, NULL, unknown);
    if (result != ENOTSUP || (flags & LIBNBD_CMD_FLAG_FAST_ZERO))
      return result;
  }
  else if (flags & LIBNBD_CMD_FLAG_FAST_ZERO)
    return EOPNOTSUPP;

  /* A write of zeroes, all pieces from the same place. */
  model.kind = COMMAND_WRITE;
  model.flags = flags & LIBNBD_CMD_FLAG_FUA;
  model.data = zeroes;
  if (limit > ZEROES_BYTES)
    limit = ZEROES_BYTES; /* a multiple of every block */
  return transfer (m, v, only, &model, limit, false, NULL, unknown);
}
