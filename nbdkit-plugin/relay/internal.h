/* SPDX-License-Identifier: BSD-3-Clause */
/* What the relay's files share.
 *
 *   relay.c     open, stop, close, looking
 *   move.c      the destination is at another address
 *   request.c   a guest's request: tried again when it was lost
 *   try.c       one try of each kind of request: blocks, emulation
 *   quick.c     the usual case of a read or write, with two locks
 *   limit.c     requests that fail for the guest before they are answered
 *   mend.c      writes that failed for the guest and may still land
 *   write.c     one write-type range: the log around the transfer
 *   flush.c     a flush of the destination
 *   loss.c      what happens at once when the destination is lost
 *   watch.c     the thread that never blocks: silence, idleness
 *   keeper.c    the thread that connects again, and flushes in time
 *   replay.c    the log is sent again
 *   rest.c      what one relay leaves to the next
 *   probe.c     a round trip over all connections
 *   read-back.c a look at the destination over a chosen connection
 *   recognise.c is what came back still the disk? (witness.c: by what)
 *
 * Without threads: log.c, range-lock.c.  The connections are those of
 * remote/remote.h, and its lock is the relay's: it guards all that is marked L
 * below, the log and the range lock.
 *
 * Generations.  The connections of one time belong together: when one is lost
 * that may have held something unflushed, all are given up, the generation
 * rises, and nothing passes until no write is unanswered on them and the keeper
 * has connected again and replayed the log.  An answer of an older generation
 * proves nothing any more: whoever got it treats its request as lost and sends
 * it again.  So each acknowledged write is either in the log when the replay
 * walks over it, or sent again after it.
 */

#ifndef NBDMIGRATE_RELAY_INTERNAL_H
#define NBDMIGRATE_RELAY_INTERNAL_H

#include <pthread.h>

#include "log.h"
#include "range-lock.h"
#include "relay.h"
#include "witness.h"
#include "remote/remote.h"

/* Those who wait for room in the log, first come, first served. */
struct room_waiter {
  struct room_waiter *next;
};

/* A record of the log that was sent by a replay and not answered. */
struct sent_record {
  uint64_t cursor; /* rises in the order of the log */
  uint64_t offset, length;
};

/* Those of replays that were lost on the way; 'all': there are others. */
struct unknown_records {
  struct sent_record v[4 * BATCH_MAX];
  unsigned n;
  bool all;
};

struct relay {
  struct remote remote; /* 'up': requests pass */
  char *uri;            /* L: changes only while held */
  struct relay_options options;

  pthread_cond_t work;  /* for the keeper */
  pthread_cond_t watch; /* for the watcher */
  pthread_t keeper, watcher, mender;
  bool watcher_sleeps; /* L: until it is woken */

  bool held;               /* L: relay_hold: do not connect again */
  struct connection *next; /* L: relay_move: go on with this one */
  char *next_uri;          /* L: where it is, as long as it is there */
  bool trying;             /* L: the keeper is connecting again */
  int64_t lost_ms;         /* L: when, while it is not up */
  int64_t answered_ms;     /* L: when what was unanswered then was, or 0 */
  char *lost_why;          /* L: may be NULL */

  struct relay_log *log;    /* L */
  struct room_waiter *room; /* L: first in line */
  bool flush_wanted;        /* L: by the relay itself */
  struct flush *flushes;    /* L: under way (flush.c) */
  uint64_t flushes_begun;   /* L: counter */
  struct range_lock ranges; /* L */

  struct witnesses witnesses; /* L: what the destination must hold */
  bool has_witnesses;         /* atomic: no more are taken of reads */
  unsigned witness_reads;     /* L: reads that were asked for one */
  bool is_stranger;           /* the keeper's: it was said that it does not */
  bool is_unknown;            /* the keeper's: or that that is not known; both
                                 since it was lost, or was back */
  unsigned range_waiters;     /* L */
  struct unknown_records unknown_records; /* the keeper's */
  bool left_unknown;      /* L: and a range without memory for it, at the end */
  bool restoring;         /* L: the rest of an earlier one is in the log */
  int64_t quiet_until_ms; /* constant: nothing is sent again before */
  uint64_t rest_bytes;    /* constant: of the disk, in that rest */
  bool rest_refused;      /* the keeper's: that was said */
  bool rest_stuck;        /* the same: of what was sent, and is still kept */
  int64_t up_ms;          /* L: since when it is up */

  struct mend *mends;  /* L */
  pthread_cond_t mend; /* for the mender */

  struct job *jobs;       /* L: not begun yet */
  pthread_cond_t job;     /* for the workers */
  struct worker *workers; /* L: all */
  unsigned idle_workers;  /* L: at most so many jobs are taken at once */
  unsigned abandoned;     /* L: writes that go on, and nobody waits for them */

  struct {
    bool begun;
    bool failed; /* no memory */
    int64_t since_ms;
    uint64_t lost_before; /* remote.pings_lost then */
  } probe;                /* L: the latest round trip */
  bool probing;           /* L: somebody waits for it */

  uint64_t losses, replayed, own_flushes; /* L: counters */
  uint64_t failed_flushes;                /* L: also refused when sent again */
};

/* ---- move.c ------------------------------------------------------------ */

/* remote_connect, and only where the disk's blocks are no larger than now. */
extern struct connection *
relay_connect_again (struct relay *r, const struct attempt *a, char **why);

/* The connection that relay_move has prepared, once, or NULL.  The caller's. */
extern struct connection *relay_take_next (struct relay *r);

/* ---- request.c, try.c, write.c ----------------------------------------- */

/* One request of a guest, from its call to its return. */
struct request {
  struct relay *relay;
  const struct relay_waiter *waiter;
  void *buf; /* only read from, in a write */
  uint64_t length;
  uint64_t offset;
  unsigned flags; /* RELAY_* */
  struct extent_list *extents;
  uint64_t *seen;
  int64_t start_ms;
  int64_t asked_ms;   /* when its waiter was last asked */
  int64_t give_up_ms; /* 0: it was not lost yet */
  uint64_t ticket;    /* of a read: waits for what came no later; 0: for none */
  bool unknown;       /* a write of it may still land (R17) */
  struct range_node node;
};

/* One try.  0, an errno, or REMOTE_LOST: again, in the next generation. */
typedef int try_fn (struct request *q, const struct view *v);
/* All it takes. */
typedef int run_fn (struct request *q, try_fn *try);

extern int try_read (struct request *q, const struct view *v);
extern int try_write (struct request *q, const struct view *v);
extern int try_zero (struct request *q, const struct view *v);
extern int try_trim (struct request *q, const struct view *v);
extern int try_cache (struct request *q, const struct view *v);
extern int try_flush (struct request *q, const struct view *v);
extern int try_block_status (struct request *q, const struct view *v);

/* Let others run for a slice or until something changed.  0, or ESHUTDOWN:
 * stopping, or nobody waits for this request any more.  L.
 */
extern int request_wait (struct request *q);

/* Reads are to be remembered from now on, as far as they count.  L. */
extern void relay_want_witnesses (struct relay *r);

/* A try was lost: run it again, if there is time, in a later generation.  The
 * other one keeps its range until then, and then leaves it.
 */
extern int request_repeat (struct request *q, try_fn *try);
extern int request_go_on (struct request *q, try_fn *try);

/* Write, zero or trim one aligned range, with its record in the log. */
extern int relay_write_range (struct request *q, const struct view *v,
                              enum command_kind kind, uint32_t flags,
                              uint64_t offset, uint64_t length,
                              const void *data);

/* Have the keeper flush, if that can make room in the log.  L. */
extern void relay_want_flush (struct relay *r);

/* ---- quick.c ----------------------------------------------------------- */

/* Do it the short way.  False: it was not begun, it must go the long way. */
extern bool quick_write (struct request *q, int *result);
extern bool quick_read (struct request *q, int *result);

/* ---- limit.c ----------------------------------------------------------- */

/* run (q, try), but no longer than options.request_limit_ms: EIO then. */
extern int limit_run (struct request *q, run_fn *run, try_fn *try);

/* When stopping: wait for all that was begun. */
extern void limit_join (struct relay *r);

/* ---- mend.c ------------------------------------------------------------ */

/* For a request that ends with an error and may still land: it takes over the
 * request's place in the range lock (L), with a copy of the data.  NULL: no
 * memory.
 */
extern struct mend *mend_new (const struct request *q, try_fn *try);
extern void mend_take_over (struct mend *m, struct request *q);
extern void mend_free_all (struct relay *r);

extern void *relay_mender (void *opaque);

/* ---- flush.c ----------------------------------------------------------- */

/* One flush of the destination in this generation, of every connection that
 * has written since its last one (R6).  An error of the server's is owed to
 * the guests; '*seen' (may be NULL) keeps up with that.  Where another flush at
 * the same time has failed this one has, too.
 */
extern int relay_flush_once (struct relay *r, uint64_t generation,
                             uint64_t *seen);

/* ---- loss.c ------------------------------------------------------------ */

/* remote_user.lost; 'opaque' is the relay.  L. */
extern void relay_lost (void *opaque, struct connection *c, bool again,
                        const char *why);

/* After a loss, something is unanswered on a connection that is still open: the
 * destination is slow, not away (R17).  L.
 */
extern bool relay_awaits_answers (const struct relay *r);

/* Whether it is away for so long that a request fails: one that gives up at
 * that time, or (0) that meets the present loss only now.  L.
 */
extern bool relay_is_over (const struct relay *r, int64_t give_up_ms);

/* For how long a write of unknown outcome may still land after the destination
 * is back: twice the longest that it ever kept us waiting.  L.
 */
extern int64_t relay_grace_ms (const struct relay *r);

/* Tell the user.  Without the lock. */
extern void relay_notice (struct relay *r, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
extern void relay_good_news (struct relay *r, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
/* With it; released meanwhile. */
extern void relay_notice_locked (struct relay *r, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
extern void relay_good_news_locked (struct relay *r, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* ---- watch.c ----------------------------------------------------------- */

extern void *relay_watcher (void *opaque);

/* There is something to watch.  L. */
extern void relay_wake_watcher (struct relay *r);

/* ---- recognise.c ------------------------------------------------------- */

/* By what. */
struct recognition {
  size_t remembered, read; /* pieces */
  int error;               /* of the first that was not read; 0: none */
  uint64_t offset;         /* of one that differs */
};

/* Before a connection is used: 0 if what is there is the disk: all that could
 * be read is as remembered, and that is something if anything is remembered.
 * ESTALE if it does not hold what it must, EAGAIN if that cannot be known now,
 * or REMOTE_LOST.
 */
extern int relay_recognise (struct relay *r, struct connection *c,
                            struct recognition *k);

/* ---- keeper.c ---------------------------------------------------------- */

extern void *relay_keeper (void *opaque);

/* ---- replay.c ---------------------------------------------------------- */

/* Send the log again over a connection that is not in use yet, and flush it.
 * 0, or REMOTE_LOST: nothing has changed; *why.
 */
extern int relay_replay (struct relay *r, struct connection *c, char **why);

/* ---- rest.c ------------------------------------------------------------ */

/* How large the log has to be. */
extern size_t relay_rest_log_bytes (const struct relay_options *o);

/* Put options.rest into the log: there is something to restore.  L. */
extern void relay_take_rest (struct relay *r);

/* Before anything of it is sent: let what is on its way land.  0 or
 * REMOTE_LOST.
 */
extern int relay_rest_wait (struct relay *r, const struct connection *c);

/* The destination refuses it. */
extern void relay_rest_refused (struct relay *r, char **why);

/* It has been sent and flushed.  -1: *why. */
extern int relay_rest_done (struct relay *r, char **why);

/* Tell 'keep' what is left.  Its threads are gone. */
extern void relay_leave_rest (struct relay *r, relay_keep *keep, void *opaque);

#endif /* NBDMIGRATE_RELAY_INTERNAL_H */
