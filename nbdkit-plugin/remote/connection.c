/* SPDX-License-Identifier: BSD-3-Clause */
/* One libnbd handle and its I/O thread.
 *
 * The threads that have requests send them (send.c) and receive the answers
 * (receive.c) themselves.  The I/O thread does that where they cannot, and
 * otherwise sleeps until the connection ends.
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
#include "cleanup.h"
#include "nbd-error.h"
#include "remote.h"
#include "socket-reset.h"

struct connection *
connection_new (struct remote *m, char **why)
{
  struct connection *c = calloc (1, sizeof *c);

  *why = NULL;
  if (c == NULL)
    return NULL;
  c->remote = m;
  c->fd = -1;
  c->kick = c->call = -1;
  if ((c->kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)) != -1 &&
      (c->call = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK)) != -1 &&
      (c->nbd = nbd_create ()) != NULL)
    return c;
  if (asprintf (why, "making a connection: %s",
                c->call == -1 ? strerror (errno)
                              : nbd_error_text (nbd_get_error ())) == -1)
    *why = NULL;
  connection_close (c);
  return NULL;
}

void
connection_kick (struct connection *c)
{
  const uint64_t one = 1;

  /* Full means that it is kicked already. */
  if (write (c->kick, &one, sizeof one) == -1)
    return;
}

void
connection_call_io_thread (struct connection *c)
{
  const uint64_t one = 1;

  if (write (c->call, &one, sizeof one) == -1)
    return;
}

/* Sleep until it is called, or the connection has ended: it does not wake up
 * for what others receive.  Then it is to be the last receiver.
 */
static void
watch (struct connection *c, bool *ended)
{
  struct remote *m = c->remote;
  struct pollfd fds[2] = {
    { .fd = c->call, .events = POLLIN },
    { .fd = c->fd, .events = POLLRDHUP },
  };
  uint64_t calls;

  if (poll (fds, *ended ? 1 : 2, -1) == -1)
    return;
  if (fds[0].revents && read (c->call, &calls, sizeof calls) == -1)
    return;
  if (!*ended && fds[1].revents) {
    *ended = true;
    pthread_mutex_lock (&m->lock);
    receive_to_the_end (c);
    pthread_mutex_unlock (&m->lock);
  }
}

static bool
must_receive (const struct connection *c)
{
  return __atomic_load_n (&c->io_receives, __ATOMIC_ACQUIRE);
}

/* As long as nobody else can. */
static void
receive (struct connection *c)
{
  struct receipt t;

  receive_begin (c, NULL, &t);
  do
    receive_some (c, &t, -1);
  while (!connection_is_over (c) &&
         (receive_needs_io_thread (c) || t.answered.n > 0 || t.more));
  if (connection_is_over (c))
    batch_wake_gathered (c->remote, &t.answered, 0);
  else {
    __atomic_store_n (&c->io_receives, false, __ATOMIC_RELAXED);
    receive_end (c, &t);
  }
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
  bool ended = false;

  while (!must_receive (c) || !connection_is_over (c)) {
    if (must_receive (c))
      receive (c);
    else
      watch (c, &ended);
  }
  batch_gather (NULL);

  pthread_mutex_lock (&m->lock);
  remote_lose (c, c->why ? c->why : "the server closed the connection");
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
  struct remote *m = c->remote;

  if (nbd_aio_disconnect (c->nbd, 0) == -1)
    return;
  pthread_mutex_lock (&m->lock);
  receive_to_the_end (c);
  pthread_mutex_unlock (&m->lock);
  connection_kick (c);
}

static void
end_thread (struct connection *c)
{
  struct remote *m = c->remote;

  pthread_mutex_lock (&m->lock);
  __atomic_store_n (&c->lost, true, __ATOMIC_RELAXED);
  socket_reset (c->fd);
  receive_to_the_end (c);
  pthread_mutex_unlock (&m->lock);
  connection_kick (c);
  pthread_join (c->thread, NULL);
  pthread_mutex_lock (&m->lock);
  while (__atomic_load_n (&c->users, __ATOMIC_ACQUIRE) > 0 ||
         __atomic_load_n (&c->waiters, __ATOMIC_ACQUIRE) > 0)
    remote_wait_changed (m);
  pthread_mutex_unlock (&m->lock);
}

static bool
is_idle (const struct connection *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->remote->lock);

  return !c->reset && c->in_flight == 0;
}

/* Nobody waits for the server to hear it. */
static void
part (struct connection *c)
{
  if (c->nbd == NULL || nbd_aio_is_ready (c->nbd) != 1 || !is_idle (c))
    return;
  if (c->started)
    connection_goodbye (c);
  else {
    socket_deliver_at_close (c->fd);
    nbd_aio_disconnect (c->nbd, 0);
  }
}

void
connection_close (struct connection *c)
{
  part (c);
  if (c->started)
    end_thread (c);
  nbd_close (c->nbd);
  if (c->fd >= 0)
    close (c->fd);
  if (c->kick >= 0)
    close (c->kick);
  if (c->call >= 0)
    close (c->call);
  free (c->why);
  free (c->ping);
  free (c);
}
