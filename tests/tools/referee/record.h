/* SPDX-License-Identifier: BSD-3-Clause */
/* The record: what the guest asked for, when, and what was acknowledged.
 *
 * It lives in memory and in an append-only text file that outlives a killed
 * guest: a request is in the file before it is sent.  The file's lines:
 *
 *   referee 1 SEED MAX_CELLS ALIGN INITIAL   first line
 *   D SIZE                                a disk; in their order
 *   S ID TIME KIND FIRST COUNT            sent; FIRST and COUNT are cells, of a
 *                                         flush its disk and 0
 *   A ID TIME                             acknowledged
 *   E ID TIME ERRNO                       failed: its outcome is unknown
 *   C TIME                                a cache was lost: so is that of all
 *                                         that was acknowledged by then, but
 *                                         not written with FUA or flushed
 *
 * IDs count from 1; the ID of a write is the version of what it writes.
 * Times are microseconds since the epoch.
 */

#ifndef REFEREE_RECORD_H
#define REFEREE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "initial.h"
#include "layout.h"

enum op_kind {
  OP_READ = 'r', /* never recorded */
  OP_WRITE = 'w',
  OP_WRITE_FUA = 'W',
  OP_ZERO = 'z',         /* may make a hole */
  OP_ZERO_NO_HOLE = 'Z', /* must not */
  OP_ZERO_LONG = 'L',    /* the disk, or its first GiB, in one request */
  OP_TRIM = 't',
  OP_FLUSH = 'f', /* covers no cell */
};

enum op_state { OP_SENT, OP_ACKED, OP_FAILED };

struct op {
  enum op_kind kind;
  enum op_state state;
  int error; /* of a failed one */
  int64_t sent_us, ended_us;
  uint64_t acks; /* a flush: how many there were when it was sent; otherwise
                  * the number of its own */
  size_t first, count; /* cells; of a flush its disk and 0 */
};

/* The operations on one cell, oldest first. */
struct cell_ops {
  uint32_t *ids;
  uint32_t n, allocated;
  uint32_t seen; /* the state that a read returned: older ones are over (only
                  * known while the guest runs) */
};

struct record {
  struct layout layout;
  struct initial initial;
  struct op *ops; /* ops[id - 1] */
  size_t n, allocated;
  struct cell_ops *cells; /* as many as layout.n */
  uint64_t acks;          /* so far */
  uint32_t *unflushed;    /* ids of what the next flush covers, oldest first */
  size_t nr_unflushed, unflushed_allocated;
  int fd;    /* -1: only in memory */
  char *out; /* lines not yet in the file */
  size_t out_used, out_allocated;
};

/* A new record; r->layout's seed, max_cells, align, disks and sizes and
 * r->initial must be set.  The file must not exist or must be empty.
 */
extern void record_create (struct record *r, const char *path);

/* Read an existing one; with 'append' it can be continued. */
extern void record_load (struct record *r, const char *path, int append);
extern void record_free (struct record *r);

/* record_sent is to be called before sending, and record_write between it and
 * the sending.
 */
extern uint32_t record_sent (struct record *r, enum op_kind kind, size_t first,
                             size_t count);
extern void record_ended (struct record *r, uint32_t id, int64_t time_us,
                          int error);
extern void record_write (struct record *r);

/* The disk's cache was lost, now. */
extern void record_lost_cache (struct record *r);

static inline const struct op *
record_op (const struct record *r, uint32_t id)
{
  return &r->ops[id - 1];
}

#endif /* REFEREE_RECORD_H */
