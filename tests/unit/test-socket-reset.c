/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection that was given up delivers nothing any more (R17).
 *
 * The peer does not read, so that most of what is written stays in the queue of
 * the sender: as if the network were away.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "socket-reset.h"
#include "unit.h"

struct pair {
  int ours, peer;
};

static struct pair
connected_pair (void)
{
  struct sockaddr_in addr = {
    .sin_family = AF_INET,
    .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
  };
  static const int small = 16384; /* the window of the peer */
  socklen_t size = sizeof addr;
  struct pair p = { .ours = socket (AF_INET, SOCK_STREAM, 0) };
  const int listener = socket (AF_INET, SOCK_STREAM, 0);

  setsockopt (listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  CU_ASSERT_EQUAL_FATAL (bind (listener, (struct sockaddr *)&addr, size), 0);
  CU_ASSERT_EQUAL_FATAL (listen (listener, 1), 0);
  getsockname (listener, (struct sockaddr *)&addr, &size);
  CU_ASSERT_EQUAL_FATAL (connect (p.ours, (struct sockaddr *)&addr, size), 0);
  p.peer = accept (listener, NULL, NULL);
  CU_ASSERT_NOT_EQUAL_FATAL (p.peer, -1);
  close (listener);
  fcntl (p.ours, F_SETFL, O_NONBLOCK);
  return p;
}

static int
queued (int fd)
{
  int n = -1;

  ioctl (fd, SIOCOUTQ, &n);
  return n;
}

static bool
is_connected (int fd)
{
  struct sockaddr_in addr;
  socklen_t size = sizeof addr;

  return getpeername (fd, (struct sockaddr *)&addr, &size) == 0;
}

/* As much as is taken; returns how much that was. */
static size_t
fill (int fd)
{
  static const char data[65536];
  size_t total = 0;
  ssize_t n;

  while ((n = send (fd, data, sizeof data, MSG_NOSIGNAL)) > 0)
    total += n;
  CU_ASSERT_EQUAL (errno, EAGAIN);
  return total;
}

/* Until the end of the connection, however it comes. */
static size_t
drain (int fd)
{
  static char data[65536];
  size_t total = 0;
  ssize_t n;

  while ((n = recv (fd, data, sizeof data, 0)) > 0)
    total += n;
  return total;
}

static void
test_nothing_follows (void)
{
  const struct pair p = connected_pair ();
  const int duplicate = dup (p.ours);
  const size_t written = fill (p.ours);
  size_t received;

  CU_ASSERT (queued (p.ours) > 0);
  errno = ENOSPC;
  socket_reset (p.ours);
  CU_ASSERT_EQUAL (errno, ENOSPC);
  CU_ASSERT_FALSE (is_connected (duplicate));
  CU_ASSERT_EQUAL (send (duplicate, "x", 1, MSG_NOSIGNAL), -1);

  /* The peer gets what it had, and not the queue. */
  received = drain (p.peer);
  printf ("(%zu of %zu bytes) ", received, written);
  CU_ASSERT (received < written);
  close (p.ours);
  close (duplicate);
  close (p.peer);
}

/* What was done before: the same, and all of it is delivered. */
static void
test_shutdown_is_no_end (void)
{
  const struct pair p = connected_pair ();
  const size_t written = fill (p.ours);

  shutdown (p.ours, SHUT_RDWR);
  close (p.ours);
  CU_ASSERT_EQUAL (drain (p.peer), written);
  close (p.peer);
}

/* As when the process is killed. */
static void
test_close (void)
{
  const struct pair p = connected_pair ();
  size_t written;

  socket_reset_at_close (p.ours);
  written = fill (p.ours);
  close (p.ours);
  CU_ASSERT (drain (p.peer) < written);
  close (p.peer);
}

static void *
block_in_recv (void *opaque)
{
  drain (*(int *)opaque);
  return NULL;
}

static void *
block_in_poll (void *opaque)
{
  struct pollfd pfd = { .fd = *(int *)opaque, .events = POLLIN };

  while (poll (&pfd, 1, -1) == -1 && errno == EINTR)
    ;
  CU_ASSERT (pfd.revents != 0);
  return NULL;
}

/* Whoever uses it meanwhile comes back. */
static void
end_others (void *(*use) (void *), bool blocking)
{
  struct pair p = connected_pair ();
  pthread_t thread;

  if (blocking)
    fcntl (p.ours, F_SETFL, 0);
  pthread_create (&thread, NULL, use, &p.ours);
  socket_reset (p.ours);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (drain (p.peer), 0);
  close (p.ours);
  close (p.peer);
}

static void
test_others_end (void)
{
  for (unsigned i = 0; i < 20; ++i) {
    end_others (block_in_poll, false);
    end_others (block_in_recv, true);
  }
}

static void
test_unix (void)
{
  int v[2];

  CU_ASSERT_EQUAL_FATAL (socketpair (AF_UNIX, SOCK_STREAM, 0, v), 0);
  socket_reset (v[0]);
  CU_ASSERT_EQUAL (drain (v[1]), 0);
  CU_ASSERT_EQUAL (send (v[0], "x", 1, MSG_NOSIGNAL), -1);
  close (v[0]);
  close (v[1]);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "nothing in the queue is delivered", test_nothing_follows },
    { "shutdown and close deliver it", test_shutdown_is_no_end },
    { "nothing after a close that resets", test_close },
    { "threads that wait come back", test_others_end },
    { "a Unix socket", test_unix },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("socket-reset", tests);
}
