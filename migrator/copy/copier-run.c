/* SPDX-License-Identifier: BSD-3-Clause */
/* Scheduling of the copy engine: what is begun, and what is sent, and when.
 *
 * Bytes in flight bound it, and at each side how many requests are in flight
 * over how many connections, which policy/pace.c finds.  What is read goes
 * ahead of what is written by a little only, so that it is still in the
 * processor's cache then.
 *
 * Of answers that carry data there is one in flight on a connection: nbdkit
 * before 1.34 aborts when a client dies with several of them outstanding, or
 * while the parts of one are being sent, and the proxy is what holds the
 * guest's disk (DEPTH_OF_READS).  With answers that carry none it is rare, but
 * not impossible: one thread has to begin to send while another one finds the
 * client gone.  Measured with answers that all come at the same time: 29 of 60
 * clients that died with 16 reads outstanding, 12 of 500 with 16 reads into
 * shared memory, 2 of 500 with 8 of these.  A proxy that has copies of our
 * sockets (disk-begin.c) is safe from that, another server is not.
 */

#include <limits.h>
#include <stdlib.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"
#include "nbd-limits.h"

/* Such a request takes a server its time, whatever the distance. */
#define LONG_ZEROES (4 * 1024 * 1024)

/* Requests that are ready to be written, besides those in flight. */
#define AHEAD_MIN 2

void
copier_part_ended (struct copier *c, uint64_t offset, uint64_t length,
                   enum copy_outcome outcome)
{
  if (outcome == COPY_SKIPPED || outcome == COPY_DONE || outcome == COPY_EQUAL)
    c->stats.moved_bytes += length;
  copier_ended_range (c, offset, length, outcome);
}

/* Whether the destination has it already. */
static bool
is_there (const struct copier *c, const struct segment *s)
{
  return s->kind == SEGMENT_IN_BASE ||
         (s->kind == SEGMENT_ZERO && c->options.destination_is_zero &&
          !s->touched);
}

int
copier_add_known (struct copier *c, uint64_t offset, uint64_t length,
                  enum segment_kind kind, bool touched)
{
  const struct segment s = { offset, length, kind, touched, NULL };

  if (!is_there (c, &s))
    return queue_append (&c->ready, offset, length, kind, touched);
  c->stats.skipped_bytes += length;
  copier_part_ended (c, offset, length, COPY_SKIPPED);
  return 0;
}

void
copier_leave_out (struct copier *c, uint64_t offset, uint64_t length)
{
  c->stats.skipped_bytes += length;
  c->stats.blank_bytes += length;
  copier_part_ended (c, offset, length, COPY_SKIPPED);
}

/* What counts as in flight: zeroes need no memory (but for a block at the end
 * of the disk), and their number is limited by that of the connections; what is
 * compared needs it twice.
 */
static uint64_t
buffer_bytes (enum segment_kind kind, uint64_t length)
{
  return kind == SEGMENT_ZERO      ? 0
         : kind == SEGMENT_COMPARE ? 2 * length
                                   : length;
}

void
copier_job_ended (struct copier *c, enum segment_kind kind, uint64_t length)
{
  c->job_bytes -= buffer_bytes (kind, length);
  if (--c->jobs == 0)
    c->stats.busy_us += (uint64_t)(loop_now_us () - c->busy_since_us);
}

static void
begin_segment (struct copier *c, const struct segment *s)
{
  if (c->jobs++ == 0)
    c->busy_since_us = loop_now_us ();
  if (s->offset + s->length > c->begun_end)
    c->begun_end = s->offset + s->length;
  c->job_bytes += buffer_bytes (s->kind, s->length);
  job_start (c, s->offset, s->length, s->kind, s->touched);
}

/* Zeroes need no buffer where the destination can write them by itself, so
 * such a job may be long; but for the last unit of a disk whose end is not
 * aligned to the destination's block.
 */
static uint64_t
job_bytes_max (const struct copier *c, const struct segment *s)
{
  const uint64_t unit = c->zero_unit;
  const uint64_t end = s->offset + s->length;
  uint64_t whole = s->length;

  if (s->kind == SEGMENT_COMPARE)
    return c->compare_bytes;
  if (s->kind != SEGMENT_ZERO || !can_zero (c))
    return c->copy_bytes;
  if (end % c->destination->minimum_bytes != 0) {
    const uint64_t last = (end - 1) / unit * unit;

    if (last <= s->offset)
      return c->copy_bytes;
    whole = last - s->offset;
  }
  return whole < c->zero_bytes_max ? whole : c->zero_bytes_max;
}

/* As many in flight as over all of them together, if a server takes so many.
 * One more where a flush is in the way.
 */
static struct connection *
idle_of_few (const struct copier *c, const struct pace_limits *l)
{
  const unsigned all = l->connections * l->depth;

  return endpoint_idle (c->destination, 1 + (c->flushes_sent > 0),
                        all < NBD_DEPTH_MAX ? all : NBD_DEPTH_MAX);
}

/* A flush beside the copying takes no write's place; and where a server serves
 * one request at a time on a connection, what waits behind it goes on over
 * another one.
 */
static struct connection *
idle_to (const struct copier *c)
{
  const struct pace_limits *l = pace_limits (&c->to);

  if (c->narrow)
    return idle_of_few (c, l);
  return endpoint_idle (c->destination, l->connections + c->flushes_sent,
                        l->depth + (c->flushes_sent > 0));
}

static struct connection *
idle_from (const struct copier *c)
{
  const struct pace_limits *l = pace_limits (&c->from);

  return endpoint_idle (c->source, l->connections, l->depth);
}

/* Whether what was read is about to be written. */
static bool
is_ahead (const struct copier *c)
{
  const struct pace_limits *l = pace_limits (&c->to);

  return c->nr_destination_ops >= AHEAD_MIN + l->connections * l->depth / 4;
}

/* Zeroes are not counted, but they are copying, too. */
static bool
is_stopped (const struct copier *c)
{
  const struct bucket *b = c->options.bucket;

  return c->obey_rate && (b->paused || b->held);
}

static bool
may_begin (struct copier *c)
{
  const struct segment *s = c->ready.first;

  if (s == NULL || c->error != NULL || is_stopped (c) || blank_waits (c))
    return false;
  if (s->kind == SEGMENT_ZERO && can_zero (c))
    return c->nr_destination_ops < 2 * c->destination->nr_connections;
  if (c->source_ops.first != NULL || is_ahead (c))
    return false;
  /* All are broken: let the request say so (fail_stranded). */
  if (!endpoint_any_alive (c->source))
    return true;
  if (idle_from (c) == NULL)
    return false;
  if (c->jobs > 0 &&
      c->job_bytes + job_bytes_max (c, s) > c->options.in_flight_bytes)
    return false;
  return !c->obey_rate || bucket_ready (c->options.bucket, loop_now_us ());
}

static struct connection *
idle_for (const struct copier *c, const struct op *op)
{
  switch (op->kind) {
  case OP_READ_SOURCE:
    return idle_from (c);
  case OP_READ_BACK:
    return endpoint_idle (c->options.reader, UINT_MAX, DEPTH_OF_READS);
  case OP_READ_DESTINATION:
    return endpoint_idle (c->destination, UINT_MAX, DEPTH_OF_READS);
  case OP_ZERO:
    if (op->length > LONG_ZEROES)
      return endpoint_idle (c->destination, UINT_MAX, 1);
    return idle_to (c);
  case OP_WRITE:
    return idle_to (c);
  }
  abort ();
}

static bool
feed (struct copier *c, struct op_queue *q)
{
  struct connection *conn;
  bool progress = false;

  while (q->first != NULL && (conn = idle_for (c, q->first)) != NULL) {
    c->nr_destination_ops -= q == &c->destination_ops;
    op_submit (op_queue_pop (q), conn);
    progress = true;
  }
  return progress;
}

static bool
feed_connections (struct copier *c)
{
  bool progress = feed (c, &c->destination_ops);

  progress |= feed (c, &c->reader_ops);
  progress |= feed (c, &c->source_ops);
  return progress;
}

/* For what is neither of the copying nor long. */
struct connection *
endpoint_free_connection (const struct endpoint *e)
{
  struct connection *conn = endpoint_idle (e, UINT_MAX, DEPTH_OF_READS);

  if (conn == NULL && e->nr_connections > 0 && !endpoint_any_alive (e))
    return e->connections[0];
  return conn;
}

/* What is known gets old: so far ahead of the copying. */
static uint64_t
ready_bytes_max (const struct copier *c)
{
  return 16 * c->copy_bytes;
}

/* As long as there was nothing but data: some of what comes next.  One job, if
 * it is the first.
 */
static uint64_t
unasked_now (const struct copier *c)
{
  if (!c->data_read)
    return c->ready.bytes == 0 && c->jobs == 0 ? c->copy_bytes : 0;
  return c->ready.bytes <= ready_bytes_max (c) ? ready_bytes_max (c) : 0;
}

/* How much of the first unknown segment nobody is to be asked about any more:
 * all, or what the latest answer has told beyond its question.
 */
static uint64_t
data_now (const struct copier *c)
{
  const struct segment *s = c->unknown.first;
  uint64_t known;

  if (lookup_endpoint (c, s->touched) == c->options.base)
    return 0;
  if (c->distrusted)
    return s->length;
  known = copier_known_data (c, s->offset);
  return known > 0 || c->asks ? known : unasked_now (c);
}

static bool
may_ask (const struct copier *c)
{
  return c->error == NULL && lookup_may_start (c) &&
         c->ready.bytes <= ready_bytes_max (c) &&
         (c->asks ||
          lookup_endpoint (c, c->unknown.first->touched) == c->options.base);
}

static bool
feed_lookups (struct copier *c)
{
  bool progress = false;
  uint64_t data;

  while (c->unknown.first != NULL && (data = data_now (c)) > 0) {
    const struct segment s = queue_cut (&c->unknown, data);

    if (queue_append (&c->ready, s.offset, s.length, SEGMENT_DATA, s.touched) ==
        -1)
      no_memory (); /* a leased range must not be forgotten */
    progress = true;
  }

  /* Stay ahead of the copying, but not far: what is known gets old. */
  while (c->unknown.first != NULL && may_ask (c)) {
    lookup_start (c);
    progress = true;
  }
  return lookups_run (c) || progress;
}

/* Requests that no connection is left for would wait for ever. */
static void
fail_stranded (struct copier *c, struct endpoint *e, struct op_queue *q)
{
  if (endpoint_broken (e) == NULL)
    return;
  while (q->first != NULL && !endpoint_any_alive (e)) {
    struct op *op = op_queue_pop (q);

    if (q == &c->destination_ops)
      c->nr_destination_ops--;
    op_submit (op, e->connections[0]);
  }
}

void
copier_run (struct copier *c)
{
  bool progress;

  copier_set_lengths (c);
  do {
    fail_stranded (c, c->source, &c->source_ops);
    fail_stranded (c, c->destination, &c->destination_ops);
    if (c->options.reader != NULL)
      fail_stranded (c, c->options.reader, &c->reader_ops);
    progress = feed_flushes (c);
    progress |= feed_connections (c);
    progress |= feed_lookups (c);
    progress |= c->error == NULL && !is_stopped (c) && blank_run (c);
    start_write_back (c);
    if (may_begin (c)) {
      const struct segment s =
        queue_cut_data (&c->ready, job_bytes_max (c, c->ready.first));

      begin_segment (c, &s);
      progress = true;
    }
  } while (progress);
  c->from_full = copier_is_full (c->source, &c->from);
  c->to_full = copier_is_full (c->destination, &c->to);
  /* After an error nothing new begins; what waits goes back as failed. */
  if (c->error != NULL)
    copier_drop_queue (c);
}
