/* SPDX-License-Identifier: BSD-3-Clause */
/* Which parts of a leased range are zero, or (--shared-base) not in the top
 * layer of the image: block status, asked after the lease was taken (R1).
 *
 * Only what surely may be left out is; everything else is data, which
 * costs time but never correctness.  So an answer that is short, odd or an
 * error makes data of the range.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "copier-internal.h"
#include "nbd-limits.h"

/* From the NBD protocol, "base:allocation" metadata context. */
#define STATE_ZERO 2

/* From QEMU's docs/interop/nbd.txt, "qemu:allocation-depth": 1 is the top
 * layer.
 */
#define DEPTH_TOP 1

struct lookup {
  struct status_io sio;
  struct copier *c;
  struct segment segment;
  struct endpoint *asked;
  const char *context;
  uint32_t *pairs; /* what the server said: length, flags, ... */
  size_t n;
};

struct endpoint *
lookup_endpoint (const struct copier *c, bool touched)
{
  return c->options.base != NULL && !touched ? c->options.base : c->source;
}

/* What is said of a part that need not be copied as data. */
static enum segment_kind
kind_of (const struct lookup *l, uint32_t state)
{
  if (l->asked == l->c->options.base)
    return state == DEPTH_TOP ? SEGMENT_DATA : SEGMENT_IN_BASE;
  return state & STATE_ZERO ? SEGMENT_ZERO : SEGMENT_DATA;
}

static void
store_entries (void *opaque, const char *context, uint64_t offset,
               const uint32_t *pairs, size_t nr_numbers)
{
  struct lookup *l = opaque;

  if (strcmp (context, l->context) != 0 || offset != l->segment.offset ||
      l->pairs != NULL)
    return;
  l->pairs = malloc (nr_numbers * sizeof *pairs);
  if (l->pairs == NULL)
    return;
  memcpy (l->pairs, pairs, nr_numbers * sizeof *pairs);
  l->n = nr_numbers;
}

/* Ready segments, adjacent ones of a kind merged as they come. */
struct run {
  struct copier *c;
  uint64_t begin, end;
  enum segment_kind kind;
  bool touched;
};

static void
run_flush (struct run *r)
{
  if (r->end > r->begin && copier_add_known (r->c, r->begin, r->end - r->begin,
                                             r->kind, r->touched) == -1)
    abort (); /* a leased range must not be forgotten */
  r->begin = r->end;
}

static void
run_extend (struct run *r, uint64_t end, enum segment_kind kind)
{
  if (end <= r->end)
    return;
  if (kind != r->kind)
    run_flush (r);
  r->kind = kind;
  r->end = end;
}

/* Extents of bytes to runs.  They begin and end anywhere, also inside a chunk,
 * but what is too short for a request of its own is data.  Returns how far the
 * answer reaches.
 */
static uint64_t
classify (struct lookup *l)
{
  const uint64_t unit = l->c->zero_unit, grain = l->c->grain;
  const uint64_t limit = l->segment.offset + l->segment.length;
  struct run r = { l->c, l->segment.offset, l->segment.offset, SEGMENT_DATA,
                   l->segment.touched };
  uint64_t at = l->segment.offset;
  size_t i;

  for (i = 0; i + 1 < l->n && at < limit; i += 2) {
    const uint64_t next = l->pairs[i] < limit - at ? at + l->pairs[i] : limit;

    const enum segment_kind kind = kind_of (l, l->pairs[i + 1]);

    if (kind != SEGMENT_DATA) {
      const uint64_t first = (at + grain - 1) / grain * grain;
      const uint64_t last = next == limit ? limit : next / grain * grain;

      if (last >= first + unit || (last == limit && last > first)) {
        run_extend (&r, first, SEGMENT_DATA);
        run_extend (&r, last, kind);
      }
    }
    at = next;
    /* Up to here all is said; what was not left out by then is data.  A block
     * that is only partly described waits.
     */
    run_extend (&r, at == limit ? limit : at / grain * grain, SEGMENT_DATA);
  }
  if (r.end == l->segment.offset) /* not one block: never ask in circles */
    run_extend (&r, unit < l->segment.length ? r.end + unit : limit,
                SEGMENT_DATA);
  run_flush (&r);
  return r.end;
}

static void
lookup_ended (struct io *io)
{
  struct lookup *l = (struct lookup *)io;
  struct copier *c = l->c;
  const uint64_t limit = l->segment.offset + l->segment.length;
  uint64_t end = limit;

  c->lookups--;
  if (io->lost)
    copier_fail (c, "asking for the allocation of", l->asked, l->segment.offset,
                 l->segment.length, io);
  if (io->error != 0 || l->pairs == NULL) {
    if (queue_append (&c->ready, l->segment.offset, l->segment.length,
                      SEGMENT_DATA, l->segment.touched) == -1)
      abort ();
  }
  else
    end = classify (l);
  if (end < limit && queue_prepend (&c->unknown, end, limit - end, SEGMENT_DATA,
                                    l->segment.touched) == -1)
    abort ();
  free (l->pairs);
  free (l);
}

void
lookup_start (struct copier *c, struct connection *conn)
{
  struct lookup *l = calloc (1, sizeof *l);
  struct segment *s = c->unknown.first;

  if (l == NULL)
    abort ();
  l->c = c;
  l->asked = lookup_endpoint (c, s->touched);
  l->context = l->asked == c->options.base ? COPIER_DEPTH_CONTEXT
                                           : LIBNBD_CONTEXT_BASE_ALLOCATION;
  l->segment = *s;
  if (s->length > NBD_STATUS_MAX) {
    l->segment.length = NBD_STATUS_MAX;
    s->offset += NBD_STATUS_MAX;
    s->length -= NBD_STATUS_MAX;
  }
  else {
    c->unknown.first = s->next;
    if (s->next == NULL)
      c->unknown.last = &c->unknown.first;
    free (s);
  }
  c->unknown.bytes -= l->segment.length;
  c->lookups++;
  l->sio.io.ended = lookup_ended;
  l->sio.entries = store_entries;
  l->sio.opaque = l;
  connection_block_status (conn, &l->sio, l->segment.length, l->segment.offset);
}
