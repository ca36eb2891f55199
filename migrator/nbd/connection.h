/* SPDX-License-Identifier: BSD-3-Clause */
/* One NBD connection in an event loop.
 *
 * Everything is asynchronous with a deadline; nothing here blocks for ever,
 * whatever the server does.  A request (struct io) belongs to the caller and
 * must live until its 'ended' has run; it runs from the loop, never from
 * inside the call that submitted it.
 *
 * Lock contract: all of this is called by the loop's thread, the main thread.
 * Where there is TLS, what libnbd does takes a processor's time, so another
 * thread drives the connection (driver.h): the main thread says what is to be
 * asked and is told of the end, and touches the handle only to ask what needs
 * no lock or does not change.  'lock' guards what is marked so; libnbd is not
 * called with it.
 */

#ifndef NBDMIGRATE_CONNECTION_H
#define NBDMIGRATE_CONNECTION_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <libnbd.h>

#include "ledger.h"
#include "base/loop.h"

struct connection;
struct driver;
struct wire;

enum io_kind { IO_READ, IO_CACHE, IO_WRITE, IO_ZERO, IO_FLUSH, IO_STATUS };

struct io {
  struct deferred deferred; /* of whose turn it is */
  enum io_kind kind;
  uint32_t flags;
  union {
    void *to;
    const void *from;
  } data;
  uint64_t bytes, offset;
  void (*ended) (struct io *io);
  struct connection *connection;
  int error; /* errno of the request, 0: it succeeded */
  bool lost; /* the connection broke: the outcome is unknown (R17) */
  bool flush;
  bool probe;      /* probe.h: nothing depends on it, so it may take any time */
  bool writes;     /* changes the server's disk */
  bool given;      /* to libnbd; guarded */
  bool answered;   /* by the server; guarded */
  bool again;      /* made once more, for what is said of it (words.h) */
  int first_error; /* if so: what it ends with */
  char *words; /* what the server said of it, or NULL; freed after 'ended' */
  int64_t started_us;
  struct io *prev, *next; /* in flight on this connection; guarded */
};

/* Whether what became of it says that the server has gone, or goes: one that is
 * stopped in an orderly way may answer so before it closes the connection.
 */
static inline bool
io_tells_loss (const struct io *io)
{
  return io->lost || io->error == ESHUTDOWN;
}

struct connection {
  struct watch watch;
  struct loop *loop;
  struct nbd_handle *nbd;
  int sock; /* owned by nbd, which may have closed it: connection_socket;
               a duplicate, or -1, where it is driven by another thread */
  unsigned in_flight;
  struct io *ios;      /* the requests in flight; guarded, and changed by the
                          main thread only */
  int64_t answered_us; /* when the last one ended */
  int64_t worked_us;   /* the same, of those that are no probes */
  int64_t asked_us;    /* when the latest began that was answered */
  struct probe *probe; /* probe.h: in flight, owned; or NULL */
  bool flush_due;      /* a flush that counts is to be sent (R6) */
  bool written;        /* the last one that was sent may not cover all */
  bool coming;         /* being made: connection_begin */
  struct reach *reach; /* on the way to the server; NULL: libnbd goes on */
  bool heard;          /* the server has said something */
  bool held;           /* begun ahead: it does not open the export yet */
  char *why;           /* why it broke, owned; NULL while it works */
  int64_t quickest_us; /* of all answers; 0: there is none */

  /* The thread that drives it, or NULL: the loop does. */
  struct driver *driver;
  struct watch driven; /* in its loop */
  bool is_duplicate;   /* 'sock' is */
  pthread_mutex_t lock;
  struct deferred news; /* there is a 'broken_why' */
  bool broken;          /* guarded */
  char *broken_why;     /* owned; guarded */

  /* What the proxy sees of it (unanswered.h); NULL: nothing.  All guarded. */
  struct ledger_line *line, *next_line; /* the latter while it changes */
  int64_t slowest_us;                   /* of all answers to writes */
  bool whole, between;                  /* as in the line */
  bool frozen;                          /* it broke: the line stays as it is */

  char *words;       /* words.h: of the request that is being answered */
  struct wire *wire; /* what it carried, once it is closed (wire.h); or NULL */

  bool tls;
  bool framed;    /* replies say themselves how long they are */
  bool can_cache; /* its server was asked, and takes connection_cache */
  bool can_fua;
  bool can_status; /* the same of base:allocation */
  bool left;       /* the proxy waits for the answers: it is not to be reset */
  bool on_thread;  /* connection_options */
  bool said_goodbye;
};

#define CONNECTION_CONNECT_MS 10000

struct connection_options {
  bool allocation;           /* ask for base:allocation */
  const char *depth_context; /* another context to ask for, or NULL */
  unsigned connect_ms;       /* 0: CONNECTION_CONNECT_MS */
  bool on_thread;            /* driven by a thread without TLS, too */
};

/* Connect to the URI, waiting for at most connect_ms once its name is resolved,
 * while the loop does not run.  NULL with *why (the caller frees it) on error.
 * interrupt_fd (or -1) becoming readable ends the wait as well.
 */
extern struct connection *
connection_open (struct loop *loop, const char *uri,
                 const struct connection_options *options, int interrupt_fd,
                 char **why);

/* Further connections, begun while the first one is being made, so that most of
 * their round trips cost no time, if the server is so far away that they
 * matter. They do not open the export before they are wanted: a server that
 * does not admit all of them must not admit them in place of the first one.
 */
#define CONNECTION_SEVERAL_MAX 20
struct connection_ahead {
  const struct connection_options *options; /* not owned */
  unsigned wanted;                          /* below CONNECTION_SEVERAL_MAX */
  unsigned n;                               /* begun */
  struct connection *v[CONNECTION_SEVERAL_MAX]; /* owned */
};

/* connection_open, and what is ahead then. */
extern struct connection *connection_open_first (
  struct loop *loop, const char *uri, const struct connection_options *options,
  int interrupt_fd, struct connection_ahead *ahead, char **why);

extern void connection_forget_ahead (struct connection_ahead *ahead);

/* connection_open for up to n connections, all at once: so many have come and
 * are in v[0] and the following.  Where the last ones do not come, connect_ms
 * is how long it waits after the one before.  *why (the caller frees it) says
 * why the first of those that are missing is; NULL: none is, or there is no
 * memory. Those that are ahead, or NULL, are taken first, and have no other
 * options.
 */
extern unsigned
connection_open_several (struct loop *loop, const char *uri,
                         const struct connection_options *options,
                         int interrupt_fd, struct connection_ahead *ahead,
                         struct connection *v[], unsigned n, char **why);

/* The same without waiting: the loop makes the connection.  It may be used for
 * nothing but these questions until it has come.
 */
extern struct connection *
connection_begin (struct loop *loop, const char *uri,
                  const struct connection_options *options, char **why);
extern bool connection_has_come (struct connection *c);

/* The name of its server is still being resolved, which takes its time. */
extern bool connection_is_resolving (const struct connection *c);

/* Tell the server that nothing more will come, so that it does not take the end
 * for an abrupt one (with TLS it would log an error), if nothing is in flight:
 * nothing else happens to others.  From then on it may only be closed.
 */
extern void connection_goodbye (struct connection *c);

/* Close it, at once, with a goodbye.  What is in flight is given up: nothing of
 * it follows (R17), unless the connection is 'left' to the proxy; and its
 * 'ended' is not called. So only who waits for nothing any more may close one
 * with requests in flight.
 */
extern void connection_close (struct connection *c);

/* Leave it to the proxy, which takes the answers from the socket: from the
 * return on it is not read.  With false it is given up again.
 */
extern void connection_leave (struct connection *c, bool leave);

extern bool connection_alive (const struct connection *c);

/* Its socket, to be handed on; -1: libnbd has closed it.  So it does at once
 * where a request meets a server that is gone, while the connection counts as
 * alive until the loop has run.
 */
extern int connection_socket (const struct connection *c);

/* Nothing is in flight, and all that was written was flushed: nothing is lost
 * with it.
 */
extern bool connection_holds_nothing (const struct connection *c);

/* Break it: nothing that is queued will be sent, all requests end with an error
 * soon.
 */
extern void connection_break (struct connection *c, const char *why);

/* How long a request may go on once nobody wants to wait any more. */
#define CONNECTION_STOP_US (INT64_C (10) * 1000000)

/* Break it if the network does not reach its server any more.  A server that is
 * slow is waited for, whatever it takes (R17); but if nobody wants to, since
 * 'stopped_us' (0: they do), for CONNECTION_STOP_US at most.
 */
extern void connection_check (struct connection *c, int64_t now_us,
                              int64_t stopped_us);

/* When its oldest request in flight began, with or without probes; 0: there is
 * none.
 */
extern int64_t connection_oldest_us (const struct connection *c, bool probes);

extern void connection_read (struct connection *c, struct io *io, void *buf,
                             uint32_t bytes, uint64_t offset);
/* Have the proxy read it into memory that it shares (shared-memory.h). */
extern void connection_cache (struct connection *c, struct io *io,
                              uint32_t bytes, uint64_t offset);
extern void connection_write (struct connection *c, struct io *io,
                              const void *buf, uint32_t bytes, uint64_t offset);
extern void connection_zero (struct connection *c, struct io *io,
                             uint64_t bytes, uint64_t offset);
/* The same with FUA: flushed when they are answered.  Only if can_fua. */
extern void connection_write_through (struct connection *c, struct io *io,
                                      const void *buf, uint32_t bytes,
                                      uint64_t offset);
extern void connection_zero_through (struct connection *c, struct io *io,
                                     uint64_t bytes, uint64_t offset);
extern void connection_flush (struct connection *c, struct io *io);

/* Block status; 'entries' is called with what the server said of one metadata
 * context: pairs of length in bytes and flags, in order, from 'offset' on.  It
 * runs inside libnbd: it may only store.
 */
typedef void connection_entries (void *opaque, const char *context,
                                 uint64_t offset, const uint32_t *pairs,
                                 size_t nr_numbers);
struct status_io {
  struct io io;
  connection_entries *entries;
  void *opaque;
};
extern void connection_block_status (struct connection *c,
                                     struct status_io *sio, uint64_t bytes,
                                     uint64_t offset);

#endif /* NBDMIGRATE_CONNECTION_H */
