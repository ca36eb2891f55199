/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest first: how fast a copy may go so that guests keep a share of what
 * they do when nothing is copied (--background).
 *
 * What guests lose has many causes, most of them out of sight: processors that
 * the copy keeps busy in three processes and the kernel, a disk, a line.  So
 * none of them is looked at.  Now and then the copying rests for some
 * hundredths of a second, and what guests do in that time is compared with what
 * they do beside the copying.  The ratio is the share that is asked for,
 * whatever takes the rest away; and the copy's limit is moved until it is
 * right.
 *
 * A rest begins when what is under way has ended: a slow disk has much of it
 * in its queue, with the guest's requests behind.
 *
 * A guest that writes faster than is copied makes the bulk longer by what it
 * keeps, and what was copied has to be copied again: so the limit is at least
 * ahead of it, the less the more the guest comes first, and the more where it
 * is mirrored: then the end of the bulk is what helps it.
 *
 * A guest that does little is looked at for longer.  One that does too little,
 * or as much beside the copying, limits nothing, and is asked seldom or costs
 * no rest at all; nor does one that has left, or what it does not do while it
 * does nothing by itself.
 *
 * Where guests' writes are mirrored they do less in the rests, too: so what
 * they did before the mirror is what all else is compared with, within bounds,
 * as their load may have changed since; and what they do in the rests tells
 * what the mirror costs them.
 *
 * Pure: the caller takes the samples, at the times that are asked for.
 */

#ifndef NBDMIGRATE_BACKGROUND_H
#define NBDMIGRATE_BACKGROUND_H

#include <stdbool.h>
#include <stdint.h>

#define BACKGROUND_MAX 100

/* Sums since the beginning. */
struct background_sample {
  int64_t at_us;       /* monotonic, when it was taken */
  uint64_t requests;   /* of guests */
  uint64_t bytes;      /* that the copy has moved; some are given back */
  bool moving;         /* the copy had requests under way right before */
  uint64_t touch_rate; /* bytes a second that guests touch, of late */
  bool mirrored;       /* their writes go to the destination as well */
};

/* Requests in a time; what is longer ago counts for less. */
struct background_rate {
  double requests, us;
};

struct background {
  unsigned wished; /* 0 to BACKGROUND_MAX */
  double target;   /* the share that guests keep; 0: they are not cared for */
  enum background_stage {
    BACKGROUND_BEGINS, /* hardly a byte has been moved yet */
    BACKGROUND_COPIES,
    BACKGROUND_SETTLES, /* nothing new; what is under way ends */
    BACKGROUND_RESTS,
  } stage;
  int64_t next_us; /* when the next sample is wanted */
  struct background_sample last;
  struct background_sample seen; /* when a guest had done something */
  int64_t begun_us;              /* the latest stretch of copying */
  struct background_rate quiet, busy;
  struct background_rate busy_before; /* 'busy', without the latest stretch */
  struct background_rate alone;       /* 'quiet', before they were mirrored */
  bool mirrored;
  double moved, moved_us; /* in the stretch of copying until it has settled */
  int64_t settles_us;     /* since when it does */
  int64_t settled_us;     /* the longest time that this took */
  double pace;    /* of the copying beside which 'busy' was, bytes/second */
  double best;    /* pace so far */
  uint64_t limit; /* bytes per second; 0: none */
  double share;   /* that guests kept last; 1: or nothing is known */
  double shares;  /* the mean of the last SHARES, about */
  unsigned judged, rests; /* how often */
  unsigned clear;  /* in a row, they kept clearly more than was aimed at */
  unsigned slow;   /* it is looked for so many times as long as usual */
  unsigned untold; /* rests in a row that showed too little to judge */
  int change;      /* of what guests did in the last rest: 1: more, -1: less */
  unsigned hung;   /* rests in a row that did not come about */
};

/* 'background': 0, not at all, to BACKGROUND_MAX.  Also on the way: it begins
 * anew then.
 */
extern void background_init (struct background *b, unsigned background);

/* The same, but what guests did before they were mirrored is remembered: it
 * cannot be seen again.
 */
extern void background_begin_anew (struct background *b, unsigned background);

/* A sample was taken; it is at next_us or later.  What follows from it is in
 * next_us, limit and background_rests.
 */
extern void background_note (struct background *b,
                             const struct background_sample *s);

/* Whether nothing is to be copied now. */
extern bool background_rests (const struct background *b);

/* Whether it is known what guests do while nothing is copied, or nobody asks
 * for it, or they do too little for it ever to be.
 */
extern bool background_knows_quiet (const struct background *b);

/* Beside the copy, while their writes are not mirrored: what guests do, in
 * hundredths of what they do while it rests, as a mean of some looks: one may
 * be chance.  0: it is not known.
 */
extern unsigned background_kept_beside (const struct background *b);

/* While guests' writes are mirrored and nothing is copied: what they do, in
 * hundredths of what they did before.  0: it is not known.
 */
extern unsigned background_kept_mirrored (const struct background *b);

#endif /* NBDMIGRATE_BACKGROUND_H */
