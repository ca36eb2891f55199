/* SPDX-License-Identifier: BSD-3-Clause */
/* One job: a run of units from the read to the destination's answer.
 *
 * A job is at most copy_bytes long (zero jobs more), or compare_bytes.  Its
 * requests are split at read_bytes or write_bytes and the servers' maxima.
 * Where the disk's end is not aligned to the destination's minimum block, the
 * last block is read first and only our part of it is replaced; the lease makes
 * that safe (R4, R19).
 */

#include <assert.h>
#include <limits.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"
#include "zero-align.h"

enum stage { STAGE_READ, STAGE_WRITE };

struct job {
  struct copier *c;
  uint64_t offset, length;
  enum segment_kind kind;
  bool touched;
  enum stage stage;
  unsigned pending; /* requests not yet ended */
  bool failed, unknown;
  bool charged; /* to the bucket */
  bool in_use;  /* by the proxy, which may still read into it: 'buf' is not */
  uint64_t pad; /* bytes of the destination after ours, same block */
  char *buf;    /* length + pad bytes of the source; NULL for zero jobs */
  char *other;  /* of the destination: compared, or the last block */
};

static void job_advance (struct job *job);
static void zero_otherwise (struct op *op);

/* What is written where the destination cannot zero; all pieces from here. */
#define ZEROES_BYTES (1024 * 1024)
static char zeroes[ZEROES_BYTES]; /* never written; not in the file so */

_Static_assert(ZEROES_BYTES % ZERO_ALIGN_MAX == 0, "whole blocks");

/* How long its buffers are; 0: it needs none. */
static size_t
buf_bytes (const struct job *job)
{
  /* A zero job that needs one is at most one request long. */
  return job->kind == SEGMENT_ZERO && job->pad == 0 ? 0
                                                    : job->length + job->pad;
}

static size_t
other_bytes (const struct job *job)
{
  return job->kind == SEGMENT_COMPARE ? job->length + job->pad
         : job->pad > 0               ? job->c->destination->minimum_bytes
                                      : 0;
}

static void
job_free (struct job *job)
{
  copier_job_ended (job->c, job->kind, job->length);
  if (!job->in_use)
    buffers_give_back (job->c->buffers, job->buf, buf_bytes (job));
  buffers_give_back (job->c->buffers, job->other, other_bytes (job));
  small_free (&job->c->smalls, job);
}

static void
job_end (struct job *job, enum copy_outcome outcome)
{
  copier_part_ended (job->c, job->offset, job->length, outcome);
  job_free (job);
}

/* ---- requests ---------------------------------------------------------- */

static const char *
op_words (enum op_kind kind)
{
  switch (kind) {
  case OP_READ_SOURCE:
  case OP_READ_DESTINATION:
  case OP_READ_BACK:
    return "reading";
  case OP_WRITE:
    return "writing to";
  case OP_ZERO:
    return "writing zeroes to";
  }
  abort ();
}

/* Requests to write zeroes become shorter where the answers come late: one of
 * minutes would look like a server that has gone, and every flush would wait
 * for it.  However many of one length are answered late, the next ones are half
 * as long as they were.  Where they come soon again, they become longer again.
 * Of zeroes that were found in data, some at the edge of each hole that nobody
 * was asked about yet, the requests are short anyway.
 */
static void
note_zero_time (struct copier *c, const struct op *op)
{
  const int64_t us = loop_now_us () - op->begin_us;

  if (op->job->kind == SEGMENT_DATA)
    return;
  if (us < 500000 && op->length == c->zero_bytes_max &&
      c->zero_bytes_max * 2 <= c->destination->zero_maximum_bytes)
    c->zero_bytes_max *= 2;
  while (us > 2000000 && c->zero_bytes_max / 2 >= op->length / 2 &&
         c->zero_bytes_max / 2 >= c->copy_bytes)
    c->zero_bytes_max /= 2;
}

/* A request is worth something by itself, too; how long one for zeroes is says
 * nothing of the time that it takes.
 */
#define WORK_OF_REQUEST 65536

static void
note_pace (struct copier *c, const struct op *op)
{
  const uint64_t bytes = op->kind == OP_ZERO ? 0 : op->length;
  const uint64_t work = bytes + WORK_OF_REQUEST;
  const int64_t now = loop_now_us ();

  if (op->kind == OP_READ_SOURCE)
    pace_ended (&c->from, op->begin_us, now, work, c->from_full);
  else if (op->kind == OP_WRITE || op->kind == OP_ZERO)
    pace_ended (&c->to, op->begin_us, now, work, c->to_full);
  if (op->kind == OP_WRITE)
    fastest_note (&c->writes, now - op->begin_us, op->length);
}

bool
can_zero (const struct copier *c)
{
  return c->destination->can_zero && c->zero_align != ZERO_ALIGN_NEVER;
}

/* Take up what the proxy has read.  False: it is to be read once more. */
static bool
collect (struct op *op)
{
  struct copier *c = op->job->c;
  struct shared_slot *slot = op->slot;

  op->slot = NULL;
  if (copier_collect (c, slot, &op->io, &op->job->in_use))
    return true;
  op_queue_append (&c->source_ops, op);
  return false;
}

static void
op_ended (struct io *io)
{
  struct op *op = (struct op *)io;
  struct job *job = op->job;
  struct copier *c = job->c;
  const bool writes = op->kind == OP_WRITE || op->kind == OP_ZERO;

  if (op->slot != NULL && !collect (op))
    return;
  if (op->kind == OP_ZERO && copier_was_refused (io))
    zero_otherwise (op);
  else if (io->error != 0) {
    job->failed = true;
    if (writes && io->lost)
      job->unknown = true;
    copier_fail (c, op_words (op->kind),
                 op->kind == OP_READ_SOURCE ? c->source : c->destination,
                 op->offset, op->length, io);
  }
  else if (op->kind == OP_WRITE) {
    c->stats.copied_bytes += op->length;
    c->options.wrote (c->options.opaque, op->offset, op->length);
  }
  else if (op->kind == OP_ZERO) {
    c->stats.zeroed_bytes += op->length;
    note_zero_time (c, op);
  }
  note_pace (c, op);
  small_free (&c->smalls, op);
  if (--job->pending == 0)
    job_advance (job);
}

void
op_give_up (struct op *op)
{
  struct job *job = op->job;

  job->failed = true;
  small_free (&job->c->smalls, op);
  if (--job->pending == 0)
    job_advance (job);
}

void
op_submit (struct op *op, struct connection *conn)
{
  op->io.ended = op_ended;
  op->begin_us = loop_now_us ();
  switch (op->kind) {
  case OP_READ_SOURCE:
    op->slot = copier_read_source (op->job->c, conn, &op->io, op->buf,
                                   (uint32_t)op->length, op->offset);
    break;
  case OP_READ_DESTINATION:
  case OP_READ_BACK:
    connection_read (conn, &op->io, op->buf, (uint32_t)op->length, op->offset);
    break;
  case OP_WRITE:
    connection_write (conn, &op->io, op->buf, (uint32_t)op->length, op->offset);
    break;
  case OP_ZERO:
    connection_zero (conn, &op->io, op->length, op->offset);
    break;
  }
}

static void
add_op (struct job *job, enum op_kind kind, char *buf, uint64_t offset,
        uint64_t length)
{
  struct copier *c = job->c;
  struct op *op = small_new (&c->smalls, sizeof *op);

  if (op == NULL)
    no_memory (); /* a few dozen bytes; there is no way on from here */
  *op = (struct op){
    .job = job, .kind = kind, .buf = buf, .offset = offset, .length = length
  };
  job->pending++;
  if (kind == OP_READ_SOURCE) {
    op_queue_append (&c->source_ops, op);
    return;
  }
  if (kind == OP_READ_BACK) {
    op_queue_append (&c->reader_ops, op);
    return;
  }
  op_queue_append (&c->destination_ops, op);
  c->nr_destination_ops++;
}

/* Of one request: the server's maximum, and ours. */
static uint64_t
op_bytes_max (const struct copier *c, enum op_kind kind)
{
  const struct endpoint *e =
    kind == OP_READ_SOURCE ? c->source : c->destination;
  const uint64_t bytes = kind == OP_WRITE ? c->write_bytes : c->read_bytes;

  if (kind == OP_ZERO)
    return c->zero_bytes_max;
  return bytes < e->maximum_bytes ? bytes : e->maximum_bytes;
}

static void
add_ops (struct job *job, enum op_kind kind, char *buf, uint64_t offset,
         uint64_t length)
{
  const uint64_t most = op_bytes_max (job->c, kind);

  while (length > 0) {
    const uint64_t n = length < most ? length : most;

    add_op (job, kind, buf, offset, n);
    if (buf != NULL)
      buf += n;
    offset += n;
    length -= n;
  }
}

/* Zeroes as data, with one small buffer for all. */
static void
add_zeroes_as_data (struct job *job, uint64_t offset, uint64_t length)
{
  if (job->charged)
    bucket_take (job->c->options.bucket, length, loop_now_us ());
  while (length > 0) {
    const uint64_t n = length < ZEROES_BYTES ? length : ZEROES_BYTES;

    add_ops (job, OP_WRITE, zeroes, offset, n);
    offset += n;
    length -= n;
  }
}

/* Whole units as zeroes, the rest as data. */
static void
add_zeroes (struct job *job, uint64_t offset, uint64_t length)
{
  const struct copier *c = job->c;
  const uint64_t end = offset + length;
  uint64_t from = end, to = end;

  if (can_zero (c))
    zero_align_middle (c->zero_align, offset, length, &from, &to);
  add_zeroes_as_data (job, offset, from - offset);
  add_ops (job, OP_ZERO, NULL, from, to - from);
  add_zeroes_as_data (job, to, end - to);
}

/* The destination refused it: again, and from now on, with ends that it may
 * like better.
 */
static void
zero_otherwise (struct op *op)
{
  struct copier *c = op->job->c;
  uint64_t from, to;

  zero_align_middle (c->zero_align, op->offset, op->length, &from, &to);
  if (op->io.error == EOPNOTSUPP)
    c->zero_align = ZERO_ALIGN_NEVER;
  else if (from == op->offset && to == op->offset + op->length)
    c->zero_align = zero_align_next (c->zero_align, op->offset, op->length);
  add_zeroes (op->job, op->offset, op->length);
}

/* ---- reading ----------------------------------------------------------- */

/* How many bytes lie between the job's end and the end of the destination's
 * block there.
 */
static uint64_t
pad_bytes (const struct copier *c, uint64_t end)
{
  const uint64_t block = c->destination->minimum_bytes;

  return (block - end % block) % block;
}

static void
start_reading (struct job *job)
{
  struct copier *c = job->c;
  const uint64_t end = job->offset + job->length;
  const uint64_t block = c->destination->minimum_bytes;

  job->stage = STAGE_READ;
  /* What the pause copies is free, or it would be paid for after a pause that
   * was not long enough.
   */
  job->charged = c->obey_rate;
  if (job->kind != SEGMENT_ZERO) {
    if (job->charged)
      bucket_take (c->options.bucket, job->length, loop_now_us ());
    add_ops (job, OP_READ_SOURCE, job->buf, job->offset, job->length);
  }
  if (job->kind == SEGMENT_COMPARE)
    add_ops (job, c->over_reader ? OP_READ_BACK : OP_READ_DESTINATION,
             job->other, job->offset, job->length + job->pad);
  else if (job->pad > 0)
    add_op (job, OP_READ_DESTINATION, job->other, end + job->pad - block,
            block);
}

static bool
allocate (struct job *job)
{
  struct buffers *b = job->c->buffers;

  if (buf_bytes (job) > 0) {
    job->buf = buffers_take (b, buf_bytes (job));
    if (job->buf == NULL)
      return false;
    if (job->kind == SEGMENT_ZERO)
      memset (job->buf, 0, buf_bytes (job));
  }
  if (other_bytes (job) > 0)
    job->other = buffers_take (b, other_bytes (job));
  return other_bytes (job) == 0 || job->other != NULL;
}

void
job_start (struct copier *c, uint64_t offset, uint64_t length,
           enum segment_kind kind, bool touched)
{
  struct job *job = small_new (&c->smalls, sizeof *job);

  if (job != NULL) {
    *job = (struct job){
      .c = c,
      .offset = offset,
      .length = length,
      .kind = kind,
      .touched = touched,
      .pad = pad_bytes (c, offset + length),
    };
    if (allocate (job)) {
      start_reading (job);
      if (job->pending == 0)
        job_advance (job);
      return;
    }
    job_end (job, COPY_FAILED);
  }
  else {
    copier_part_ended (c, offset, length, COPY_FAILED);
    copier_job_ended (c, kind, length);
  }
  if (c->error == NULL)
    c->error = strdup ("there is no memory for a copy buffer; try a smaller "
                       "--request-size or migrate-chunk");
}

/* ---- writing ----------------------------------------------------------- */

bool
is_zero (const char *buf, uint64_t length)
{
  static const char few[16];

  if (length < sizeof few)
    return memcmp (buf, few, length) == 0;
  return memcmp (buf, few, sizeof few) == 0 &&
         memcmp (buf, buf + sizeof few, length - sizeof few) == 0;
}

/* A run of bytes that are all zero; whole zero units, or the disk's end with
 * what the destination has behind it.
 */
static void
write_zeroes (struct job *job, uint64_t offset, uint64_t length)
{
  struct copier *c = job->c;

  if (job->charged && job->kind == SEGMENT_DATA)
    bucket_give_back (c->options.bucket, length);
  if (job->touched)
    add_zeroes (job, offset, length);
  else if (c->options.destination_is_zero)
    c->stats.skipped_bytes += length;
  else if (blank_covers (c, offset, length)) {
    c->stats.skipped_bytes += length;
    c->stats.blank_bytes += length;
  }
  else
    add_zeroes (job, offset, length);
}

/* Data that begins inside a chunk: blocks of zeroes in front of a long run are
 * left out, so that no run occupies a chunk more than it did.
 */
static uint64_t
zero_head (const struct job *job, uint64_t begin, uint64_t end)
{
  const uint64_t block = job->c->grain;
  uint64_t at = begin;

  if (end - begin <= job->c->zero_unit)
    return 0;
  while (end - at > block && is_zero (job->buf + at, block))
    at += block;
  return at - begin;
}

static void
write_data (struct job *job, uint64_t begin, uint64_t end)
{
  const uint64_t head = zero_head (job, begin, end);

  if (head > 0)
    write_zeroes (job, job->offset + begin, head);
  begin += head;
  add_ops (job, OP_WRITE, job->buf + begin, job->offset + begin, end - begin);
}

static void
start_writing (struct job *job)
{
  const uint64_t length = job->length + job->pad;
  struct copier *c = job->c;
  const uint64_t unit = c->zero_unit;
  uint64_t begin = 0, at, n;
  bool zero = false, data = false;

  job->stage = STAGE_WRITE;
  if (job->buf == NULL) {
    write_zeroes (job, job->offset, job->length);
    return;
  }
  for (at = 0; at <= length; at += n) {
    const bool last = at == length;
    const bool this_zero =
      !last && is_zero (job->buf + at, length - at < unit ? length - at : unit);

    n = last ? 1 : length - at < unit ? length - at : unit;
    if (at > begin && (last || this_zero != zero)) {
      if (zero)
        write_zeroes (job, job->offset + begin, at - begin);
      else
        write_data (job, begin, at);
      begin = at;
    }
    data |= !last && !this_zero;
    zero = this_zero;
  }
  c->asks |= !data;
  c->data_read |= data;
}

/* Put what the destination has behind the disk's end into the buffer. */
static void
fill_pad (struct job *job)
{
  const uint64_t block = job->c->destination->minimum_bytes;

  memcpy (job->buf + job->length, job->other + block - job->pad, job->pad);
}

/* What was read back may be in the server's cache only, written late by a
 * connection that is gone: the next flush has to be a real one (R17).  Chunk
 * by chunk: a guest's write to one of them says nothing of the others.
 */
static void
end_compare (struct job *job)
{
  const uint64_t chunk = job->c->options.chunk_bytes;
  uint64_t at, n;

  job->c->owes_flush = true;
  for (at = 0; at < job->length; at += n) {
    n = job->length - at < chunk ? job->length - at : chunk;
    copier_part_ended (job->c, job->offset + at, n,
                       memcmp (job->buf + at, job->other + at, n) == 0
                         ? COPY_EQUAL
                         : COPY_DIFFERENT);
  }
  job->c->stats.compared_bytes += job->length;
  job_free (job);
}

static void
job_advance (struct job *job)
{
  if (job->failed) {
    job_end (job, job->unknown ? COPY_UNKNOWN : COPY_FAILED);
    return;
  }
  if (job->kind == SEGMENT_COMPARE) {
    end_compare (job);
    return;
  }
  if (job->stage == STAGE_READ) {
    if (job->pad > 0)
      fill_pad (job);
    start_writing (job);
    if (job->pending > 0)
      return;
  }
  job_end (job, COPY_DONE);
}
