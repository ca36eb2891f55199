/* SPDX-License-Identifier: BSD-3-Clause */
/* What the copy engine gives up before it has begun with it. */

#include <stdlib.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"

static void
drop (struct copier *c, struct queue *q)
{
  while (q->first != NULL) {
    const struct segment s = queue_cut (q, UINT64_MAX);

    copier_ended_range (c, s.offset, s.length, COPY_FAILED);
  }
}

/* Whether there was anything. */
static bool
give_back (struct copier *c, struct queue *q, uint64_t from)
{
  struct queue kept;
  bool some = false;

  queue_init (&kept);
  while (q->first != NULL) {
    struct segment s = queue_cut (q, UINT64_MAX);
    const uint64_t here = s.offset >= from             ? 0
                          : s.length < from - s.offset ? s.length
                                                       : from - s.offset;

    if (here > 0 &&
        queue_append (&kept, s.offset, here, s.kind, s.touched) == -1)
      no_memory (); /* a leased range must not be forgotten */
    if (here == s.length)
      continue;
    copier_ended_range (c, s.offset + here, s.length - here, COPY_FAILED);
    some = true;
  }
  *q = kept;
  if (q->first == NULL)
    q->last = &q->first;
  return some;
}

uint64_t
copier_give_back (struct copier *c, uint64_t data_bytes)
{
  const struct segment *s;
  uint64_t data = 0, from = 0;
  bool some;

  if (c->lookups != NULL || copier_backlog (c) <= data_bytes)
    return UINT64_MAX;
  for (s = c->ready.first; s != NULL && data <= data_bytes; s = s->next)
    if (s->kind == SEGMENT_DATA) {
      data += s->length;
      from = s->offset + s->length;
    }
  if (data <= data_bytes)
    return UINT64_MAX;
  from = round_up (from - (data - data_bytes), c->options.chunk_bytes);
  some = give_back (c, &c->ready, from);
  some |= give_back (c, &c->unknown, from);
  return some ? from : UINT64_MAX;
}

/* A flush that is owed, and no connection is left to send it over. */
static void
drop_owed (struct copier *c)
{
  if (!c->owed_due || endpoint_any_alive (c->destination))
    return;
  c->owed_due = false;
  c->flushes--;
  c->flush_failed = true;
  c->flushing &= c->flushes > 0 || c->flushes_beside > 0;
}

/* Requests that wait for a connection to be made anew (renew.h). */
static void
drop_unsent (struct copier *c)
{
  const struct endpoint *reader = c->options.reader;

  drop_owed (c);

  while (c->destination->nr_connections == 0 &&
         c->destination_ops.first != NULL) {
    c->nr_destination_ops--;
    op_give_up (op_queue_pop (&c->destination_ops));
  }
  while (reader != NULL && reader->nr_connections == 0 &&
         c->reader_ops.first != NULL)
    op_give_up (op_queue_pop (&c->reader_ops));
}

void
copier_drop_queue (struct copier *c)
{
  drop_unsent (c);
  lookups_drop (c);
  drop (c, &c->unknown);
  drop (c, &c->ready);
}
