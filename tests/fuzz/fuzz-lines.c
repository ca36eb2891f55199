/* SPDX-License-Identifier: BSD-3-Clause */
/* The control protocol up to the commands: bytes that come in pieces, with
 * descriptors, become lines, the lines JSON, its members numbers and ranges.  A
 * piece is a byte with its length and the number of descriptors (the two upper
 * bits), and so many bytes.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "fuzz.h"
#include "protocol.h"

static int
send_piece (int sock, const uint8_t *data, size_t size, size_t nr_fds)
{
  union {
    struct cmsghdr align;
    char data[CMSG_SPACE (3 * sizeof (int))];
  } control;
  int fds[3] = { sock, sock, sock };
  struct iovec iov = { (void *)data, size };
  struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
  struct cmsghdr *cmsg;

  if (nr_fds > 0) {
    msg.msg_control = &control;
    msg.msg_controllen = CMSG_SPACE (nr_fds * sizeof (int));
    cmsg = CMSG_FIRSTHDR (&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN (nr_fds * sizeof (int));
    memcpy (CMSG_DATA (cmsg), fds, nr_fds * sizeof (int));
  }
  return sendmsg (sock, &msg, 0) == (ssize_t)size ? 0 : -1;
}

static void
try_extents (const json_t *json)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  const char *why = NULL;

  if (protocol_parse_extents (json, &e, &why) == -1) {
    assert (why != NULL);
    return;
  }
  assert (e.n <= PROTOCOL_EXTENTS_MAX);
  for (size_t i = 0; i < e.n; i++)
    assert (e.v[i].length > 0 && e.v[i].offset <= INT64_MAX &&
            e.v[i].length - 1 <= INT64_MAX - e.v[i].offset);
}

static void
try_line (const char *line, size_t limit)
{
  CLEANUP_JSON json_t *message = json_loads (line, 0, NULL);
  const json_t *args = json_object_get (message, "arguments");
  uint64_t n = 0;

  assert (strlen (line) < limit && strchr (line, '\n') == NULL);
  if (protocol_get_u64 (args, "epoch", &n) == 1)
    assert (n <= INT64_MAX);
  try_extents (json_object_get (args, "extents"));
}

static bool
receive (struct line_reader *r, int sock, size_t *lines)
{
  char *line;

  if (line_reader_receive (r, sock) <= 0)
    return false;
  assert (r->nr_fds <= PROTOCOL_FDS_MAX);
  while ((line = line_reader_next (r)) != NULL) {
    ++*lines;
    try_line (line, r->used + 1);
    free (line);
  }
  return errno == 0;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct line_reader r;
  size_t newlines = 0, lines = 0;
  bool go_on = true;
  int socks[2];

  assert (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) == 0);
  line_reader_init (&r);
  while (size > 1 && go_on) {
    const size_t room = size - 1, wish = (data[0] & 63) + 1;
    const size_t n = wish < room ? wish : room;

    if (send_piece (socks[0], data + 1, n, data[0] >> 6) == -1)
      break;
    go_on = receive (&r, socks[1], &lines);
    for (size_t i = 1; i <= n && go_on; i++)
      newlines += data[i] == '\n';
    data += 1 + n;
    size -= 1 + n;
  }
  if (go_on)
    assert (lines == newlines);
  line_reader_destroy (&r);
  close (socks[0]);
  close (socks[1]);
  return 0;
}
