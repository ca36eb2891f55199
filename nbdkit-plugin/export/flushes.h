/* SPDX-License-Identifier: BSD-3-Clause */
/* What was written to the local place and not flushed, and the flushes of it
 * that are under way together (R13, R14).
 *
 * Of two fsyncs of one file Linux tells one that a write was lost, and then
 * counts it as written; a plugin that has one file for all connections, or one
 * server, passes that on.  Most flushes are guests', and tell them.  But the
 * filter flushes by itself, too: an error that it hears is owed to the guests,
 * and a flush of a guest's that was under way beside it must not succeed.  The
 * other way round the filter may not take what it flushed for durable once a
 * flush of anybody's has failed: nothing tells what was lost.
 *
 * A flush that fails where nothing was to be flushed loses nothing, as when the
 * server behind the plugin was started again: then nothing is owed.
 *
 * For each of them: enter, ask the plugin, answered, leave or drop.  All
 * functions may be called by several threads at once, but enter, leave and drop
 * not with a lock that a flush needs.
 */

#ifndef NBDMIGRATE_FLUSHES_H
#define NBDMIGRATE_FLUSHES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum flush_kind {
  FLUSH_GUEST, /* a guest has asked for it */
  FLUSH_FUA,   /* the same, of what it writes with it */
  FLUSH_OWN,   /* the filter has */
};

/* One that is under way; the caller's, and unmoved from enter to the end. */
struct flush_entry {
  struct flush_entry *next;
  uint64_t number;     /* in the order in which they began */
  uint64_t own_failed; /* of the filter's, by then */
  enum flush_kind kind;
  bool unflushed; /* there was something to flush */
  bool answered;
  int answer;   /* 0 or -1 */
  bool waits;   /* for others */
  bool stopped; /* it did not wait to the end: flushes_stop */
};

struct flushes {
  bool unflushed; /* atomic: written, and no flush has begun since */

  pthread_mutex_t lock; /* for all that follows */
  pthread_cond_t changed;
  struct flush_entry *under_way;
  uint64_t begun;
  uint64_t own_failed; /* of the filter's, how many */
  bool failed;         /* one has that may have lost something, ever */
  bool stopping;       /* nobody waits any more */
};

extern void flushes_init (struct flushes *f);
extern void flushes_destroy (struct flushes *f);

/* A guest's write: before it is given to the plugin, and when it is done.  (A
 * flush that begins between the two is not about it, but one that fails may
 * have lost it.)
 */
extern void flushes_wrote (struct flushes *f);

/* Before a flush, or a write with FUA, is given to the plugin. */
extern void flushes_enter (struct flushes *f, struct flush_entry *entry,
                           enum flush_kind kind);

/* What the plugin has answered, 0 or -1; the caller still has the context that
 * it has asked.  True: it is one of the filter's, and something may be lost,
 * which the caller lets the guests know before it leaves.
 */
extern bool flushes_answered (struct flushes *f, struct flush_entry *entry,
                              int r);

/* The end.  A success waits for the others that have begun by now: a guest's
 * for those of the filter, one of the filter for all.  The answer; -1 also if
 * it counts as failed, since one of the filter's has, meanwhile, or if that is
 * not known, since the server quits.
 */
extern int flushes_leave (struct flushes *f, struct flush_entry *entry);

/* The same of one whose success nobody relies on: it waits for none. */
extern void flushes_drop (struct flushes *f, struct flush_entry *entry);

/* The server quits: a plugin that answers one to no end must not keep it. */
extern void flushes_stop (struct flushes *f);

/* Nobody can flush any more what was written, and not flushed yet: whether
 * there is any.
 */
extern bool flushes_lose (struct flushes *f);

/* Whether one has failed, ever, that may have lost something. */
extern bool flushes_have_failed (struct flushes *f);

#endif /* NBDMIGRATE_FLUSHES_H */
