/* SPDX-License-Identifier: BSD-3-Clause */
/* What the relay's files share.
 *
 *   relay.c              open, stop, close, looking
 *   move.c         the destination is at another address
 *   request.c      a guest's request: tried again when it was lost
 *   try.c          one try of each kind of request: blocks, emulation
 *   write.c        one write-type range: the log around the transfer
 *   patience.c     how long a server may keep a command waiting
 *   transfer.c     a range becomes commands
 *   command.c      commands on connections: send, wait
 *   flush.c        a flush of the destination
 *   connection.c   one libnbd handle and its I/O thread
 *   connect.c      making such a connection, within a deadline
 *   loss.c         what happens at once when the destination is lost
 *   keeper.c       the thread that connects again, and flushes in time
 *   replay.c       the log is sent again
 *   read-back.c    a look at the destination over a chosen connection
 *
 * Without threads: log.c, range-lock.c, destination.c.
 *
 * One lock, relay.lock, guards all that is marked L below, the log and the
 * range lock.  It is never held in a call to libnbd: a completion callback runs
 * with the handle's lock held and takes relay.lock, so the order is handle,
 * then relay.
 *
 * Generations.  The connections of one time belong together: when one is lost
 * that may have held something unflushed, all are shut down, the generation
 * rises, and nothing passes until the keeper has connected again and replayed
 * the log.  An answer of an older generation proves nothing any more: whoever
 * got it treats its request as lost and sends it again.  So each acknowledged
 * write is either in the log when the replay walks over it, or sent again
 * after it.
 */

#ifndef NBDMIGRATE_RELAY_INTERNAL_H
#define NBDMIGRATE_RELAY_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>

#include <libnbd.h>

#include "destination.h"
#include "log.h"
#include "range-lock.h"
#include "relay.h"

/* Results inside the relay: 0, an errno, or this. */
#define RELAY_LOST (-1)

/* Waiting threads look up this often. */
#define RELAY_SLICE_MS 100

enum command_kind {
  COMMAND_READ,
  COMMAND_WRITE,
  COMMAND_ZERO,
  COMMAND_TRIM,
  COMMAND_FLUSH,
  COMMAND_CACHE,
  COMMAND_STATUS,
};

struct batch;
struct connection;

/* What block status answered. */
struct extent_list {
  struct {
    uint64_t length;
    uint32_t flags;
  } * v;
  size_t n;
  uint64_t start; /* of the first one */
};

/* One NBD command. */
struct command {
  enum command_kind kind;
  uint32_t flags; /* LIBNBD_CMD_FLAG_* */
  uint64_t offset;
  uint64_t length;
  void *data; /* read into, or written from (not changed then) */
  struct extent_list *extents;

  struct batch *batch;
  struct connection *connection;
  struct command *prev, *next; /* L: the connection's list */
  int64_t sent_ms;
  bool issued; /* L: libnbd may have got it */
  bool done;   /* L */
};

#define BATCH_MAX 16

/* Commands sent together by one thread, which waits for all of them. */
struct batch {
  sem_t finished; /* posted once, when pending reaches 0 */
  struct command commands[BATCH_MAX];
  unsigned n;
  bool sent;           /* they have connections */
  bool unknown;        /* a write was lost on the way: it may still land */
  unsigned pending;    /* L */
  int result;          /* L: 0, the first errno, or RELAY_LOST */
  uint64_t generation; /* the one they belong to */
};

struct connection {
  struct relay *relay;
  struct nbd_handle *nbd;
  int fd;   /* nbd's socket; L once the connection is in use */
  int kick; /* eventfd: look at the direction again */
  pthread_t thread;
  struct destination destination;

  bool started;          /* there is an I/O thread */
  bool serving;          /* L: in relay.connections */
  bool lost;             /* L: send nothing any more */
  bool ended;            /* L: the I/O thread has nothing more to do */
  unsigned users;        /* L: commands whose senders may be inside libnbd */
  unsigned in_flight;    /* L */
  struct command *first; /* L: commands in flight */
  uint64_t acknowledged; /* L: count of writes answered */
  uint64_t flushed;      /* L: so many are covered by a flush here (R6) */
  int64_t progress_ms;   /* atomic: the last time something moved */
  int64_t flush_done_ms; /* L: when the last flush was answered, 0: never */
};

enum relay_state { STATE_UP, STATE_DOWN };

/* Those who wait for room in the log, first come, first served. */
struct room_waiter {
  struct room_waiter *next;
};

struct relay {
  char *uri; /* L: changes only while held */
  struct relay_options options;

  pthread_mutex_t lock;
  pthread_cond_t changed; /* state, ranges, room, stopping, users */
  pthread_cond_t work;    /* for the keeper */
  pthread_t keeper;

  enum relay_state state;         /* L */
  bool stopping;                  /* L */
  bool held;                      /* L: relay_hold: do not connect again */
  struct connection *next;        /* L: relay_move: go on with this one */
  char *next_uri;                 /* L: where it is, as long as it is there */
  bool trying;                    /* L: the keeper is connecting again */
  int64_t stop_ms;                /* L: no later than this, when stopping */
  uint64_t generation;            /* L: rises with each loss */
  uint64_t error_generation;      /* L */
  int64_t lost_ms;                /* L: when, in STATE_DOWN */
  char *lost_why;                 /* L: may be NULL */
  struct destination destination; /* L: of this generation */

  struct connection *connections[RELAY_CONNECTIONS_MAX]; /* L */
  unsigned nr_connections;                               /* L */

  struct relay_log *log;    /* L */
  struct room_waiter *room; /* L: first in line */
  bool flush_wanted;        /* L: the log is half full */
  struct range_lock ranges; /* L */
  unsigned range_waiters;   /* L */
  bool replay_unknown;      /* the keeper's: a replay was lost on the way */
  int64_t up_ms;            /* L: since when, in STATE_UP */

  uint64_t losses, replayed, own_flushes; /* L: counters */
};

/* ---- connect.c --------------------------------------------------- */

struct attempt {
  const char *uri;
  int64_t deadline_ms; /* monotonic clock */

  /* It ends early when stopping and when one of these says so; NULL: no. */
  bool (*urgent) (const struct relay *r); /* asked with the lock held */
  const struct relay_waiter *waiter;
};

/* Connect, learn what is there and check it; no thread yet.  NULL: *why. */
extern struct connection *relay_connect (struct relay *r,
                                         const struct attempt *a, char **why);

/* The same for a relay that serves already: also the blocks must not have
 * become larger.
 */
extern struct connection *
relay_connect_again (struct relay *r, const struct attempt *a, char **why);

/* ---- move.c ------------------------------------------------------ */

/* The connection that relay_move has prepared, once, or NULL.  The caller's. */
extern struct connection *relay_take_next (struct relay *r);

/* ---- connection.c ------------------------------------------------ */

extern struct connection *connection_new (struct relay *r, char **why);

/* Start the I/O thread.  -1 with errno. */
extern int connection_start (struct connection *c);

/* Shut down, wait for the I/O thread and for the threads still inside libnbd,
 * free.  Without the lock; nobody may find the connection any more.
 */
extern void connection_close (struct connection *c);

/* Tell the server that this is the end; it closes then. */
extern void connection_goodbye (struct connection *c);

/* The direction changed: let the I/O thread look. */
extern void connection_kick (struct connection *c);

/* ---- command.c --------------------------------------------------- */

extern void batch_init (struct batch *b, uint64_t generation);
extern void batch_destroy (struct batch *b);

/* Put a command into the batch, which must not be full; it is not sent yet. */
extern struct command *batch_add (struct batch *b, enum command_kind kind,
                                  uint32_t flags, uint64_t offset,
                                  uint64_t length, void *data);

/* Send them, over 'only' if that is not NULL (it need not be in use yet),
 * otherwise over connections in use, and not when the batch's generation is
 * over.  batch_wait must follow; it empties the batch.  Without the lock.
 */
extern void batch_send (struct relay *r, struct batch *b,
                        struct connection *only);
extern int batch_wait (struct relay *r, struct batch *b);

/* The two halves of batch_send: choose the connections (L), send. */
extern void batch_link (struct relay *r, struct batch *b,
                        struct connection *only);
extern void batch_issue (struct batch *b);

/* The command has been answered, or never will be (ENOTCONN).  L.  If it was
 * the last one of its batch, the batch: batch_wake it, without the lock.
 */
extern struct batch *relay_command_done (struct command *cmd, int error)
  __attribute__ ((warn_unused_result));
extern void batch_wake (struct batch *b);

/* ---- request.c, try.c, write.c ----------------------- */

/* What one try of a request may rely on. */
struct view {
  uint64_t generation;
  struct destination destination;
};

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
  int64_t give_up_ms; /* 0: it was not lost yet */
  bool unknown;       /* a write of it may still land (R17) */
  struct range_node node;
};

/* One try.  0, an errno, or RELAY_LOST: again, in the next generation. */
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

/* Write, zero or trim one aligned range, with its record in the log. */
extern int relay_write_range (struct request *q, const struct view *v,
                              enum command_kind kind, uint32_t flags,
                              uint64_t offset, uint64_t length,
                              const void *data);

/* ---- transfer.c -------------------------------------------------- */

/* Send one aligned range as as many commands as it takes.  'copy' (may be
 * NULL) gets a copy of the data while they are under way.
 */
extern int relay_transfer (struct relay *r, const struct view *v,
                           struct connection *only, const struct command *model,
                           uint8_t *copy, bool *unknown);

/* The same for zeroes, whether or not the destination can zero. */
extern int relay_transfer_zero (struct relay *r, const struct view *v,
                                struct connection *only, uint32_t flags,
                                uint64_t offset, uint64_t length,
                                bool *unknown);

/* ---- flush.c ----------------------------------------------------- */

/* One flush of the destination in this generation, of every connection that
 * has written since its last one (R6).  An error of the server's raises the
 * error generation; '*seen' (may be NULL) keeps up with that.
 */
extern int relay_flush_once (struct relay *r, uint64_t generation,
                             uint64_t *seen);

/* ---- loss.c ------------------------------------------------------ */

/* The connection is of no use any more; 'why' may be NULL.  L. */
extern void relay_lose (struct connection *c, const char *why);

/* Until when a request that meets the present loss only now may wait.  L. */
extern int64_t relay_give_up_ms (const struct relay *r);

/* Wait on 'changed', at most a slice.  False: it took that long.  L. */
extern bool relay_wait_changed (struct relay *r);

/* Acknowledged writes may have been lost: every guest connection is to hear of
 * it at its next flush (R13).  L.
 */
extern void relay_raise_error (struct relay *r, uint64_t *seen);

/* Tell the user.  Without the lock. */
extern void relay_notice (struct relay *r, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
/* With it; released meanwhile. */
extern void relay_notice_locked (struct relay *r, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* ---- keeper.c ---------------------------------------------------- */

extern void *relay_keeper (void *opaque);

/* Use this connection from now on.  L. */
extern void relay_serve (struct relay *r, struct connection *c);

/* ---- replay.c ---------------------------------------------------- */

/* Send the log again over a connection that is not in use yet, and flush it.
 * 0, or RELAY_LOST: nothing has changed.
 */
extern int relay_replay (struct relay *r, struct connection *c);

#endif /* NBDMIGRATE_RELAY_INTERNAL_H */
