/* SPDX-License-Identifier: BSD-3-Clause */
/* connect(2) to no address dissolves a TCP connection at once: the kernel
 * empties both queues, sends a reset, and leaves a socket that is connected to
 * nothing.
 *
 * Some kernels (6.5, and updates of older ones of that time) refuse that with
 * EBUSY while a thread is blocked in a call on the socket.  Shutting it down
 * makes such a thread return.
 */

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "socket-reset.h"

#define TRIES 1000

static int
dissolve (int fd)
{
  static const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

  return connect (fd, &nowhere, sizeof nowhere);
}

static void
set_linger (int fd, bool at_once)
{
  const struct linger linger = { .l_onoff = at_once, .l_linger = 0 };
  const int saved = errno;

  setsockopt (fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  errno = saved;
}

void
socket_reset_at_close (int fd)
{
  set_linger (fd, true);
}

void
socket_deliver_at_close (int fd)
{
  set_linger (fd, false);
}

void
socket_reset (int fd)
{
  const int saved = errno;
  unsigned tries = TRIES;

  while (dissolve (fd) == -1 && errno == EBUSY && --tries > 0) {
    shutdown (fd, SHUT_RDWR);
    sched_yield ();
  }
  /* Where it could not be dissolved; and for Unix sockets. */
  socket_reset_at_close (fd);
  shutdown (fd, SHUT_RDWR);
  errno = saved;
}
