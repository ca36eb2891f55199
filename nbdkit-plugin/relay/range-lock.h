/* SPDX-License-Identifier: BSD-3-Clause */
/* Which byte ranges of the destination are being written.
 *
 * Write-type requests that overlap, in terms of whole destination blocks, are
 * served one after the other, in the order of their arrival.  That keeps
 * read-modify-write whole (R19), and it makes the order of overlapping writes
 * known: the destination may reorder what is in flight together.
 *
 * A read waits for the writes to its range that came before it.  It could see
 * the new data while the write is unanswered, and the old data again if the
 * write is lost and repeated: reads never go back in time.
 *
 * A range in which a write of unknown outcome may still land (R17) stays
 * behind as a suspect when its request has ended, until a point in time.
 *
 * The list is short, so looking for an overlap is a scan.  Not locked: the
 * relay's lock must be held for every call.  Times are of the caller's clock.
 */

#ifndef NBDMIGRATE_RELAY_RANGE_LOCK_H
#define NBDMIGRATE_RELAY_RANGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Lives with the caller between enter and leave. */
struct range_node {
  uint64_t start, end; /* bytes, whole blocks */
  uint64_t ticket;     /* rises in the order of arrival */
  struct range_node *prev, *next;
};

struct range_suspect;

struct range_lock {
  struct range_node head; /* of a ring in the order of arrival */
  uint32_t block_bytes;   /* a power of two */
  uint64_t tickets;       /* the last that was given */
  struct range_suspect *suspects;
};

#define RANGE_NEVER INT64_MAX

enum range_answer {
  RANGE_MINE,
  RANGE_HELD,    /* an earlier request has it */
  RANGE_SUSPECT, /* an old write may still land there */
};

extern void range_lock_init (struct range_lock *l, uint32_t block_bytes);
extern void range_lock_destroy (struct range_lock *l);

/* Stand in line for the blocks of [offset, offset + length). */
extern void range_lock_enter (struct range_lock *l, struct range_node *node,
                              uint64_t offset, uint64_t length);
extern enum range_answer range_lock_ask (struct range_lock *l,
                                         const struct range_node *node,
                                         int64_t now);
extern void range_lock_leave (struct range_lock *l, struct range_node *node);

/* The other node, which is not in the list, takes its place. */
extern void range_lock_replace (struct range_node *node,
                                struct range_node *other);

/* Whether a write that came no later than the ticket (l->tickets when the read
 * began) is in the way of a read.
 */
extern bool range_lock_blocks_read (const struct range_lock *l, uint64_t offset,
                                    uint64_t length, uint64_t ticket);

/* Call for each suspect that is left. */
extern void range_lock_each_suspect (const struct range_lock *l, int64_t now,
                                     void (*cb) (void *opaque, uint64_t offset,
                                                 uint64_t length,
                                                 int64_t until),
                                     void *opaque);

/* Leave, but the range stays suspect until 'until', or until
 * range_lock_suspects_until is called if that is RANGE_NEVER.  -1: no memory;
 * the node has not left.
 */
extern int range_lock_leave_suspect (struct range_lock *l,
                                     struct range_node *node, int64_t until);

/* Whether there is a suspect at all. */
extern bool range_lock_has_suspects (const struct range_lock *l, int64_t now);

/* All suspects last until then: RANGE_NEVER at a loss, a time after it. */
extern void range_lock_suspects_until (struct range_lock *l, int64_t until);

#endif /* NBDMIGRATE_RELAY_RANGE_LOCK_H */
