/* SPDX-License-Identifier: BSD-3-Clause */
/* Queues of the copy engine: of ranges that wait to be copied, and of requests
 * that wait for a connection.
 */

#include <stdlib.h>

#include "copy/copier-internal.h"

void
queue_init (struct queue *q)
{
  *q = (struct queue){ .last = &q->first };
}

static struct segment *
new_segment (uint64_t offset, uint64_t length, enum segment_kind kind,
             bool touched)
{
  struct segment *s = malloc (sizeof *s);

  if (s != NULL)
    *s = (struct segment){ offset, length, kind, touched, NULL };
  return s;
}

int
queue_append (struct queue *q, uint64_t offset, uint64_t length,
              enum segment_kind kind, bool touched)
{
  struct segment *s = new_segment (offset, length, kind, touched);

  if (s == NULL)
    return -1;
  *q->last = s;
  q->last = &s->next;
  q->bytes += length;
  return 0;
}

int
queue_prepend (struct queue *q, uint64_t offset, uint64_t length,
               enum segment_kind kind, bool touched)
{
  struct segment *s = new_segment (offset, length, kind, touched);

  if (s == NULL)
    return -1;
  s->next = q->first;
  if (q->first == NULL)
    q->last = &s->next;
  q->first = s;
  q->bytes += length;
  return 0;
}

/* Cut at most 'bytes' from the front. */
struct segment
queue_cut (struct queue *q, uint64_t bytes)
{
  struct segment *s = q->first;
  struct segment cut = *s;

  if (cut.length > bytes) {
    cut.length = bytes;
    s->offset += bytes;
    s->length -= bytes;
  }
  else {
    q->first = s->next;
    if (q->first == NULL)
      q->last = &q->first;
    free (s);
  }
  q->bytes -= cut.length;
  return cut;
}

/* Ranges of data that lie side by side are one: where guests write, every other
 * chunk may be touched, and a request for each would be slow.  What is touched
 * in part counts as touched, which makes zeroes of it and leaves nothing out.
 */
struct segment
queue_cut_data (struct queue *q, uint64_t bytes)
{
  struct segment s = queue_cut (q, bytes);

  while (s.kind == SEGMENT_DATA && s.length < bytes && q->first != NULL &&
         q->first->kind == SEGMENT_DATA &&
         q->first->offset == s.offset + s.length) {
    const struct segment next = queue_cut (q, bytes - s.length);

    s.length += next.length;
    s.touched |= next.touched;
  }
  return s;
}

void
queue_free (struct queue *q)
{
  while (q->first != NULL)
    queue_cut (q, UINT64_MAX);
}

void
op_queue_append (struct op_queue *q, struct op *op)
{
  op->next = NULL;
  *q->last = op;
  q->last = &op->next;
}

struct op *
op_queue_pop (struct op_queue *q)
{
  struct op *op = q->first;

  q->first = op->next;
  if (q->first == NULL)
    q->last = &q->first;
  return op;
}
