/* SPDX-License-Identifier: BSD-3-Clause */
/* The receiving side of protocol.h.  It trusts nothing: the peer may send
 * garbage, a byte at a time, lines without an end, or thousands of empty ones.
 * So memory is bounded by PROTOCOL_LINE_MAX, each byte is looked at once
 * ('scanned') and moved at most once for each receive ('start').
 */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol.h"

#define RECEIVE_SIZE 65536 /* bytes asked for at once, at most */

/* Room for the descriptors of one message, aligned as the kernel wants it. */
union fds_buffer {
  struct cmsghdr align;
  char data[CMSG_SPACE (PROTOCOL_FDS_MAX * sizeof (int))];
};

void
line_reader_init (struct line_reader *r)
{
  memset (r, 0, sizeof *r);
}

static void
close_all (const int *fds, size_t nr_fds)
{
  for (size_t i = 0; i < nr_fds; i++)
    close (fds[i]);
}

void
line_reader_destroy (struct line_reader *r)
{
  close_all (r->fds, r->nr_fds);
  free (r->data);
  line_reader_init (r);
}

/* Move what is left of the data to the front. */
static void
compact (struct line_reader *r)
{
  if (r->start == 0)
    return;
  r->used -= r->start;
  r->scanned -= r->start;
  memmove (r->data, r->data + r->start, r->used);
  r->start = 0;
}

/* Make room behind the data.  Returns how much there is, or -1. */
static ssize_t
make_room (struct line_reader *r)
{
  size_t size = r->allocated > 0 ? r->allocated : 4096;

  compact (r);
  if (r->used == PROTOCOL_LINE_MAX) {
    errno = EMSGSIZE;
    return -1;
  }
  if (r->used == size)
    size *= 2;
  if (size > PROTOCOL_LINE_MAX)
    size = PROTOCOL_LINE_MAX;
  if (size > r->allocated) {
    char *data = realloc (r->data, size);

    if (data == NULL)
      return -1;
    r->data = data;
    r->allocated = size;
  }
  size -= r->used;
  return size < RECEIVE_SIZE ? size : RECEIVE_SIZE;
}

/* Keep the descriptors of one control message.  False if they are too many;
 * those that do not fit are closed.
 */
static bool
keep_fds (struct line_reader *r, const struct cmsghdr *cmsg)
{
  const size_t n = (cmsg->cmsg_len - CMSG_LEN (0)) / sizeof (int);
  const unsigned char *p = CMSG_DATA (cmsg);
  bool ok = true;

  for (size_t i = 0; i < n; i++) {
    int fd;

    memcpy (&fd, p + i * sizeof fd, sizeof fd);
    if (r->nr_fds < PROTOCOL_FDS_MAX)
      r->fds[r->nr_fds++] = fd;
    else {
      close (fd);
      ok = false;
    }
  }
  return ok;
}

/* MSG_CTRUNC: the kernel closed what did not fit. */
static bool
keep_all_fds (struct line_reader *r, struct msghdr *msg)
{
  bool ok = !(msg->msg_flags & MSG_CTRUNC);
  struct cmsghdr *cmsg;

  for (cmsg = CMSG_FIRSTHDR (msg); cmsg; cmsg = CMSG_NXTHDR (msg, cmsg))
    if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
      ok = keep_fds (r, cmsg) && ok;
  return ok;
}

/* The end of the first line, or NULL if no line is complete. */
static char *
find_newline (struct line_reader *r)
{
  char *newline = NULL;

  if (r->scanned < r->used)
    newline = memchr (r->data + r->scanned, '\n', r->used - r->scanned);
  r->scanned = newline ? (size_t)(newline - r->data) : r->used;
  return newline;
}

ssize_t
line_reader_receive (struct line_reader *r, int sock)
{
  const ssize_t room = make_room (r);
  union fds_buffer fds;
  ssize_t n;

  if (room == -1)
    return -1;

  struct iovec iov = { .iov_base = r->data + r->used, .iov_len = room };
  struct msghdr msg = { .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &fds,
                        .msg_controllen = sizeof fds };

  do
    n = recvmsg (sock, &msg, MSG_CMSG_CLOEXEC);
  while (n == -1 && errno == EINTR);
  if (n == -1)
    return -1;
  r->used += n;
  if (!keep_all_fds (r, &msg) ||
      (r->used == PROTOCOL_LINE_MAX && find_newline (r) == NULL)) {
    errno = EMSGSIZE;
    return -1;
  }
  return n;
}

/* Else a C string would end early, and what is before it might be a command:
 * 1 is allowed nowhere in JSON.
 */
static void
replace_zeroes (char *line, size_t len)
{
  char *const end = line + len;

  while ((line = memchr (line, '\0', end - line)) != NULL)
    *line++ = '\1';
}

char *
line_reader_next (struct line_reader *r)
{
  const char *newline = find_newline (r);

  errno = 0;
  if (newline == NULL)
    return NULL;

  const size_t end = newline - r->data;
  const size_t len = end - r->start;
  char *line = malloc (len + 1);

  if (line == NULL)
    return NULL;
  memcpy (line, r->data + r->start, len);
  replace_zeroes (line, len);
  line[len] = '\0';
  r->start = r->scanned = end + 1;
  return line;
}

size_t
line_reader_take_fds (struct line_reader *r, int fds[PROTOCOL_FDS_MAX])
{
  const size_t n = r->nr_fds;

  memcpy (fds, r->fds, n * sizeof *fds);
  r->nr_fds = 0;
  return n;
}
