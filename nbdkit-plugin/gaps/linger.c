/* SPDX-License-Identifier: BSD-3-Clause */
/* One thread for all of them, from the first one on. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "linger.h"

#define LINGER_MAX 256 /* beyond that a connection is closed at once */
#define DRAIN_BYTES 65536

struct lingering {
  int fd;
  int process; /* pidfd of its client; -1: that has ended, or is not known */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread;
static bool started, stopping; /* by the lock */
static int wake_fd = -1;       /* eventfd, while 'started' */

static struct lingering list[LINGER_MAX]; /* by the lock; the thread removes */
static size_t nr_list;

static char sink[DRAIN_BYTES]; /* of the thread; nobody looks at it */

/* ---- One connection ------------------------------------------------------ */

/* Its client is gone: no more requests will come.  Or it cannot be seen: if it
 * lives, all that it loses is this connection, of a session that is over.
 */
static void
begin_draining (struct lingering *l)
{
  if (l->process != -1)
    close (l->process);
  l->process = -1;
  shutdown (l->fd, SHUT_WR);
}

/* True if the server has closed its end. */
static bool
drain (const struct lingering *l)
{
  ssize_t n;

  do
    n = recv (l->fd, sink, sizeof sink, MSG_DONTWAIT);
  while (n > 0 || (n == -1 && errno == EINTR));
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void
forget (struct lingering *l)
{
  if (l->process != -1)
    close (l->process);
  close (l->fd);
}

/* ---- The thread ---------------------------------------------------------- */

/* As long as its client lives, only an end of both sides is looked for. */
static void
fill (const struct lingering *l, struct pollfd pfd[2])
{
  pfd[0] =
    (struct pollfd){ .fd = l->fd, .events = l->process == -1 ? POLLIN : 0 };
  pfd[1] = (struct pollfd){ .fd = l->process, .events = POLLIN };
}

/* True if nothing is left of it. */
static bool
look (struct lingering *l, const struct pollfd pfd[2])
{
  if (pfd[0].revents != 0 && (l->process == -1 ? drain (l) : true))
    return true;
  if (pfd[1].revents != 0)
    begin_draining (l);
  return false;
}

/* Those that 'pfds' is about come first in the list; new ones at its end. */
static void
look_at_all (const struct pollfd *pfds, size_t n)
{
  size_t kept = 0;

  for (size_t i = 0; i < nr_list; i++)
    if (i < n && look (&list[i], &pfds[2 * i]))
      forget (&list[i]);
    else
      list[kept++] = list[i];
  nr_list = kept;
}

static size_t
prepare (struct pollfd *pfds)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  for (size_t i = 0; i < nr_list; i++)
    fill (&list[i], &pfds[2 * i]);
  return nr_list;
}

static void *
linger (void *arg)
{
  static struct pollfd pfds[1 + 2 * LINGER_MAX];
  bool over = false;
  uint64_t count;

  pfds[0] = (struct pollfd){ .fd = wake_fd, .events = POLLIN };
  while (!over) {
    const size_t n = prepare (&pfds[1]);

    if (poll (pfds, 1 + 2 * n, -1) == -1)
      continue; /* EINTR */

    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
    if (pfds[0].revents != 0 && read (wake_fd, &count, sizeof count) == -1)
      nbdkit_debug ("migrate: eventfd: %m");
    look_at_all (&pfds[1], n);
    over = stopping;
  }
  return arg;
}

/* ---- For others ---------------------------------------------------------- */

static void
wake (void)
{
  const uint64_t one = 1;

  if (write (wake_fd, &one, sizeof one) == -1)
    nbdkit_debug ("migrate: eventfd: %m");
}

/* Whether there is the thread.  By the lock. */
static bool
start (void)
{
  sigset_t all, old;
  int r;

  if (started)
    return true;
  wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd == -1)
    return false;
  stopping = false;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  r = pthread_create (&thread, NULL, linger, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  started = r == 0;
  if (!started) {
    close (wake_fd);
    wake_fd = -1;
  }
  return started;
}

static void
add_one (int fd, int process)
{
  struct lingering l = { .fd = fd, .process = -1 };

  if (nr_list == LINGER_MAX) {
    close (fd);
    return;
  }
  if (process != -1)
    l.process = fcntl (process, F_DUPFD_CLOEXEC, 0);
  if (l.process == -1)
    begin_draining (&l);
  list[nr_list++] = l;
}

void
linger_add (const int *fds, size_t n, int process)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  const bool can = n > 0 && start ();

  for (size_t i = 0; i < n; i++)
    if (can)
      add_one (fds[i], process);
    else
      close (fds[i]);
  if (can)
    wake ();
}

void
linger_stop (void)
{
  pthread_mutex_lock (&lock);
  stopping = true;
  if (started)
    wake ();
  pthread_mutex_unlock (&lock);
  if (started)
    pthread_join (thread, NULL);
  if (wake_fd != -1)
    close (wake_fd);
  wake_fd = -1;
  started = false;
  for (size_t i = 0; i < nr_list; i++)
    forget (&list[i]);
  nr_list = 0;
}
