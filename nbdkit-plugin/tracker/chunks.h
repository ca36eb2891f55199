/* SPDX-License-Identifier: BSD-3-Clause */
/* The bits of a disk's chunks and how they change (R2 to R6, R17, R18).
 *
 * This is the tracker's table: it knows of no requests, gates, epochs or
 * times.  Not locked: the tracker's lock must be held for every call.
 *
 *   D dirty        the source may be newer than the destination
 *   L leased       the migrator is at work on it
 *   U unflushed    copied, no destination flush has covered it yet
 *   F flushing     copied, a destination flush that covers it is under way
 *   Q quarantined  a destination write of unknown outcome may still land
 *   W written      the migrator may have written here to the destination, or
 *                  the guest to the source since tracking began
 *   G guest        the guest has written here since the session began
 *
 * Then there is what guests touch in a round of the copying, and hot: what they
 * touched in each of the last two rounds that have ended; and what they have
 * touched since chunks_note_quiet, and quiet: what was clean then.
 *
 * They are independent of each other, but F is only used during a flush.
 * Work on whole bitmaps goes by words and leaves out those without a bit.
 */

#ifndef NBDMIGRATE_CHUNKS_H
#define NBDMIGRATE_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bitmap.h"
#include "dirt.h"
#include "extents.h"
#include "inflight.h"

struct chunks {
  uint64_t disk_bytes;
  unsigned shift; /* a chunk has 1 << shift bytes */
  uint64_t n;     /* the number of chunks; the last may be cut short */
  struct bitmap dirty, leased, unflushed, flushing, quarantined, written;
  struct bitmap guest;
  struct bitmap round, last_round, hot;
  struct bitmap touched; /* since chunks_note_quiet */
  uint64_t *quiet;       /* words */
};

/* -1 with errno ENOMEM; EINVAL if chunk_bytes is not a power of two. */
extern int chunks_init (struct chunks *c, uint64_t disk_bytes,
                        uint64_t chunk_bytes);
extern void chunks_destroy (struct chunks *c);

/* Chunks of another size, the same errors; nothing may be leased.  A chunk has
 * what any part of it had: all bits say that something may be so.
 */
extern int chunks_resize (struct chunks *c, uint64_t chunk_bytes);

/* The bytes of the chunks in one of the bitmaps, cut at the disk's end. */
extern uint64_t chunks_bytes (const struct chunks *c, const struct bitmap *b);

/* Whether the destination has all of it, durably and for sure (R10). */
extern bool chunks_clean (const struct chunks *c);

/* What chunks_mark would do. */
extern struct dirt chunks_weigh (const struct chunks *c, uint64_t offset,
                                 uint64_t length);

/* D, W and G for what a guest request touched.  Returns what that did. */
extern struct dirt chunks_mark (struct chunks *c, uint64_t offset,
                                uint64_t length);

/* A round of the copying ends and another begins: what is hot is known anew. */
extern void chunks_begin_round (struct chunks *c);

/* The bytes of what is hot, and dirty. */
extern uint64_t chunks_hot_bytes (const struct chunks *c);

/* Whether nothing of a guest request's chunks has L or Q, and one of them is
 * clean after it: it is now, or the request covers it wholly (R12).
 */
extern bool chunks_may_mirror (const struct chunks *c, uint64_t offset,
                               uint64_t length);

/* One that goes to both sides begins: W (R18), and no D for what it covers
 * wholly.  From now on it is the request that keeps these from counting as
 * clean (R9); it marks them when it does not end well.
 */
extern void chunks_begin_mirrored (struct chunks *c, uint64_t offset,
                                   uint64_t length);

/* U and G for what a guest request has written on both sides. */
extern struct dirt chunks_mirrored (struct chunks *c, uint64_t offset,
                                    uint64_t length);

/* Q for what it touches. */
extern void chunks_quarantine (struct chunks *c, uint64_t offset,
                               uint64_t length);

/* R12: what is mirrored and touches a chunk with L is in conflict. */
extern void chunks_flag_leased (const struct chunks *c, struct inflight *l);

/* Everything becomes dirty; the other bits stay. */
extern void chunks_mark_all (struct chunks *c);

/* W for all chunks, or for none. */
extern void chunks_set_written (struct chunks *c, bool written);

/* Q for all chunks, or for none. */
extern void chunks_set_quarantined (struct chunks *c, bool quarantined);

/* A session begins: G for none, and nothing is hot. */
extern void chunks_forget_guest (struct chunks *c);

/* What is left of the ranges without the chunks that have G, or that a request
 * in flight touches: appended to *out, in at most max_extents ranges.  *end:
 * how far it got, the end of the last range or where there was no room for
 * more.  -1 with errno ENOMEM.
 */
extern int chunks_untouched (const struct chunks *c,
                             const struct inflight *in_flight,
                             const struct extents *e, size_t max_extents,
                             struct extents *out, uint64_t *end);

/* Lease what is dirty (L set, D clear), or of that what is not hot; or what has
 * none of D, L, U and F, with or without Q.  See tracker_take and
 * tracker_compare.
 */
enum chunks_which {
  CHUNKS_DIRTY,
  CHUNKS_COLD,
  CHUNKS_CLEAN,
  CHUNKS_QUARANTINED
};
extern int chunks_lease (struct chunks *c, enum chunks_which which,
                         uint64_t cursor, uint64_t max_bytes,
                         size_t max_extents, struct extents *out,
                         uint64_t *next);

/* Whether these are ranges of whole chunks that are all leased, as the
 * functions below demand.
 */
extern bool chunks_are_leased (const struct chunks *c, const struct extents *e);

/* The end of a lease: copied, left out (the destination held the same without
 * our doing, as the caller knows), not copied, not copied and as it was, which
 * was without W, compared.  'wrong' is as in
 * tracker_compared; -1 with errno ENOMEM: nothing has changed.
 */
extern void chunks_done (struct chunks *c, const struct extents *e);
extern void chunks_skipped (struct chunks *c, const struct extents *e);
extern void chunks_failed (struct chunks *c, const struct extents *e,
                           bool unknown);
extern void chunks_put_back (struct chunks *c, const struct extents *e);
extern void chunks_equal (struct chunks *c, const struct extents *e);
extern int chunks_differ (struct chunks *c, const struct extents *e,
                          const struct inflight *in_flight,
                          struct extents *wrong);

/* A flush of the destination (R6), and what it lost in a crash (R6a). */
extern void chunks_flush_begin (struct chunks *c);
extern void chunks_flush_end (struct chunks *c, bool success);
extern void chunks_lost (struct chunks *c);
/* The same, and what is leased stays so, and is dirty. */
extern void chunks_mirror_lost (struct chunks *c);

/* The session is gone (R7).  True if a chunk was quarantined. */
extern bool chunks_interrupt (struct chunks *c);

/* Clear D, L, U and F; nothing is quiet. */
extern void chunks_forget (struct chunks *c);

/* Of these words of chunks, those are quiet from now on that have none of D, L,
 * U, F and Q, are not touched by a request in flight and, unless 'touched_too',
 * were not since the last time (R14).
 */
extern void chunks_note_quiet (struct chunks *c,
                               const struct inflight *in_flight,
                               bool touched_too, uint64_t word, size_t words);

/* Those that have been quiet since, and are clean still.  Bits past the last
 * chunk are 1.
 */
extern void chunks_quiet (const struct chunks *c,
                          const struct inflight *in_flight, uint64_t word,
                          size_t words, uint64_t *bits);

/* These words of chunks, which the source may have lost, become dirty, and are
 * not quiet any more.  W stays: nothing was written (R18).  Bits past the last
 * chunk are 0.
 */
extern void chunks_mark_words (struct chunks *c, uint64_t word,
                               const uint64_t *bits, size_t words);

/* Nothing is quiet. */
extern void chunks_forget_quiet (struct chunks *c);

/* D for these chunks, in words, and for no others; Q likewise or for none; W
 * for all.
 */
extern void chunks_restore (struct chunks *c, const uint64_t *dirty,
                            bool quarantined);

#endif /* NBDMIGRATE_CHUNKS_H */
