/* SPDX-License-Identifier: BSD-3-Clause */
/* The copy engine of one disk: moves leased ranges from the source to the
 * destination.
 *
 * It knows nothing of passes, deadlines and leases: it gets ranges and says of
 * each part how it ended.  Everything runs in the event loop; copier_run
 * starts what can be started and must be called after each round of it.
 *
 * A range goes through these steps:
 *
 *   queued -> [what is zero] -> segments (data or zero) -> jobs of about one
 *   request -> read -> writes and write-zeroes -> ended
 *
 * What is zero is asked here, after the range was leased, never earlier (R1).
 */

#ifndef NBDMIGRATE_COPIER_H
#define NBDMIGRATE_COPIER_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/bucket.h"
#include "policy/pace.h"
#include "nbd/endpoint.h"
#include "extents.h"

enum copy_outcome {
  COPY_SKIPPED,   /* the destination had it already: nothing was written */
  COPY_DONE,      /* the destination acknowledged it */
  COPY_FAILED,    /* it did not, and will not write it later */
  COPY_UNKNOWN,   /* the connection broke: it may still land (R17) */
  COPY_EQUAL,     /* compared: the same bytes on both sides */
  COPY_DIFFERENT, /* compared: not the same */
};

/* How a part of a range ended; chunk-aligned, cut at the disk's end. */
typedef void copier_ended (void *opaque, uint64_t offset, uint64_t length,
                           enum copy_outcome outcome);

/* Ask what of a leased range reads as zeroes, as long as the copier cannot be
 * told by block status without danger for the source.  copier_answer must
 * follow, from the loop, with the same ticket.
 */
typedef void copier_ask (void *opaque, uint64_t ticket, uint64_t offset,
                         uint64_t length);

/* The source said that a block there reads as zeroes, and it does not.  Nothing
 * is believed any more; what was left out before is to be taken again.
 */
typedef void copier_distrusted (void *opaque, uint64_t offset);

/* The same of the destination, which is not asked any more. */
typedef void copier_not_blank (void *opaque, uint64_t offset);
typedef void copier_wrote (void *opaque, uint64_t offset, uint64_t length);

struct copier_options {
  uint64_t chunk_bytes;
  uint64_t request_bytes;   /* of a read or write; 0: is found */
  unsigned depth;           /* requests on a connection; 0: is found */
  bool all_connections;     /* otherwise their number is found */
  uint64_t in_flight_bytes; /* of all jobs; one job is always allowed */
  uint64_t buffer_bytes;    /* kept for them; more is allocated if need be */
  bool destination_is_zero; /* where a range is not 'touched' (R18) */
  struct endpoint *reader; /* to the destination, never written over, or NULL */
  struct endpoint *base;   /* for --shared-base, or NULL; not owned */
  struct bucket *bucket;   /* shared by all disks; not owned */
  uint64_t sample_seed;    /* for the choice of samples */
  copier_ended *ended;
  copier_ask *ask; /* NULL: by block status at the source */
  copier_distrusted *distrusted;
  copier_not_blank *not_blank;
  copier_wrote *wrote; /* data, and the destination has acknowledged it */
  void *opaque;
};

struct copier_stats {
  uint64_t copied_bytes;   /* written to the destination as data */
  uint64_t zeroed_bytes;   /* as write-zeroes */
  uint64_t skipped_bytes;  /* known to be there already: zero, or in the base */
  uint64_t blank_bytes;    /* of these: zero, as the destination said */
  uint64_t compared_bytes; /* read back */
  uint64_t sampled_bytes;  /* said to be zero and read all the same */
  uint64_t moved_bytes;    /* ended well, of any kind */
  uint64_t busy_us;        /* time with a job under way */
};

/* The metadata context that the base must offer. */
#define COPIER_DEPTH_CONTEXT "qemu:allocation-depth"

struct copier;

/* Both endpoints stay the caller's.  They may be closed when nothing is done
 * with the copier any more but to free it.
 */
extern struct copier *copier_new (struct loop *loop, struct endpoint *source,
                                  struct endpoint *destination,
                                  const struct copier_options *options);
/* Nothing may be in flight, unless the endpoints are closed or the loop is
 * never run again.
 */
extern void copier_free (struct copier *c);

/* The memory of its buffers, to be sent to the source's proxy; -1: it cannot be
 * shared, *why says why.  Then whether the proxy reads into it, and if not, why
 * (static), also when that changes later.  The descriptor is closed with
 * copier_share.
 */
extern int copier_shared_fd (const struct copier *c, const char **why);
extern void copier_share (struct copier *c, bool shared, const char *why);
extern bool copier_is_shared (const struct copier *c, const char **why);

/* Queue a leased range to be copied, or to be read back and compared.  Ranges
 * begin and end at chunk boundaries (or the disk's end).  -1: no memory.
 */
extern int copier_add (struct copier *c, uint64_t offset, uint64_t length,
                       bool touched) __attribute__ ((warn_unused_result));
extern int copier_add_compare (struct copier *c, uint64_t offset,
                               uint64_t length)
  __attribute__ ((warn_unused_result));

/* The answer to copier_ask: what of [offset, *end) reads as zeroes, ascending;
 * the rest is data, also behind the end of the question.
 */
enum copier_said {
  COPIER_SAID_ZERO,
  COPIER_SAID_NOTHING,        /* all is data */
  COPIER_SAID_ASK_THE_SOURCE, /* by block status, from now on */
};
extern void copier_answer (struct copier *c, uint64_t ticket,
                           enum copier_said said, const struct extents *zero,
                           uint64_t end);

/* Nothing is in flight, and more is known of how far the destination is. */
extern void copier_note_distance (struct copier *c);

/* To the source there are more connections than there were. */
extern void copier_note_more_connections (struct copier *c);

/* A connection to the destination was lost: what it said may not hold. */
extern void copier_note_loss (struct copier *c);

/* Ask no more: from now on all that is taken is data, zeroes in it excepted. */
extern void copier_stop_asking (struct copier *c);

/* Whether what is compared from now on is read over the reader, if there is
 * one, otherwise over the connections that write.
 */
extern void copier_compare_over_reader (struct copier *c, bool over_reader);

/* Start whatever can be started now. */
extern void copier_run (struct copier *c);

/* Bytes queued and not begun. */
extern uint64_t copier_backlog (const struct copier *c);

/* A range is being read or written. */
extern bool copier_is_moving (const struct copier *c);

/* Nothing queued, nothing of it in flight. */
extern bool copier_has_ended_all (const struct copier *c);

/* Nor a flush that nobody waits for. */
extern bool copier_idle (const struct copier *c);

/* Give up what was not begun, but for about so many bytes of data in front: it
 * ends as COPY_FAILED at once.  Returns where it begins; UINT64_MAX: it is
 * nothing.
 */
extern uint64_t copier_give_back (struct copier *c, uint64_t data_bytes);

/* Give up what was not begun: it ends as COPY_FAILED at once. */
extern void copier_drop_queue (struct copier *c);

/* With false, the token bucket is not asked: in the final pass. */
extern void copier_obey_rate (struct copier *c, bool obey);
extern bool copier_obeys_rate (const struct copier *c);

/* What is written is written over as few connections as can be, so that as few
 * are to be flushed (R6): for a pass in which there is little to write.
 */
extern void copier_set_narrow (struct copier *c, bool narrow);

/* How many connections the next flush goes to. */
extern unsigned copier_unflushed (const struct copier *c);

/* Flush every connection that wrote, on that connection (R6), beside the
 * copying.  What was acknowledged before this call is covered; what is after it
 * belongs to the next flush.  One at a time: copier_flushing until it ended;
 * then *ok, which is false once any flush has failed, for good unless that was
 * a loss (copier_go_on).
 */
extern void copier_flush (struct copier *c);
extern bool copier_flushing (const struct copier *c, bool *ok);

/* How long the server took for the longest request of the latest flush. */
extern uint64_t copier_flush_us (const struct copier *c);

/* The first error, in words that name what was done, where, and what the
 * server said; NULL if there was none.
 */
extern const char *copier_error (const struct copier *c);

/* Whether that is the loss of the destination and nothing else; then it may go
 * on once that is back, and what was not flushed is dirty again (R6a).  Nothing
 * may be in flight.
 */
extern bool copier_has_lost (const struct copier *c);
extern void copier_go_on (struct copier *c);

/* As if a request had found the destination lost. */
extern void copier_interrupt (struct copier *c, const char *why);

extern void copier_get_stats (const struct copier *c, struct copier_stats *s);

/* Another pass begins. */
extern void copier_begin_pass (struct copier *c);

/* What a write takes at the destination: the fastest one of this pass and the
 * one before.  0: none was yet.
 */
extern uint64_t copier_write_us (const struct copier *c);

/* What was found best so far: of the reads and of the writes. */
extern void copier_get_limits (const struct copier *c, struct pace_limits *from,
                               struct pace_limits *to);

#endif /* NBDMIGRATE_COPIER_H */
