/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the copy engine share: copier.c (what the caller
 * says and asks), copier-run.c (scheduling), copier-job.c (one job from read to
 * ended), copier-pace.c (how much may be in flight), copier-queue.c (what
 * waits), copier-drop.c (what is given up), copier-flush.c (flushes),
 * copier-status.c (what is zero), copier-sample.c (whether it is),
 * copier-blank.c (what is zero at the destination), copier-part.c (chunks of
 * which parts have ended).
 */

#ifndef NBDMIGRATE_COPIER_INTERNAL_H
#define NBDMIGRATE_COPIER_INTERNAL_H

#include "copy/buffers.h"
#include "copy/copier.h"
#include "copy/small.h"
#include "extents.h"
#include "policy/fastest.h"
#include "policy/pace.h"

enum segment_kind {
  SEGMENT_DATA,
  SEGMENT_ZERO,
  SEGMENT_IN_BASE, /* not in the top layer: the destination has it already */
  SEGMENT_COMPARE,
};

/* A range that waits. */
struct segment {
  uint64_t offset, length;
  enum segment_kind kind;
  bool touched;
  struct segment *next;
};

struct queue {
  struct segment *first, **last;
  uint64_t bytes;
};

struct blank;
struct lookup;
struct op;
struct part;

#define COPIER_PARTS 1024

/* On a connection, of those whose answers carry data (copier-run.c). */
#define DEPTH_OF_READS 1

struct op_queue {
  struct op *first, **last;
};

struct copier {
  struct loop *loop;
  struct endpoint *source, *destination;
  struct copier_options options;
  struct buffers *buffers;
  bool shared;            /* with the proxy, which reads into them */
  const char *not_shared; /* why not (any more); static */
  uint64_t zero_unit;     /* shorter holes and runs of zeroes are data */
  uint64_t grain;         /* where a hole may begin and end */
  uint64_t copy_bytes, compare_bytes; /* of one job, at most */
  uint64_t read_bytes, write_bytes;   /* of one request with data, at most */
  struct pace from, to;               /* of the reads and of the writes */
  bool from_full, to_full;            /* the limits of those are reached */
  struct part *parts[COPIER_PARTS];
  struct queue unknown;   /* to be asked about */
  struct queue ready;     /* kind known */
  struct lookup *lookups; /* under way, in the order of their segments */
  unsigned nr_lookups, lookups_max;
  struct blank *blank;
  uint64_t begun_end; /* nothing behind it was begun by now */
  uint64_t tickets;   /* of questions so far */
  bool flush_first;   /* the source, before it is asked by block status */
  bool distrusted;    /* the source was wrong about a zero: ask no more */
  bool asks;          /* the source what is zero: some was read as data */
  bool data_read;     /* that is not */
  uint64_t data_begin, data_end; /* this is data, as the source said */
  uint64_t random;               /* for samples */
  /* These wait for a connection. */
  struct op_queue source_ops, destination_ops, reader_ops;
  bool over_reader; /* what is compared from now on */
  unsigned nr_destination_ops;
  uint64_t zero_bytes_max; /* of one request; see note_zero_time */
  uint32_t zero_align;     /* ends of such a request (zero-align.h) */
  struct smalls smalls;    /* jobs, their requests, flushes */
  unsigned jobs;
  uint64_t job_bytes; /* of those with buffers */
  bool obey_rate;
  bool narrow; /* copier_set_narrow */
  int64_t busy_since_us;
  struct copier_stats stats;
  unsigned flushes; /* due or under way, of the one that counts */
  unsigned flushes_sent;
  bool owes_flush; /* also if nothing was written; over which connection is all
                      the same */
  bool owed_due;   /* that one is to be sent */
  bool flushing;   /* it waits for those, and for those beside */
  uint64_t flush_us;     /* the longest request of it */
  struct fastest writes; /* of data */
  bool flush_failed;     /* any, since a loss if there was one */
  unsigned flushes_beside;
  uint64_t written_back_bytes; /* copied_bytes when it last began */
  char *error;
  bool error_is_loss; /* of the destination, which may come back */
};

struct flush {
  struct io io;
  bool owed;
  int64_t begun_us;
  struct copier *c;
};

enum op_kind {
  OP_READ_SOURCE,
  OP_READ_DESTINATION,
  OP_READ_BACK, /* of the destination, over the reader */
  OP_WRITE,
  OP_ZERO
};

/* One NBD request of a job. */
struct op {
  struct io io;
  int64_t begin_us;
  struct job *job;
  enum op_kind kind;
  char *buf;                /* into a buffer of the job */
  struct shared_slot *slot; /* the proxy reads to it, or NULL */
  uint64_t offset, length;
  struct op *next;
};

#define SAMPLES_MAX 8

/* Blocks that are read at the source to see whether they are zero. */
struct samples {
  struct copier *c;
  struct sample {
    struct io io;
    struct samples *all;
    uint64_t offset;
    char *block; /* as long as a grain */
    struct shared_slot *slot;
    enum { SAMPLE_WAITS, SAMPLE_ASKED, SAMPLE_ENDED } state;
    bool in_use; /* by the proxy, which may still read into the block */
    bool zero;
  } v[SAMPLES_MAX];
  unsigned n, in_flight;
  bool failed;                        /* one could not be read */
  void (*paused) (struct samples *s); /* nothing is in flight any more */
};

static inline uint64_t
round_up (uint64_t value, uint64_t unit)
{
  return (value + unit - 1) / unit * unit;
}

/* copier-queue.c */
extern void queue_init (struct queue *q);
extern int queue_append (struct queue *q, uint64_t offset, uint64_t length,
                         enum segment_kind kind, bool touched);
extern int queue_prepend (struct queue *q, uint64_t offset, uint64_t length,
                          enum segment_kind kind, bool touched);
extern struct segment queue_cut (struct queue *q, uint64_t bytes);

/* With what follows it in the queue and on the disk, if all of it is data. */
extern struct segment queue_cut_data (struct queue *q, uint64_t bytes);
extern void queue_free (struct queue *q);
extern void op_queue_append (struct op_queue *q, struct op *op);
extern struct op *op_queue_pop (struct op_queue *q);

/* copier-pace.c */
extern void copier_set_source_pace (struct copier *c);
extern void copier_set_paces (struct copier *c);
extern void copier_set_lengths (struct copier *c);

/* As many as may be are in flight. */
extern bool copier_is_full (const struct endpoint *e, const struct pace *p);

/* copier-flush.c */

/* Send what is due; whether that was anything. */
extern bool feed_flushes (struct copier *c);
extern void start_write_back (struct copier *c);

/* One that proves nothing; its 'ended' is to call the other.  It can be the one
 * that is told of a failure (R6), so a flush that counts waits for it.
 */
extern void flush_beside (struct flush *f, struct connection *conn);
extern void flush_beside_ended (struct flush *f);

/* copier.c */

/* Read a leased range of the source, by way of the shared memory if that can
 * be: then the slot, to be given to the other function when it has ended.
 */
extern struct shared_slot *
copier_read_source (struct copier *c, struct connection *conn, struct io *io,
                    char *buf, uint32_t length, uint64_t offset);

/* False: the proxy has not read it, and that is known to be all; so it is to be
 * read once more, over the connection, as everything is from now on.  *in_use:
 * the proxy may still read into the buffer; io has failed then.
 */
extern bool copier_collect (struct copier *c, struct shared_slot *slot,
                            struct io *io, bool *in_use);

/* The server is alive, and will not do it that way. */
extern bool copier_was_refused (const struct io *io);
extern void copier_fail (struct copier *c, const char *what,
                         const struct endpoint *where, uint64_t offset,
                         uint64_t length, const struct io *io);
extern void copier_part_ended (struct copier *c, uint64_t offset,
                               uint64_t length, enum copy_outcome outcome);

/* Of this part it is known what it holds: it waits for its turn, or has ended
 * if the destination holds the same already.  -1: no memory.
 */
extern int copier_add_known (struct copier *c, uint64_t offset, uint64_t length,
                             enum segment_kind kind, bool touched);
/* It has ended: the destination holds the same already. */
extern void copier_leave_out (struct copier *c, uint64_t offset,
                              uint64_t length);

/* How many bytes from the offset on are known to be data. */
extern uint64_t copier_known_data (const struct copier *c, uint64_t offset);

/* A block at this offset is said to be zero and is not. */
extern void copier_distrust (struct copier *c, uint64_t offset);

/* A connection without a request, or if all are broken any, which then says so;
 * NULL: wait.
 */
extern struct connection *endpoint_free_connection (const struct endpoint *e);
extern void copier_job_ended (struct copier *c, enum segment_kind kind,
                              uint64_t length);

/* copier-part.c.  A part of a leased range ended; tells the caller of the
 * chunks that have with it.
 */
extern void copier_ended_range (struct copier *c, uint64_t offset,
                                uint64_t length, enum copy_outcome outcome);
extern void copier_free_parts (struct copier *c);

/* copier-job.c */
extern void job_start (struct copier *c, uint64_t offset, uint64_t length,
                       enum segment_kind kind, bool touched);
extern void op_submit (struct op *op, struct connection *conn);

/* It was not sent, and will not be: its job fails, which is no error. */
extern void op_give_up (struct op *op);
extern bool is_zero (const char *buf, uint64_t length);

/* Whether the destination can write zeroes by itself, as far as is known. */
extern bool can_zero (const struct copier *c);

/* copier-status.c */

/* The depth of the layer that holds it is asked of the base's server, only
 * where nothing was ever copied: data that an earlier pass copied and the
 * guest dropped since must be copied again whatever the depth says (R18).
 */
extern struct endpoint *lookup_endpoint (const struct copier *c, bool touched);

/* Begin with the first unknown segment. */
extern void lookup_start (struct copier *c);

/* Whether one more may begin. */
extern bool lookup_may_start (const struct copier *c);

/* Do what they can do now; whether that was anything. */
extern bool lookups_run (struct copier *c);

/* Give them up: their segments end as COPY_FAILED at once. */
extern void lookups_drop (struct copier *c);

/* At the end: no answer will come, and nobody is told of the segments. */
extern void lookups_free (struct copier *c);

/* copier-sample.c */

/* Choose some of what is said to be zero.  's->paused' stays as it is. */
extern void samples_begin (struct copier *c, struct samples *s,
                           const struct extents *e);

/* Send what can be sent; whether that was anything. */
extern bool samples_run (struct samples *s);

/* All of them. */
extern bool samples_are_read (struct samples *s);

/* Nothing may be in flight. */
extern void samples_end (struct samples *s);

/* Choose one block; false: that one is not in one of the ranges, which must
 * not be empty.
 */
extern bool sample_choose (struct copier *c, const struct extents *e,
                           uint64_t *offset);

/* Whether what was read is zero, which is counted. */
extern bool sample_is_zero (struct copier *c, const char *block);

/* copier-blank.c.  NULL: no memory. */
extern struct blank *blank_new (struct copier *c);
extern void blank_free (struct blank *b);

/* Ask what can be asked, and leave out what the destination has of the first
 * of what is ready; whether that was anything.
 */
extern bool blank_run (struct copier *c);

/* The first of what is ready waits for an answer. */
extern bool blank_waits (const struct copier *c);

/* All of this is zero there, as it has said.  Only for what is not 'touched'.
 */
extern bool blank_covers (const struct copier *c, uint64_t offset,
                          uint64_t length);

/* An answer is waited for. */
extern bool blank_busy (const struct copier *c);

/* Nothing that the destination has said holds any more. */
extern void blank_forget (struct copier *c);

#endif /* NBDMIGRATE_COPIER_INTERNAL_H */
