/* SPDX-License-Identifier: BSD-3-Clause */
/* Token bucket for --rate and --background: how many bytes may be sent now.
 *
 * Bytes are taken when a request starts, so what is in flight is counted.  A
 * request may overdraw the bucket once; the next one waits until the debt is
 * paid, which keeps the long-term rate exact whatever the request length.
 * Pure: the caller passes the monotonic time in microseconds.
 */

#ifndef NBDMIGRATE_BUCKET_H
#define NBDMIGRATE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
  uint64_t rate;    /* bytes per second, 0: unlimited */
  uint64_t ceiling; /* the same, for guests; the lower of the two counts */
  bool held;        /* nothing may start, for a moment */
  bool paused;      /* nor until somebody says so */
  int64_t level;    /* bytes that may be taken; negative: debt */
  int64_t last_us;  /* when level was brought up to date */
  uint64_t takes;   /* how often something was taken */
  uint64_t taken;   /* bytes, without what was given back */
};

extern void bucket_init (struct bucket *b, uint64_t rate, int64_t now_us);

/* Change the rate; what was earned so far was earned at the old one. */
extern void bucket_set_rate (struct bucket *b, uint64_t rate, int64_t now_us);

extern void bucket_set_ceiling (struct bucket *b, uint64_t ceiling,
                                int64_t now_us);

/* Below a ceiling nothing is saved up while it is held: what guests were spared
 * in that time is not caught up with beside them.
 */
extern void bucket_hold (struct bucket *b, bool hold, int64_t now_us);

extern void bucket_pause (struct bucket *b, bool pause);

/* What counts: the lower of rate and ceiling, 0: unlimited. */
extern uint64_t bucket_limit (const struct bucket *b);

/* Whether a request may start now. */
extern bool bucket_ready (struct bucket *b, int64_t now_us);

/* A request of that many bytes starts, or (give_back) needed none after all. */
extern void bucket_take (struct bucket *b, uint64_t bytes, int64_t now_us);
extern void bucket_give_back (struct bucket *b, uint64_t bytes);

/* Milliseconds until bucket_ready, rounded up; 0: now.  While it is held, until
 * it has to be looked at again.
 */
extern int bucket_wait_ms (struct bucket *b, int64_t now_us);

#endif /* NBDMIGRATE_BUCKET_H */
