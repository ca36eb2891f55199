/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes that the destination must hold: is what a lost destination comes back
 * with still the same disk?
 *
 * A server that was started on an empty or another image, or that gives every
 * client a disk of its own, connects as well as the right one.  The log is sent
 * again then, and all that was flushed before is gone without a word.  So a few
 * short pieces are remembered of what the guest has written and flushed, and of
 * what it read while nothing was unflushed; before a new connection is used
 * they are read over it and compared (R13, R17).  A piece need not be whole
 * blocks of the server, those that hold it are read.
 *
 * A piece is forgotten when a write to any part of it begins.  Pieces that are
 * zero prove nothing and are not taken.  What a trim leaves may change by
 * itself, and what a failed write or flush leaves may not be durable: after the
 * first one what is read counts for nothing.
 *
 * While the guest does not own what is there others write to it, over
 * connections of their own: nothing is remembered then.  And what a process
 * before this one has written may not be flushed: what is read counts from a
 * flush on that began when nothing of it could land any more.
 *
 * Not locked: the relay's lock must be held for every call.
 */

#ifndef NBDMIGRATE_RELAY_WITNESS_H
#define NBDMIGRATE_RELAY_WITNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WITNESS_BYTES 512
#define WITNESSES 16

struct witness {
  uint64_t offset; /* bytes */
  uint32_t length; /* bytes; 0: the place is free */
  uint64_t flush;  /* the first flush that covers it; 0: none was begun */
  bool flushed;    /* the destination must hold it */
  uint8_t data[WITNESS_BYTES];
};

struct witnesses {
  struct witness v[WITNESSES];
  uint64_t writes;     /* begun so far */
  uint64_t given_away; /* 'writes' when a place was, with all of them full */
  unsigned next;       /* the place that is, if it was flushed */
  bool trimmed;
  bool failed;            /* a write or a flush */
  bool not_ours;          /* others write there */
  bool inherited;         /* there may be what another process did not flush */
  uint64_t inherited_end; /* the flush that covers it; 0: none was begun */
};

/* Another process was here before. */
extern void witness_inherit (struct witnesses *w);

/* Whether the guest owns what is there.  If it does not: all is forgotten, also
 * what a read that is under way will return.
 */
extern void witness_owner (struct witnesses *w, bool ours);

/* A write, zero or trim of these bytes begins. */
extern void witness_forget (struct witnesses *w, uint64_t offset,
                            uint64_t length);

/* A write of these bytes was acknowledged.  Now and then a piece is taken. */
extern void witness_written (struct witnesses *w, const uint8_t *data,
                             uint64_t offset, uint64_t length);
extern void witness_trimmed (struct witnesses *w);

/* One ended with an error: it may be done in part, and no flush covers that. */
extern void witness_write_failed (struct witnesses *w);

/* Around a flush, with the number that relay_log_flush_begin gives.  'late':
 * something may land of which this process knows nothing.  The end is true if
 * what is read counts from now on, and did not before.  After a flush that
 * failed a server may have dropped whatever was not flushed: no later flush
 * covers it, though it may still be read.
 */
extern void witness_flush_begin (struct witnesses *w, uint64_t mark, bool late);
extern bool witness_flush_end (struct witnesses *w, uint64_t mark);
extern void witness_flush_failed (struct witnesses *w);

/* Whether there is room for what a read returns: to be asked before it is sent,
 * and 'writes' looked at.  Then, if that is the same and nothing was unflushed
 * or in flight, witness_read.
 */
extern bool witness_wants_reads (const struct witnesses *w);
extern void witness_read (struct witnesses *w, const uint8_t *data,
                          uint64_t offset, uint64_t length);

/* One of witness_list of another process: the destination must hold it. */
extern void witness_restore (struct witnesses *w, const uint8_t *data,
                             uint64_t offset, uint64_t length);

/* What the destination must hold, into 'out'; returns how many. */
extern size_t witness_list (const struct witnesses *w,
                            struct witness out[WITNESSES]);

#endif /* NBDMIGRATE_RELAY_WITNESS_H */
