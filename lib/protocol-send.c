/* SPDX-License-Identifier: BSD-3-Clause */
/* The sending side of protocol.h.  It is bounded in time as a whole, not for
 * each part of a line: else a peer that reads slowly could hold the writer for
 * ever.  So every send is non-blocking, and the waiting is done in poll (2).
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "cleanup.h"
#include "protocol.h"

#define SEND_TIMEOUT_MS 5000 /* on a non-blocking socket */

/* Room for the descriptors of one message, aligned as the kernel wants it. */
union fds_buffer {
  struct cmsghdr align;
  char data[CMSG_SPACE (PROTOCOL_FDS_MAX * sizeof (int))];
};

static int64_t
now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* How long sending may take, in milliseconds; -1: without limit. */
static int64_t
send_timeout (int sock)
{
  struct timeval tv = { 0, 0 };
  socklen_t len = sizeof tv;

  if (getsockopt (sock, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) == 0 &&
      (tv.tv_sec > 0 || tv.tv_usec > 0))
    return (int64_t)tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000;

  const int flags = fcntl (sock, F_GETFL);

  return flags != -1 && (flags & O_NONBLOCK) ? SEND_TIMEOUT_MS : -1;
}

/* Wait until the socket takes more.  deadline as of now_ms, or -1. */
static int
wait_writable (int sock, int64_t deadline)
{
  struct pollfd pfd = { .fd = sock, .events = POLLOUT };
  int64_t left = -1;

  if (deadline != -1) {
    left = deadline - now_ms ();
    if (left <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    if (left > INT_MAX)
      left = INT_MAX;
  }
  /* After a timeout or a signal the caller tries again and comes back. */
  if (poll (&pfd, 1, left) == -1 && errno != EINTR)
    return -1;
  return 0;
}

static void
attach_fds (struct msghdr *msg, union fds_buffer *buffer, const int *fds,
            size_t nr_fds)
{
  struct cmsghdr *cmsg;

  memset (buffer, 0, sizeof *buffer);
  msg->msg_control = buffer;
  msg->msg_controllen = CMSG_SPACE (nr_fds * sizeof *fds);
  cmsg = CMSG_FIRSTHDR (msg);
  cmsg->cmsg_level = SOL_SOCKET;
  cmsg->cmsg_type = SCM_RIGHTS;
  cmsg->cmsg_len = CMSG_LEN (nr_fds * sizeof *fds);
  memcpy (CMSG_DATA (cmsg), fds, nr_fds * sizeof *fds);
}

/* The descriptors go with the first byte, so they are there when the line is
 * complete.
 */
static int
send_all (int sock, char *data, size_t len, const int *fds, size_t nr_fds)
{
  const int64_t timeout = send_timeout (sock);
  const int64_t deadline = timeout == -1 ? -1 : now_ms () + timeout;
  union fds_buffer buffer;
  struct iovec iov = { .iov_base = data, .iov_len = len };
  struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

  if (nr_fds > 0)
    attach_fds (&msg, &buffer, fds, nr_fds);
  while (iov.iov_len > 0) {
    const ssize_t n = sendmsg (sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n >= 0) {
      iov.iov_base = (char *)iov.iov_base + n;
      iov.iov_len -= n;
      msg.msg_control = NULL;
      msg.msg_controllen = 0;
    }
    else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (wait_writable (sock, deadline) == -1)
        return -1;
    }
    else if (errno != EINTR)
      return -1;
  }
  return 0;
}

int
protocol_send (int sock, const json_t *message, const int *fds, size_t nr_fds)
{
  if (!json_is_object (message) || nr_fds > PROTOCOL_FDS_MAX) {
    errno = EINVAL;
    return -1;
  }

  CLEANUP_FREE char *text = json_dumps (message, JSON_COMPACT);

  if (text == NULL) {
    errno = ENOMEM;
    return -1;
  }

  const size_t len = strlen (text);

  if (len >= PROTOCOL_LINE_MAX) {
    errno = EMSGSIZE;
    return -1;
  }
  text[len] = '\n'; /* in place of the final 0 */
  return send_all (sock, text, len + 1, fds, nr_fds);
}
