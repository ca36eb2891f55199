/* SPDX-License-Identifier: BSD-3-Clause */
/* Queue and scheduling of the copy engine.
 *
 * Bytes in flight bound it, and at each side how many requests are in flight
 * over how many connections, which policy/pace.c finds.  What is read goes
 * ahead of what is written by a little only, so that it is still in the
 * processor's cache then.
 *
 * Of answers that carry data there is one in flight on a connection: nbdkit
 * before 1.34 aborts when a client dies with several of them outstanding, or
 * while the parts of one are being sent, and the proxy is what holds the
 * guest's disk.  Answers to writes do no harm.
 */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "copy/copier-internal.h"
#include "zero-align.h"
#include "nbd-limits.h"

#define DEPTH_OF_READS 1
#define DEPTH_OF_SHARED_READS 8

/* Such a request takes a server its time, whatever the distance. */
#define LONG_ZEROES (4 * 1024 * 1024)

/* Requests that are ready to be written, besides those in flight. */
#define AHEAD_MIN 2

/* Measured: longer requests are slower where both are near, since they do not
 * fit a processor's cache; what they bring over a long line more of them bring,
 * too, if they may be in flight.
 */
#define REQUEST_BYTES (256 * 1024)
#define REQUEST_BYTES_MAX (2 * 1024 * 1024)

/* At least: TCP, the greeting, and two options. */
#define ROUND_TRIPS_TO_CONNECT 4

/* Ranges shorter than this are read without asking: a question costs as much
 * as the answer, and zeroes are found in the data.
 */
#define LOOKUP_BYTES_MIN (1024 * 1024)

/* After so many bytes one of several connections flushes while the others go
 * on, so that the destination's disk works during the copying and the flush
 * that counts (R6) finds little left to do.
 */
#define WRITE_BACK_BYTES (UINT64_C (128) * 1024 * 1024)

#define ZERO_UNIT (64 * 1024)

#define GRAIN 4096 /* what file systems allocate */

static uint64_t
round_up (uint64_t value, uint64_t unit)
{
  return (value + unit - 1) / unit * unit;
}

static void
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

void
op_queue_append (struct op_queue *q, struct op *op)
{
  op->next = NULL;
  *q->last = op;
  q->last = &op->next;
}

static struct op *
op_queue_pop (struct op_queue *q)
{
  struct op *op = q->first;

  q->first = op->next;
  if (q->first == NULL)
    q->last = &q->first;
  return op;
}

/* ---- life -------------------------------------------------------------- */

static uint64_t
whole_blocks (const struct copier *c, uint64_t bytes)
{
  return bytes < c->grain ? c->grain : bytes / c->grain * c->grain;
}

/* What is compared is whole chunks, what is copied is whole units for zeroes
 * and data; a request may be shorter than either, but begins and ends at a
 * block.
 */
static void
set_lengths (struct copier *c)
{
  const uint64_t from = pace_limits (&c->from)->request_bytes;
  const uint64_t to = pace_limits (&c->to)->request_bytes;
  const uint64_t most = from > to ? from : to;

  c->compare_bytes = round_up (most, c->options.chunk_bytes);
  c->copy_bytes = round_up (most, c->zero_unit);
  c->read_bytes = whole_blocks (c, from);
  c->write_bytes = whole_blocks (c, to);
}

/* What the server takes, and what was asked for; the rest is found. */
static struct pace_options
pace_options (const struct copier *c, const struct endpoint *e)
{
  const struct copier_options *o = &c->options;
  const uint64_t asked = o->request_bytes;

  return (struct pace_options){
    .connections = e->nr_connections ? e->nr_connections : 1,
    .request_bytes = asked ? asked : REQUEST_BYTES,
    .request_bytes_max = asked ? asked : REQUEST_BYTES_MAX,
    .bytes_max = o->in_flight_bytes,
    .all_connections = o->all_connections,
  };
}

/* Where the answers carry no data several may be in flight. */
static void
set_source_pace (struct copier *c)
{
  struct pace_options p = pace_options (c, c->source);

  p.depth_max = c->shared ? DEPTH_OF_SHARED_READS : DEPTH_OF_READS;
  pace_init (&c->from, &p);
}

static void
set_paces (struct copier *c)
{
  const struct copier_options *o = &c->options;
  struct pace_options p = pace_options (c, c->destination);

  set_source_pace (c);
  p.depth_max = o->depth ? o->depth : NBD_DEPTH_MAX;
  p.whole_depth = o->depth != 0;
  p.distance_us = c->destination->connect_us / ROUND_TRIPS_TO_CONNECT;
  pace_init (&c->to, &p);
  set_lengths (c);
}

struct copier *
copier_new (struct loop *loop, struct endpoint *source,
            struct endpoint *destination, const struct copier_options *options)
{
  struct copier *c = calloc (1, sizeof *c);

  if (c == NULL)
    return NULL;
  c->loop = loop;
  c->source = source;
  c->destination = destination;
  c->options = *options;
  c->zero_unit =
    options->chunk_bytes < ZERO_UNIT ? options->chunk_bytes : ZERO_UNIT;
  if (c->zero_unit < destination->minimum_bytes)
    c->zero_unit = destination->minimum_bytes;
  if (c->zero_unit < source->minimum_bytes)
    c->zero_unit = source->minimum_bytes;
  c->grain = GRAIN;
  if (c->grain < destination->minimum_bytes)
    c->grain = destination->minimum_bytes;
  if (c->grain < source->minimum_bytes)
    c->grain = source->minimum_bytes;
  set_paces (c);
  queue_init (&c->unknown);
  queue_init (&c->ready);
  c->source_ops.last = &c->source_ops.first;
  c->destination_ops.last = &c->destination_ops.first;
  c->reader_ops.last = &c->reader_ops.first;
  c->obey_rate = true;
  c->zero_bytes_max = destination->zero_maximum_bytes;
  c->zero_align = ZERO_ALIGN_ANY;
  c->random = options->sample_seed;
  c->buffers = buffers_new (options->buffer_bytes);
  if (c->buffers != NULL)
    return c;
  free (c);
  return NULL;
}

static void
queue_free (struct queue *q)
{
  while (q->first != NULL)
    queue_cut (q, UINT64_MAX);
}

void
copier_free (struct copier *c)
{
  if (c == NULL)
    return;
  queue_free (&c->unknown);
  queue_free (&c->ready);
  if (c->lookup != NULL)
    lookup_drop (c);
  small_free_all (&c->smalls);
  copier_free_parts (c);
  buffers_free (c->buffers);
  free (c->error);
  free (c);
}

/* ---- what the caller says and asks ------------------------------------- */

int
copier_shared_fd (const struct copier *c, const char **why)
{
  return buffers_fd (c->buffers, why);
}

void
copier_share (struct copier *c, bool shared, const char *why)
{
  c->shared = shared;
  c->not_shared = why;
  set_paces (c);
  buffers_close_fd (c->buffers);
}

/* In the middle of the copying.  From now on answers of the source carry data:
 * as few of them are in flight as if it had been so from the beginning.
 */
void
copier_stop_sharing (struct copier *c, const char *why)
{
  if (!c->shared)
    return;
  c->shared = false;
  c->not_shared = why;
  set_source_pace (c);
}

bool
copier_is_shared (const struct copier *c, const char **why)
{
  *why = c->shared ? NULL : c->not_shared;
  return c->shared;
}

static bool
must_ask (const struct copier *c, uint64_t length, bool touched)
{
  if (lookup_endpoint (c, touched) == c->options.base)
    return true;
  return !c->distrusted && c->source->has_allocation &&
         length >= LOOKUP_BYTES_MIN;
}

/* How many bytes from the offset on are known to be data. */
static uint64_t
known_data (const struct copier *c, uint64_t offset)
{
  return offset >= c->data_begin && offset < c->data_end
           ? (c->data_end - offset) / c->grain * c->grain
           : 0;
}

int
copier_add (struct copier *c, uint64_t offset, uint64_t length, bool touched)
{
  uint64_t data = length;

  if (must_ask (c, length, touched))
    data = lookup_endpoint (c, touched) == c->options.base
             ? 0
             : known_data (c, offset);
  if (data > length)
    data = length;
  if (data > 0 &&
      queue_append (&c->ready, offset, data, SEGMENT_DATA, touched) == -1)
    return -1;
  if (data == length)
    return 0;
  return queue_append (&c->unknown, offset + data, length - data, SEGMENT_DATA,
                       touched);
}

int
copier_add_compare (struct copier *c, uint64_t offset, uint64_t length)
{
  return queue_append (&c->ready, offset, length, SEGMENT_COMPARE, true);
}

void
copier_compare_over_reader (struct copier *c, bool over_reader)
{
  c->over_reader = over_reader && c->options.reader != NULL;
}

uint64_t
copier_backlog (const struct copier *c)
{
  return c->unknown.bytes + c->ready.bytes;
}

bool
copier_idle (const struct copier *c)
{
  return copier_backlog (c) == 0 && c->jobs == 0 && c->lookup == NULL &&
         !c->writing_back;
}

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
      abort (); /* a leased range must not be forgotten */
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

  if (c->lookup != NULL || copier_backlog (c) <= data_bytes)
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

/* Requests that wait for a connection to be made anew (renew.h). */
static void
drop_unsent (struct copier *c)
{
  const struct endpoint *reader = c->options.reader;

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
  lookup_drop (c);
  drop (c, &c->unknown);
  drop (c, &c->ready);
}

/* What is queued as zero is read. */
void
copier_stop_asking (struct copier *c)
{
  struct segment *s;

  c->distrusted = true;
  for (s = c->ready.first; s != NULL; s = s->next)
    if (s->kind == SEGMENT_ZERO)
      s->kind = SEGMENT_DATA;
}

void
copier_distrust (struct copier *c, uint64_t offset)
{
  copier_stop_asking (c);
  c->options.distrusted (c->options.opaque, offset);
}

void
copier_obey_rate (struct copier *c, bool obey)
{
  c->obey_rate = obey;
}

const char *
copier_error (const struct copier *c)
{
  return c->error;
}

void
copier_get_stats (const struct copier *c, struct copier_stats *s)
{
  *s = c->stats;
  if (c->jobs > 0)
    s->busy_us += (uint64_t)(loop_now_us () - c->busy_since_us);
}

void
copier_get_limits (const struct copier *c, struct pace_limits *from,
                   struct pace_limits *to)
{
  *from = *pace_limits (&c->from);
  *to = *pace_limits (&c->to);
}

/* Only the first error is kept: later ones usually follow from it.  A length
 * of 0: it is about the whole disk.
 */
void
copier_fail (struct copier *c, const char *what, const struct endpoint *where,
             uint64_t offset, uint64_t length, const struct io *io)
{
  const char *who = io->lost ? "the connection broke" : "the server answered";
  const char *said = io->lost ? io->connection->why : strerror (io->error);
  int r;

  if (c->error != NULL)
    return;
  if (length == 0)
    r = asprintf (&c->error, "%s %s: %s: %s", what, where->uri, who, said);
  else
    r = asprintf (&c->error,
                  "%s %s at offset %" PRIu64 " (%" PRIu64 " bytes): %s: %s",
                  what, where->uri, offset, length, who, said);
  if (r == -1)
    c->error = NULL;
}

/* ---- flush ------------------------------------------------------------- */

/* R6: after a flush that failed no later one proves anything: the server may
 * have dropped what it could not write, and told us of it just once.  So it is
 * never taken back.
 */
static void
note_flush (struct flush *f)
{
  struct copier *c = f->c;

  if (f->io.error == 0)
    return;
  c->flush_failed = true;
  copier_fail (c, "flushing", c->destination, 0, 0, &f->io);
}

static bool
some_flush_pending (const struct copier *c)
{
  return c->flushes > 0 || c->writing_back;
}

static void
flush_ended (struct io *io)
{
  struct flush *f = (struct flush *)io;

  note_flush (f);
  f->c->flushes--;
  f->c->flushes_sent--;
  f->c->flushing &= some_flush_pending (f->c);
  small_free (&f->c->smalls, f);
}

static void
write_back_ended (struct io *io)
{
  struct flush *f = (struct flush *)io;

  note_flush (f);
  f->c->writing_back = false;
  f->c->flushing &= some_flush_pending (f->c);
  small_free (&f->c->smalls, f);
}

static void
send_flush (struct copier *c, struct connection *conn)
{
  struct flush *f = small_new (&c->smalls, sizeof *f);

  if (f == NULL)
    abort (); /* a few dozen bytes; there is no way on from here */
  f->c = c;
  f->io.ended = flush_ended;
  conn->flush_due = false;
  conn->written = false; /* what is unanswered says that it is, when it ends */
  c->flushes_sent++;
  connection_flush (conn, &f->io);
}

static bool
is_copying (const struct copier *c)
{
  return c->jobs > 0 || c->ready.first != NULL || c->unknown.first != NULL;
}

/* A flush covers what was answered before it was sent, so it need not wait for
 * what is in flight.  But some servers serve one request at a time on a
 * connection: so of several connections not more than half flush at a time,
 * while the others copy.
 */
static bool
may_flush (const struct copier *c, const struct connection *conn)
{
  const unsigned n = c->destination->nr_connections;

  if (!connection_alive (conn) || n == 1)
    return true;
  return c->flushes_sent < n / 2 || !is_copying (c);
}

static bool
feed_flushes (struct copier *c)
{
  bool progress = false;
  unsigned i;

  for (i = 0; i < c->destination->nr_connections; ++i) {
    struct connection *conn = c->destination->connections[i];

    if (!conn->flush_due || !may_flush (c, conn))
      continue;
    send_flush (c, conn);
    progress = true;
  }
  return progress;
}

/* This flush proves nothing and is not reported: 'written' stays.  But it can
 * be the one that is told of a failure, so a flush that counts waits for it,
 * too.
 */
static void
start_write_back (struct copier *c)
{
  struct connection *conn = endpoint_idle (c->destination, UINT_MAX, UINT_MAX);
  struct flush *f;

  if (c->flushing || c->writing_back || conn == NULL ||
      c->destination->nr_connections == 1 ||
      c->stats.copied_bytes - c->written_back_bytes < WRITE_BACK_BYTES)
    return;
  f = small_new (&c->smalls, sizeof *f);
  if (f == NULL)
    return;
  f->c = c;
  f->io.ended = write_back_ended;
  c->written_back_bytes = c->stats.copied_bytes;
  c->writing_back = true;
  connection_flush (conn, &f->io);
}

/* ---- scheduling -------------------------------------------------------- */

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

/* A flush beside the copying takes no write's place. */
static struct connection *
idle_to (const struct copier *c)
{
  const struct pace_limits *l = pace_limits (&c->to);

  return endpoint_idle (c->destination, l->connections,
                        l->depth + (c->flushes_sent > 0));
}

static struct connection *
idle_from (const struct copier *c)
{
  const struct pace_limits *l = pace_limits (&c->from);

  return endpoint_idle (c->source, l->connections, l->depth);
}

/* As many as may be are in flight. */
static bool
is_full (const struct endpoint *e, const struct pace *p)
{
  const struct pace_limits *l = pace_limits (p);

  return endpoint_in_flight (e) >= l->connections * l->depth;
}

/* Whether what was read is about to be written. */
static bool
is_ahead (const struct copier *c)
{
  const struct pace_limits *l = pace_limits (&c->to);

  return c->nr_destination_ops >= AHEAD_MIN + l->connections * l->depth / 4;
}

static bool
may_begin (struct copier *c)
{
  const struct segment *s = c->ready.first;

  if (s == NULL || c->error != NULL)
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

/* Nobody is asked about the first unknown segment any more. */
static bool
is_data_now (const struct copier *c)
{
  return c->distrusted &&
         lookup_endpoint (c, c->unknown.first->touched) != c->options.base;
}

static bool
feed_lookups (struct copier *c)
{
  bool progress = false;

  while (c->unknown.first != NULL && is_data_now (c)) {
    const struct segment s = queue_cut (&c->unknown, UINT64_MAX);

    if (queue_append (&c->ready, s.offset, s.length, SEGMENT_DATA, s.touched) ==
        -1)
      abort (); /* a leased range must not be forgotten */
    progress = true;
  }

  /* Stay ahead of the copying, but not far: what is known gets old. */
  if (c->lookup == NULL && c->unknown.first != NULL && c->error == NULL &&
      c->ready.bytes <= 16 * c->copy_bytes) {
    lookup_start (c);
    progress = true;
  }
  return lookup_run (c) || progress;
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

  set_lengths (c);
  do {
    fail_stranded (c, c->source, &c->source_ops);
    fail_stranded (c, c->destination, &c->destination_ops);
    if (c->options.reader != NULL)
      fail_stranded (c, c->options.reader, &c->reader_ops);
    progress = feed_flushes (c);
    progress |= feed_connections (c);
    progress |= feed_lookups (c);
    start_write_back (c);
    if (may_begin (c)) {
      const struct segment s =
        queue_cut (&c->ready, job_bytes_max (c, c->ready.first));

      begin_segment (c, &s);
      progress = true;
    }
  } while (progress);
  c->from_full = is_full (c->source, &c->from);
  c->to_full = is_full (c->destination, &c->to);
  /* After an error nothing new begins; what waits goes back as failed. */
  if (c->error != NULL)
    copier_drop_queue (c);
}

void
copier_flush (struct copier *c)
{
  unsigned i;

  for (i = 0; i < c->destination->nr_connections; ++i) {
    struct connection *conn = c->destination->connections[i];

    if (!conn->written)
      continue;
    conn->flush_due = true;
    c->flushes++;
  }
  c->flushing = some_flush_pending (c);
}

bool
copier_flushing (const struct copier *c, bool *ok)
{
  *ok = !c->flush_failed;
  return c->flushing;
}
