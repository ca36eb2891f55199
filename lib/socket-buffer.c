/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <sys/socket.h>

#include "socket-buffer.h"

/* Linux doubles it, and counts its own structures, too. */
#define SEND_BYTES (1024 * 1024)

void
socket_send_more (int fd)
{
  static const int bytes = SEND_BYTES;
  const int saved = errno;
  int domain, now;
  socklen_t size = sizeof domain;

  if (getsockopt (fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
      domain == AF_UNIX) {
    size = sizeof now;
    if (getsockopt (fd, SOL_SOCKET, SO_SNDBUF, &now, &size) == 0 && now < bytes)
      setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
  errno = saved;
}
