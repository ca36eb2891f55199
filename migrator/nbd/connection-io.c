/* SPDX-License-Identifier: BSD-3-Clause */
/* libnbd in an event loop, the main thread's or another's.
 *
 * The completion callback looks at *error (ignoring it was CVE-2022-0485),
 * stores it and defers the rest: libnbd forbids calls on the same handle from
 * there.  When a connection dies, libnbd completes all its requests with
 * ENOTCONN; so every request ends in one way only.
 *
 * A request goes one way, and 'deferred' says whose turn it is:
 *
 *   main thread        submit        in flight
 *   who drives it      give          libnbd has it; the ledger knows (R17)
 *                      on_complete   within libnbd
 *                      hand_back     only if that is another thread
 *   main thread        run_ended     not in flight any more, or given again
 *                                    (words.h)
 *
 * What is given is given in order, and a connection is broken for the main
 * thread before a request ends that was lost with it.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "nbd/connection-internal.h"
#include "nbd/driver.h"
#include "nbd-limits.h"
#include "nbd/reach.h"
#include "nbd/unanswered.h"
#include "nbd/words.h"

/* ---- what has happened to it --------------------------------------------- */

/* By who drives it. */
static void
note_broken (struct connection *c, const char *why)
{
  bool first;

  if (c->driver == NULL) {
    connection_note_why (c, why);
    return;
  }
  pthread_mutex_lock (&c->lock);
  first = !c->broken;
  c->broken = true;
  if (first)
    c->broken_why = why ? strdup (why) : NULL;
  pthread_mutex_unlock (&c->lock);
  if (first)
    loop_post (c->loop, &c->news);
}

/* Whether the thread has found it broken. */
static bool
read_news (struct connection *c)
{
  char *why;
  bool broken;

  pthread_mutex_lock (&c->lock);
  broken = c->broken;
  why = c->broken_why;
  c->broken_why = NULL;
  pthread_mutex_unlock (&c->lock);
  if (broken)
    connection_note_why (c, why);
  free (why);
  /* So that the server sees its end, too. */
  if (broken && c->sock != -1) {
    close (c->sock);
    c->sock = -1;
  }
  return broken;
}

static void
run_news (struct deferred *d)
{
  struct connection *c =
    (struct connection *)((char *)d - offsetof (struct connection, news));

  read_news (c);
}

/* Asked by the main thread. */
static bool
was_broken (struct connection *c)
{
  if (read_news (c))
    return true;
  if (c->driver != NULL || !connection_is_broken (c))
    return false;
  connection_note_why (c, NULL);
  return true;
}

/* ---- driving ------------------------------------------------------------- */

static short
poll_events (const struct connection *c)
{
  const unsigned dir = nbd_aio_get_direction (c->nbd);
  short events = 0;

  if (dir & LIBNBD_AIO_DIRECTION_READ)
    events |= POLLIN;
  if (dir & LIBNBD_AIO_DIRECTION_WRITE)
    events |= POLLOUT;
  return events;
}

/* libnbd sends one record of TLS a call, of 16 KiB at most.  errno is a hint
 * only, that the socket takes no more: a call too many does nothing.
 */
#define RECORDS_AT_ONCE 16

static int
send_on (struct connection *c)
{
  unsigned left = c->tls ? RECORDS_AT_ONCE : 1;
  int r;

  do {
    errno = 0;
    r = nbd_aio_notify_write (c->nbd);
  } while (r == 0 && --left > 0 && errno != EAGAIN &&
           (nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE));
  return r;
}

static void
notify (struct connection *c, short revents)
{
  unsigned dir;
  int r = 0;

  unanswered_begin (c, NULL);
  /* An earlier callback in this round may have moved the state machine. */
  dir = nbd_aio_get_direction (c->nbd);
  if ((revents & (POLLIN | POLLHUP | POLLERR)) &&
      (dir & LIBNBD_AIO_DIRECTION_READ))
    r = nbd_aio_notify_read (c->nbd);
  else if ((revents & (POLLOUT | POLLHUP | POLLERR)) &&
           (dir & LIBNBD_AIO_DIRECTION_WRITE))
    r = send_on (c);
  unanswered_end (c);
  /* An orderly end leaves no error, and libnbd's text would be an older one. */
  if (r == -1)
    note_broken (c, connection_libnbd_error ());
  else if (connection_is_broken (c))
    note_broken (c, "the server closed the connection");
}

static void
prepare (struct watch *w)
{
  struct connection *c = (struct connection *)w;

  w->events = 0;
  if (c->left || c->driver != NULL)
    return;
  if (c->reach != NULL) {
    w->fd = reach_fd (c->reach);
    w->events = POLLIN;
    return;
  }
  if (connection_is_broken (c)) {
    connection_note_why (c, NULL);
    return;
  }
  if (c->coming) /* it may have several addresses to try */
    c->sock = w->fd = nbd_aio_get_fd (c->nbd);
  /* Also polled after connection_break, until libnbd has seen it. */
  w->events = poll_events (c);
}

static void
ready (struct watch *w, short revents)
{
  struct connection *c = (struct connection *)w;

  if (c->reach != NULL)
    connection_reach_on (c);
  else if (c->driver == NULL) /* it may have got one in this round */
    notify (c, revents);
}

static struct connection *
of_driven (struct watch *w)
{
  return (struct connection *)((char *)w -
                               offsetof (struct connection, driven));
}

static void
prepare_driven (struct watch *w)
{
  struct connection *c = of_driven (w);

  w->events = 0;
  if (connection_is_broken (c))
    note_broken (c, NULL);
  else
    w->events = poll_events (c);
}

static void
ready_driven (struct watch *w, short revents)
{
  notify (of_driven (w), revents);
}

void
connection_init_io (struct connection *c)
{
  c->watch = (struct watch){ .fd = -1, .prepare = prepare, .ready = ready };
  c->news.run = run_news;
}

static void
begin_driving (void *opaque)
{
  struct connection *c = opaque;

  if (loop_add (driver_loop (c->driver), &c->driven) == -1)
    c->driven.fd = -1;
}

static void
end_driving (void *opaque)
{
  struct connection *c = opaque;

  loop_remove (driver_loop (c->driver), &c->driven);
}

/* The thread polls libnbd's socket, which libnbd closes at the end of the
 * connection; the main thread has a duplicate, lest it meet another file of
 * that number.
 */
void
connection_give_to_thread (struct connection *c)
{
  const int sock = fcntl (c->sock, F_DUPFD_CLOEXEC, 0);

  if (sock == -1)
    return;
  if (loop_listen (c->loop) == 0)
    c->driver = driver_get ();
  if (c->driver == NULL) {
    close (sock);
    return;
  }
  c->driven = (struct watch){ .fd = c->sock,
                              .prepare = prepare_driven,
                              .ready = ready_driven };
  driver_call (c->driver, begin_driving, c);
  if (c->driven.fd == -1) {
    driver_put (c->driver);
    c->driver = NULL;
    close (sock);
    return;
  }
  c->is_duplicate = true;
  c->sock = c->watch.fd = sock;
}

void
connection_take_back (struct connection *c)
{
  driver_call (c->driver, end_driving, c);
  driver_put (c->driver);
  c->driver = NULL;
}

/* ---- requests ------------------------------------------------------------ */

static void
note_time (struct connection *c, int64_t us)
{
  if (connection_alive (c) && (c->quickest_us == 0 || us < c->quickest_us))
    c->quickest_us = us > 0 ? us : 1;
}

static void
take_from_list (struct connection *c, struct io *io)
{
  pthread_mutex_lock (&c->lock);
  if (io->prev)
    io->prev->next = io->next;
  else
    c->ios = io->next;
  if (io->next)
    io->next->prev = io->prev;
  pthread_mutex_unlock (&c->lock);
}

static void hand_on (struct connection *c, struct io *io);

/* The second error is not the one that counts, unless it is a loss. */
static void
ask_again (struct connection *c, struct io *io)
{
  io->again = true;
  io->first_error = io->error;
  io->error = 0;
  hand_on (c, io);
}

static void
run_ended (struct deferred *d)
{
  struct io *io = (struct io *)d;
  struct connection *c = io->connection;
  char *words;

  if (io->error != 0 && !was_broken (c) && words_are_wanted (c, io)) {
    ask_again (c, io);
    return;
  }
  take_from_list (c, io);
  c->in_flight--;
  c->written |= io->writes; /* a flush that was sent before may not cover it */
  c->answered_us = loop_now_us ();
  if (!io->probe)
    c->worked_us = c->answered_us;
  if (io->error != 0 && was_broken (c))
    io->lost = true;
  else if (io->started_us > c->asked_us)
    c->asked_us = io->started_us;
  if (io->again && !io->lost)
    io->error = io->first_error;
  note_time (c, c->answered_us - io->started_us);
  words = io->words;
  io->ended (io); /* it may be gone then */
  free (words);
}

static void
hand_back (struct deferred *d)
{
  struct io *io = (struct io *)d;
  struct connection *c = io->connection;

  if (io->error != 0 && connection_is_broken (c))
    note_broken (c, NULL);
  io->deferred.run = run_ended;
  loop_post (c->loop, &io->deferred);
}

/* By who drives it. */
static void
end (struct io *io)
{
  struct connection *c = io->connection;

  io->deferred.run = c->driver ? hand_back : run_ended;
  loop_defer (c->driver ? driver_loop (c->driver) : c->loop, &io->deferred);
}

static int
on_complete (void *user_data, int *error)
{
  struct io *io = user_data;

  io->error = *error;
  words_take (io->connection, io);
  if (*error != ENOTCONN) /* so libnbd ends what the server did not */
    unanswered_note_answer (io->connection, io);
  else
    unanswered_freeze (io->connection);
  end (io);
  return 1; /* libnbd may retire the command */
}

static int
on_entries (void *user_data, const char *metacontext, uint64_t offset,
            uint32_t *entries, size_t nr_entries, int *error)
{
  struct status_io *sio = user_data;

  if (*error == 0)
    sio->entries (sio->opaque, metacontext, offset, entries, nr_entries);
  return 0;
}

/* As libnbd does: -1 with its error, or more. */
static int64_t
issue (struct connection *c, struct io *io)
{
  const nbd_completion_callback cb = { .callback = on_complete,
                                       .user_data = io };
  const nbd_extent_callback entries = { .callback = on_entries,
                                        .user_data = io };

  switch (io->kind) {
  case IO_READ:
    return nbd_aio_pread (c->nbd, io->data.to, io->bytes, io->offset, cb, 0);
  case IO_CACHE:
    return nbd_aio_cache (c->nbd, io->bytes, io->offset, cb, 0);
  case IO_WRITE:
    return nbd_aio_pwrite (c->nbd, io->data.from, io->bytes, io->offset, cb,
                           io->flags);
  case IO_ZERO:
    return nbd_aio_zero (c->nbd, io->bytes, io->offset, cb, io->flags);
  case IO_FLUSH:
    return nbd_aio_flush (c->nbd, cb, 0);
  case IO_STATUS:
    return nbd_aio_block_status (c->nbd, io->bytes, io->offset, entries, cb, 0);
  }
  abort ();
}

/* A request that libnbd would not take never reached the server; libnbd did
 * not call back and will not.
 */
static void
give (struct deferred *d)
{
  struct io *io = (struct io *)d;
  struct connection *c = io->connection;

  if (io->again)
    words_listen (c);
  unanswered_begin (c, io);
  if (issue (c, io) != -1) {
    unanswered_end (c);
    return;
  }
  unanswered_note_answer (c, io);
  io->error = nbd_get_errno () ? nbd_get_errno () : EIO;
  if (connection_is_broken (c))
    note_broken (c, connection_libnbd_error ());
  end (io);
}

static void
put_on_list (struct connection *c, struct io *io)
{
  pthread_mutex_lock (&c->lock);
  io->prev = NULL;
  io->next = c->ios;
  if (c->ios)
    c->ios->prev = io;
  c->ios = io;
  pthread_mutex_unlock (&c->lock);
}

/* To who drives it. */
static void
hand_on (struct connection *c, struct io *io)
{
  io->deferred.run = give;
  if (c->driver != NULL)
    loop_post (driver_loop (c->driver), &io->deferred);
  else
    give (&io->deferred);
}

/* What 'what' says, and nothing else of what was there. */
static void
submit (struct connection *c, struct io *io, struct io what)
{
  what.ended = io->ended;
  what.connection = c;
  what.flush = what.kind == IO_FLUSH;
  what.writes = what.kind == IO_WRITE || what.kind == IO_ZERO;
  what.started_us = loop_now_us ();
  *io = what;
  put_on_list (c, io);
  c->in_flight++;
  c->written |= io->writes;
  hand_on (c, io);
}

void
connection_read (struct connection *c, struct io *io, void *buf, uint32_t bytes,
                 uint64_t offset)
{
  submit (
    c, io,
    (struct io){
      .kind = IO_READ, .data.to = buf, .bytes = bytes, .offset = offset });
}

void
connection_cache (struct connection *c, struct io *io, uint32_t bytes,
                  uint64_t offset)
{
  submit (c, io,
          (struct io){ .kind = IO_CACHE, .bytes = bytes, .offset = offset });
}

static void
submit_write (struct connection *c, struct io *io, const void *buf,
              uint32_t bytes, uint64_t offset, uint32_t flags)
{
  submit (c, io,
          (struct io){ .kind = IO_WRITE,
                       .data.from = buf,
                       .bytes = bytes,
                       .offset = offset,
                       .flags = flags });
}

void
connection_write (struct connection *c, struct io *io, const void *buf,
                  uint32_t bytes, uint64_t offset)
{
  submit_write (c, io, buf, bytes, offset, 0);
}

void
connection_write_through (struct connection *c, struct io *io, const void *buf,
                          uint32_t bytes, uint64_t offset)
{
  submit_write (c, io, buf, bytes, offset, LIBNBD_CMD_FLAG_FUA);
}

static void
submit_zero (struct connection *c, struct io *io, uint64_t bytes,
             uint64_t offset, uint32_t flags)
{
  assert (bytes <= NBD_ZERO_MAX);
  submit (
    c, io,
    (struct io){
      .kind = IO_ZERO, .bytes = bytes, .offset = offset, .flags = flags });
}

void
connection_zero (struct connection *c, struct io *io, uint64_t bytes,
                 uint64_t offset)
{
  submit_zero (c, io, bytes, offset, 0);
}

void
connection_zero_through (struct connection *c, struct io *io, uint64_t bytes,
                         uint64_t offset)
{
  submit_zero (c, io, bytes, offset, LIBNBD_CMD_FLAG_FUA);
}

void
connection_flush (struct connection *c, struct io *io)
{
  submit (c, io, (struct io){ .kind = IO_FLUSH });
}

void
connection_block_status (struct connection *c, struct status_io *sio,
                         uint64_t bytes, uint64_t offset)
{
  if (bytes > NBD_STATUS_MAX)
    bytes = NBD_STATUS_MAX;
  submit (c, &sio->io,
          (struct io){ .kind = IO_STATUS, .bytes = bytes, .offset = offset });
}
