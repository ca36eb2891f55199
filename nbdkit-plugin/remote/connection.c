/* SPDX-License-Identifier: BSD-3-Clause */
/* One libnbd handle and its I/O thread.
 *
 * The threads that have requests send them themselves (send.c), as far as the
 * socket takes them.  The I/O thread receives the answers, and sends what was
 * left over; it is kicked out of poll(2) only in that case.  It receives all
 * that is there before it wakes those who wait.
 *
 * It ends when the handle is closed or dead, and only then: resetting the
 * socket ends it.  libnbd calls the completion callbacks of all commands
 * of a handle that dies; what it may have missed is completed here.  No buffer
 * is touched after that, so whoever waits may go.
 */

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "nbd-error.h"
#include "remote.h"
#include "socket-reset.h"

#define GATHER_MAX 16 /* answers: nobody is kept waiting for more */

struct connection *
connection_new (struct remote *m, char **why)
{
  struct connection *c = calloc (1, sizeof *c);

  *why = NULL;
  if (c == NULL)
    return NULL;
  c->remote = m;
  c->fd = -1;
  c->kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  c->nbd = nbd_create ();
  if (c->kick == -1 || c->nbd == NULL) {
    if (asprintf (why, "making a connection: %s",
                  c->kick == -1 ? strerror (errno)
                                : nbd_error_text (nbd_get_error ())) == -1)
      *why = NULL;
    connection_close (c);
    return NULL;
  }
  return c;
}

void
connection_kick (struct connection *c)
{
  const uint64_t one = 1;

  /* Full means that it is kicked already. */
  if (write (c->kick, &one, sizeof one) == -1)
    return;
}

static bool
is_over (const struct connection *c)
{
  return nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd);
}

/* Call libnbd for what poll(2) saw.  Another thread may have changed the state
 * meanwhile: an event that does not fit any more is an error of the call, not
 * of the connection.
 */
static int
notify (struct connection *c, short events)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);
  const bool broken = events & (POLLHUP | POLLERR | POLLNVAL);

  if ((direction & LIBNBD_AIO_DIRECTION_READ) && (events & POLLIN || broken))
    return nbd_aio_notify_read (c->nbd);
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (events & POLLOUT || broken))
    return nbd_aio_notify_write (c->nbd);
  return 0;
}

static void
wait_for_event (struct connection *c, bool only_look, short *events)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);
  struct pollfd fds[2] = {
    { .fd = c->fd },
    { .fd = c->kick, .events = POLLIN },
  };
  uint64_t kicks;

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    fds[0].events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    fds[0].events |= POLLOUT;
  if (poll (fds, 2, only_look ? 0 : -1) == -1)
    fds[0].revents = fds[1].revents = 0;
  if (fds[1].revents && read (c->kick, &kicks, sizeof kicks) == -1)
    kicks = 0;
  *events = fds[0].revents;
}

/* What has not been sent is: libnbd refuses it now.  After that no thread is
 * inside libnbd, and none comes, because the connection is lost.  L; released
 * meanwhile.
 */
static void
end_sending (struct connection *c)
{
  while (__atomic_load_n (&c->users, __ATOMIC_ACQUIRE) > 0) {
    pthread_mutex_unlock (&c->remote->lock);
    if (!connection_send (c))
      sched_yield (); /* none of them waits for anything */
    pthread_mutex_lock (&c->remote->lock);
  }
}

static void *
io_thread (void *opaque)
{
  struct connection *c = opaque;
  struct remote *m = c->remote;
  char *why = NULL;
  struct gathered answered;
  bool more = false;
  short events;

  batch_gather (&answered);
  while (!is_over (c)) {
    wait_for_event (c, more || answered.n > 0, &events);
    if (!(events & POLLIN) || answered.n >= GATHER_MAX)
      batch_wake_gathered (&answered);
    more = connection_send (c);
    if (events & POLLIN)
      __atomic_store_n (&c->heard_ms, clock_ms (), __ATOMIC_RELAXED);
    if (notify (c, events) == -1) {
      free (why);
      why = strdup (nbd_error_text (nbd_get_error ()));
    }
  }
  batch_wake_gathered (&answered);

  pthread_mutex_lock (&m->lock);
  remote_lose (c, why ? why : "the server closed the connection");
  end_sending (c);
  while (c->first != NULL) {
    struct batch *b = remote_command_done (c->first, ENOTCONN);

    pthread_mutex_unlock (&m->lock);
    batch_wake (b);
    pthread_mutex_lock (&m->lock);
  }
  c->ended = true;
  pthread_cond_broadcast (&m->changed);
  pthread_mutex_unlock (&m->lock);
  free (why);
  return NULL;
}

int
connection_start (struct connection *c)
{
  sigset_t all, old;
  int e;

  c->heard_ms = clock_ms ();
  /* Signals are the server's business, in its own threads. */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  e = pthread_create (&c->thread, NULL, io_thread, c);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (e != 0) {
    errno = e;
    return -1;
  }
  c->started = true;
  return 0;
}

void
connection_goodbye (struct connection *c)
{
  if (nbd_aio_disconnect (c->nbd, 0) == 0)
    connection_kick (c);
}

static void
end_thread (struct connection *c)
{
  struct remote *m = c->remote;

  pthread_mutex_lock (&m->lock);
  c->lost = true;
  socket_reset (c->fd);
  pthread_mutex_unlock (&m->lock);
  connection_kick (c);
  pthread_join (c->thread, NULL);
  pthread_mutex_lock (&m->lock);
  while (__atomic_load_n (&c->users, __ATOMIC_ACQUIRE) > 0)
    remote_wait_changed (m);
  pthread_mutex_unlock (&m->lock);
}

void
connection_close (struct connection *c)
{
  if (c->started)
    end_thread (c);
  nbd_close (c->nbd);
  if (c->fd >= 0)
    close (c->fd);
  if (c->kick >= 0)
    close (c->kick);
  free (c->ping);
  free (c);
}
