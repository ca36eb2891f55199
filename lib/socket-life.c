/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "socket-life.h"

/* One or two may be on their way just now, and the last acknowledgement before
 * them may be old: probes of a window that is shut come up to two minutes
 * apart.
 */
#define UNANSWERED 3

void
socket_keep_alive (int fd)
{
  static const int on = 1, idle = SOCKET_KEEPALIVE_IDLE_S,
                   interval = SOCKET_KEEPALIVE_INTERVAL_S,
                   count = SOCKET_KEEPALIVE_COUNT;
  const int saved = errno;

  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
  errno = saved;
}

int64_t
socket_unheard_ms (int fd)
{
  const int saved = errno;
  struct tcp_info info;
  socklen_t size = sizeof info;

  memset (&info, 0, sizeof info);
  if (getsockopt (fd, IPPROTO_TCP, TCP_INFO, &info, &size) == -1) {
    errno = saved;
    return 0;
  }
  if (info.tcpi_retransmits < UNANSWERED && info.tcpi_probes < UNANSWERED)
    return 0;
  return info.tcpi_last_ack_recv;
}
