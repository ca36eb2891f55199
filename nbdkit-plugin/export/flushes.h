/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes of the local place that are under way together (R13, R14).
 *
 * Of two fsyncs of one file Linux tells one that a write was lost, and then
 * counts it as written; a plugin that has one file for all connections, or one
 * server, passes that on.  Most flushes are guests', and tell them.  But the
 * filter flushes by itself, too: an error that it hears is owed to the guests,
 * and a flush of a guest's that was under way beside it must not succeed.  The
 * other way round the filter may not take what it flushed for durable once a
 * flush of anybody's has failed: nothing tells what was lost.
 *
 * All functions may be called by several threads at once, but not with a lock
 * that a flush needs.
 */

#ifndef NBDMIGRATE_FLUSHES_H
#define NBDMIGRATE_FLUSHES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One that is under way; the caller's, and unmoved from enter to leave. */
struct flush_entry {
  struct flush_entry *next;
  uint64_t number;     /* in the order in which they began */
  uint64_t own_failed; /* of the filter's, by then */
  bool own;            /* the filter's */
  bool answered;       /* it waits for others */
};

struct flushes {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct flush_entry *under_way;
  uint64_t begun;
  uint64_t own_failed; /* of the filter's, how many */
  bool failed;         /* one has, anybody's, ever */
};

extern void flushes_init (struct flushes *f);
extern void flushes_destroy (struct flushes *f);

/* Before a flush, or a write with FUA, is given to the plugin. */
extern void flushes_enter (struct flushes *f, struct flush_entry *entry,
                           bool own);

/* Once it has been answered with 'r', 0 or -1.  Who has heard an error has told
 * it before.  A success waits for the others that have begun by now: a guest's
 * for those of the filter, one of the filter for all.  -1: it counts as failed,
 * since one of the filter's has, meanwhile.
 */
extern int flushes_leave (struct flushes *f, struct flush_entry *entry, int r);

/* The same of one whose success nobody relies on: it waits for none. */
extern void flushes_drop (struct flushes *f, struct flush_entry *entry, int r);

/* Whether one has failed, ever: what was written before it may be lost. */
extern bool flushes_have_failed (struct flushes *f);

#endif /* NBDMIGRATE_FLUSHES_H */
