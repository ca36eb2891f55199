/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections to an NBD server, and commands on them.
 *
 *   remote.c       connections in use, waiting, what happens at a loss
 *   connect.c      making a connection, within a deadline
 *   connection.c   one libnbd handle and its I/O thread
 *   command.c      commands on connections: where to, answers, waiting
 *   send.c         sending them: one thread at a time for a connection
 *   receive.c      receiving the answers: likewise
 *   transfer.c     a range becomes commands
 *   ping.c         whether the server still answers
 *   destination.c  what the server offers, and whether that will do
 *
 * Slow is not lost (R17).  A connection is lost when the peer closes it, or
 * says that it is shutting down, or when the network does not reach the peer
 * any more.  One that is silent stays, with what is unanswered on it, for as
 * long as it takes: only the answer tells what became of a write.  What is lost
 * is reset at once (socket-reset.h).
 *
 * What is here knows no guest and repeats nothing: a command is answered, or
 * its connection was lost (REMOTE_LOST).  What follows from a loss is the
 * business of the one user of a struct remote: the relay waits, connects and
 * sends again; who mirrors gives up.
 *
 * One lock, remote.lock, guards all that is marked L below, and what the user
 * keeps beside it.  It is never held in a call to libnbd that takes the
 * handle's lock (nbd_aio_is_dead and its like do not): a completion callback
 * runs with that held and takes remote.lock, so the order is handle, then
 * remote.
 */

#ifndef NBDMIGRATE_REMOTE_H
#define NBDMIGRATE_REMOTE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libnbd.h>

#include "bell.h"
#include "destination.h"

#define REMOTE_CONNECTIONS_MAX 16

/* Results: 0, an errno, or this. */
#define REMOTE_LOST (-1)
/* Or this: nothing was sent, because every connection is silent. */
#define REMOTE_SILENT (-2)

/* Waiting threads look up this often. */
#define REMOTE_SLICE_MS 100

struct connection;

struct remote_options {
  uint64_t disk_bytes;
  /* A connection with something in flight (other than a flush) over which
   * nothing came for so long is silent: nothing else is sent on it.
   */
  unsigned silent_ms;
  /* It is lost when the peer's kernel has acknowledged nothing for so long
   * (socket-life.h); 0: never.
   */
  unsigned unheard_ms;
  bool require_tls; /* a URI without it is not connected to */
};

/* Whom to tell.  Called with the lock held, possibly in a completion callback:
 * it must not call libnbd.
 */
struct remote_user {
  /* The connection is of no use any more; 'again': that was known.  'why' may
   * be NULL.
   */
  void (*lost) (void *opaque, struct connection *c, bool again,
                const char *why);
  void *opaque;
};

/* The connections to one server. */
struct remote {
  struct remote_options options; /* constant */
  struct remote_user user;       /* constant */

  pthread_mutex_t lock;
  pthread_cond_t changed; /* whatever a thread may wait for */
  struct bell bell;       /* for those who wait for answers */
  unsigned next_bit;      /* L */

  int64_t longest_ms;       /* L: that a command took, or was lost after; or
                               that the user has seen */
  uint64_t piece_bytes;     /* atomic: of a request to zero or trim */
  unsigned silence_waiters; /* L: threads that wait for one not silent */
  uint64_t pings_lost;      /* L: count of those that were never answered */

  _Atomic uint32_t zero_align, trim_align; /* which it takes (zero-align.h) */

  bool up;             /* L: commands may be sent on those in use */
  bool stopping;       /* L: the server is quitting */
  int64_t stop_ms;     /* L: no later than this, when stopping */
  uint64_t generation; /* L: the user's count; a batch belongs to one */

  struct destination destination; /* L: of those in use */

  struct connection *connections[REMOTE_CONNECTIONS_MAX]; /* L: in use */
  unsigned nr_connections;                                /* L */
};

extern void remote_init (struct remote *m, const struct remote_options *options,
                         const struct remote_user *user);
/* No connection may be left. */
extern void remote_destroy (struct remote *m);

/* Use this connection from now on.  L. */
extern void remote_serve (struct remote *m, struct connection *c);

/* Take all out of use, or all that are lost.  They are now the caller's, who
 * closes them; returns how many.  L.
 */
extern unsigned remote_withdraw (struct remote *m, bool all,
                                 struct connection **out);

/* Whether one in use was lost.  L. */
extern bool remote_has_lost (const struct remote *m);

extern unsigned remote_in_flight (const struct remote *m); /* L */

struct command;

/* The one of those in flight that was sent first, flushes and pings included;
 * NULL: there is none.  L.
 */
extern const struct command *remote_oldest (const struct remote *m);

/* The longest that a command took, or has taken until now.  L. */
extern int64_t remote_longest_ms (struct remote *m);

/* Lose the connections in use that the network does not reach any more, and all
 * of them when it is time to stop.  L.
 */
extern void remote_check (struct remote *m);

/* Wait on 'changed', at most a slice.  False: it took that long.  L. */
extern bool remote_wait_changed (struct remote *m);

/* The connection is of no use any more and reset: nothing that is still in its
 * queue is delivered (R17).  One that is retired and has nothing in flight is
 * not: its queue is empty.  'why' may be NULL.  L.
 */
extern void remote_lose (struct connection *c, const char *why);

/* Send nothing any more over this connection, which may still answer: it is
 * lost as soon as no write on it is unanswered.  L.
 */
extern void remote_retire (struct connection *c, const char *why);

/* The longest time for which nothing has come over a connection in use where
 * something other than a flush is unanswered; 0: there is none such.  L.
 */
extern int64_t remote_silent_ms (const struct remote *m, int64_t now);

/* Whether commands can be sent now, or all connections are silent.  L. */
extern bool remote_is_silent (const struct remote *m, int64_t now);

/* ---- connect.c --------------------------------------------------------- */

struct attempt {
  const char *uri;
  int64_t deadline_ms; /* monotonic clock */

  /* It ends early when stopping and when one of these says so; NULL: no. */
  bool (*alive) (void *opaque); /* asked without the lock */
  void *alive_opaque;
  bool (*urgent) (void *opaque); /* something else must be done; L */
  void *urgent_opaque;
};

/* A connection that is checked and ready; its I/O thread does not run yet.
 * NULL: *why says why not; the caller frees it (NULL: no memory).
 */
extern struct connection *remote_connect (struct remote *m,
                                          const struct attempt *a, char **why);

/* ---- connection.c ------------------------------------------------------ */

struct command;
struct ping;

struct connection {
  struct remote *remote;
  struct nbd_handle *nbd;
  /* Our own descriptor of nbd's socket: nbd closes its own by itself, and the
   * number would be that of a stranger then.  L once the connection is in use.
   */
  int fd;
  int kick; /* eventfd, for the receiver: look at the direction again */
  int call; /* eventfd, for the I/O thread: look at io_receives again */
  pthread_t thread;
  char *why; /* the receiver's: what libnbd said last; may be NULL */
  struct destination destination;
  struct ping *ping; /* L */

  bool started;     /* there is an I/O thread */
  bool serving;     /* L: in remote.connections */
  bool lost;        /* atomic; changes under L: send nothing any more */
  bool reset;       /* L: its socket is, since it was lost */
  bool retired;     /* L: send nothing; lost when no write is unanswered */
  bool ended;       /* L: the I/O thread has nothing more to do */
  bool receiving;   /* atomic: there is a receiver (receive.c) */
  bool io_receives; /* atomic: it is the I/O thread */
  bool io_wanted;   /* atomic; changes under L: it is to be, to the end */
  unsigned waiters; /* atomic: threads that may be the receiver yet */
  struct command *outbox; /* atomic: to be sent (send.c) */
  bool must_send;         /* atomic: by the receiver, which has been kicked */
  unsigned users;         /* atomic: commands that are linked and not sent yet,
                             and threads that may be inside libnbd */
  unsigned in_flight;     /* L */
  unsigned load;          /* L: the same, where data counts, too */
  unsigned flushes;       /* L: of those in flight */
  unsigned writes;        /* L: of those in flight; zeroes and trims, too */
  unsigned others;        /* atomic; changes under L: of those in flight that
                             nobody receives for but the I/O thread */
  struct command *first;  /* L: commands in flight, the newest first */
  struct command *last;
  uint64_t acknowledged; /* L: count of writes answered */
  uint64_t flushed;      /* L: so many are covered by a flush here (R6) */
  int64_t heard_ms;      /* atomic: when something last came */
  int64_t proved_ms;     /* L: something sent then was answered: it lived */
};

/* One of those is not any more.  Without or with the lock. */
static inline void
connection_leave (struct connection *c)
{
  __atomic_fetch_sub (&c->users, 1, __ATOMIC_RELEASE);
}

/* Nothing new is sent over it.  'lost' is loaded by itself: together with its
 * neighbours a compiler would read what others change without the lock.  L.
 */
static inline bool
connection_is_given_up (const struct connection *c)
{
  return __atomic_load_n (&c->lost, __ATOMIC_RELAXED) || c->retired;
}

/* Commands may be sent on it: it is not given up, and not silent.  L. */
extern bool connection_is_usable (const struct connection *c, int64_t now);

/* As remote_check, for any connection.  L. */
extern void connection_check (struct connection *c, int64_t now);

/* Ask something small whose answer shows that the server lives: a read.  Does
 * not wait for it; one at a time.  L; released meanwhile, so nobody else may be
 * closing the connection.
 */
extern void connection_ping (struct connection *c);
extern bool connection_is_pinged (const struct connection *c); /* L */

/* The same over all connections in use.  False: no memory for some of them.  L;
 * released meanwhile.
 */
extern bool remote_ping (struct remote *m);
/* Whether one of them has yet to answer.  L. */
extern bool remote_is_pinged (const struct remote *m);

extern struct connection *connection_new (struct remote *m, char **why);

/* Start the I/O thread.  -1 with errno. */
extern int connection_start (struct connection *c);

/* Say goodbye if nothing is in flight, reset, wait for the I/O thread and for
 * the threads still inside libnbd, free.  Without the lock; nobody may find the
 * connection any more.
 */
extern void connection_close (struct connection *c);

/* Tell the server that this is the end; it closes then. */
extern void connection_goodbye (struct connection *c);

/* The direction changed, or something is to be sent: let the receiver look. */
extern void connection_kick (struct connection *c);

extern void connection_call_io_thread (struct connection *c);

/* libnbd has nothing more to do with it. */
extern bool connection_is_over (const struct connection *c);

/* ---- send.c ------------------------------------------------------------ */

/* For the receiver: send what it was asked to.  True: that is not all. */
extern bool connection_send (struct connection *c);

/* ---- receive.c --------------------------------------------------------- */

/* Batches whose threads are to be woken together. */
struct gathered {
  struct batch *first;
  unsigned n;
  struct batch *own; /* of the thread that gathers; NULL: it has none */
  bool own_answered;
};

/* What a receiver has to remember. */
struct receipt {
  struct gathered answered;
  bool more;     /* to be sent */
  bool complete; /* its own answer is there, and no other */
  bool left;     /* it is the receiver no more */
};

/* For the receiver only.  False: nothing came in that time (below 0: wait for
 * as long as it takes).  receive_end makes another thread the receiver.
 */
extern void receive_begin (struct connection *c, struct batch *own,
                           struct receipt *t);
extern bool receive_some (struct connection *c, struct receipt *t,
                          int timeout_ms);
extern void receive_end (struct connection *c, struct receipt *t);

/* Unless there is a receiver the I/O thread is; otherwise when that one ends,
 * if there is something for it to do.  L.
 */
extern void receive_by_io_thread (struct connection *c);
/* The same, and from then on no other thread is.  L. */
extern void receive_to_the_end (struct connection *c);
/* Whether there is something for it to do.  Without or with the lock. */
extern bool receive_needs_io_thread (const struct connection *c);

/* A batch has been answered, as libnbd says in this thread.  L. */
extern void receive_answered (struct connection *c, const struct batch *b);

/* For the thread that waits for a batch of one command. */
extern void receive_until_woken (struct batch *b, bool checks);

/* ---- command.c --------------------------------------------------------- */

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
  struct command *next_out;    /* the outbox's list */
  int64_t sent_ms;
  bool issued; /* L: libnbd may have got it */
  bool ping;   /* nobody waits for it */
  bool done;   /* L */
  int error;   /* L: when done: 0, an errno, or REMOTE_LOST */
};

#define BATCH_MAX 16

/* Commands sent together by one thread, which waits for all of them. */
struct batch {
  struct remote *remote; /* when it is sent */
  uint32_t bit;          /* of the bell */
  struct batch *next_gathered;
  struct command commands[BATCH_MAX];
  unsigned n;
  bool woken;    /* atomic: all are answered */
  bool sleeps;   /* constant: its thread does something else before it waits, or
                  * may stop waiting: it is never the receiver */
  bool waits;    /* atomic: its thread may be made the receiver */
  bool receives; /* atomic: it was */
  struct connection *receiver; /* L: whose; NULL: it waits only */
  bool sent;                   /* they have connections */
  bool silent;                 /* they have none, because all are silent */
  bool unknown;     /* a write was lost on the way: it may still land */
  unsigned pending; /* L */
  int result;       /* L: 0, the first errno, or REMOTE_LOST */
  /* Called when the last is answered, before whoever waits is woken; NULL: no.
   * L.
   */
  void (*finish) (struct batch *b);
  uint64_t generation; /* the one they belong to */
};

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
extern void batch_send (struct remote *m, struct batch *b,
                        struct connection *only);
extern int batch_wait (struct remote *m, struct batch *b);

/* The same for a batch that sleeps, no later than that; false: it is not over,
 * and batch and data must stay as they are.
 */
extern bool batch_wait_until (struct remote *m, struct batch *b,
                              int64_t until_ms, int *result);

/* batch_wait, for one that was sent over connections in use, without any lock:
 * it is as its callback and the answers have left it.  Somebody else must call
 * remote_check meanwhile.
 */
extern void batch_await (struct remote *m, struct batch *b);

/* The two halves of batch_send: choose the connections (L), send.  Until they
 * are sent, the commands are neither answered nor given up.
 */
extern void batch_link (struct remote *m, struct batch *b,
                        struct connection *only);
extern void batch_issue (struct batch *b);

/* The command has been answered, or never will be (ENOTCONN), or libnbd has not
 * taken it ('issued').  L.  If it was the last one of its batch, the batch:
 * batch_wake it, without the lock.
 */
extern struct batch *remote_command_done (struct command *cmd, int error)
  __attribute__ ((warn_unused_result));
extern void batch_wake (struct batch *b);

/* From now on this thread gathers what batch_answered is given; the gathered
 * are the caller's, and must be woken soon.  NULL: no more.
 */
extern void batch_gather (struct gathered *g);
/* And those that have these bits. */
extern void batch_wake_gathered (struct remote *m, struct gathered *g,
                                 uint32_t bits);

/* Wake it, or gather it.  NULL: nothing. */
extern void batch_answered (struct batch *b);

/* Until it is woken, or its thread made the receiver; 'checks': now and then
 * lose the connections that the network does not reach.
 */
extern void batch_sleep (struct batch *b, bool checks);

/* ---- transfer.c -------------------------------------------------------- */

extern void remote_init_pieces (struct remote *m);

/* What fits in one command to zero or trim whatever the server's speed. */
#define REMOTE_PIECE_SMALL (UINT32_C (64) << 10)

/* What one try of a request may rely on. */
struct view {
  uint64_t generation;
  struct destination destination;
};

/* Send one aligned range as as many commands as it takes.  'copy' (may be
 * NULL) gets a copy of the data while they are under way.  '*unknown' (may be
 * NULL) is set if a write may still land.  What a server does not take of a
 * trim is left out.
 */
extern int remote_transfer (struct remote *m, const struct view *v,
                            struct connection *only,
                            const struct command *model, uint8_t *copy,
                            bool *unknown);

/* The same for zeroes, whether or not the destination can zero; what it does
 * not take is written.
 */
extern int remote_transfer_zero (struct remote *m, const struct view *v,
                                 struct connection *only, uint32_t flags,
                                 uint64_t offset, uint64_t length,
                                 bool *unknown);

/* Whether all of such a range can be sent as one command, as far as is known.
 */
extern bool remote_takes_zero (struct remote *m, uint64_t offset,
                               uint64_t length);
extern bool remote_takes_trim (struct remote *m, uint64_t offset,
                               uint64_t length);

#endif /* NBDMIGRATE_REMOTE_H */
