/* SPDX-License-Identifier: BSD-3-Clause */
/* A client of the control socket for tests.
 *
 * control SOCKET         sends each line of standard input as it is and prints
 *                        each line of the answer; one answer for each line.
 *                        The first is the greeting, printed before anything is
 *                        sent.  "begin" and "lost" carry one end of a socket
 *                        pair; or, where the environment has CONTROL_TO=FILE
 *                        and there is one, a connection to the socket that this
 *                        link points to.
 * control SOCKET --raw   sends standard input byte for byte, and prints what
 *                        comes until the server closes
 * control SOCKET --idle N  opens N connections, prints "open", and keeps them
 *                        until it is killed
 * control SOCKET --hoard N  the same, but each sends the beginning of a line,
 * with as many descriptors as one may carry
 *
 * Exit status 1 if the server closed the connection early.
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "protocol.h"

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "control: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static int
open_socket (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const int sock = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (sock == -1 || strlen (path) >= sizeof address.sun_path)
    die ("socket");
  strcpy (address.sun_path, path);
  if (connect (sock, (struct sockaddr *)&address, sizeof address) == -1)
    die (path);
  return sock;
}

/* Print the next line from the server; false at its end. */
static bool
print_answer (struct line_reader *reader, int sock)
{
  char *line;
  ssize_t n = 1;

  while ((line = line_reader_next (reader)) == NULL) {
    n = line_reader_receive (reader, sock);
    if (n <= 0)
      return false;
  }
  printf ("%s\n", line);
  fflush (stdout);
  free (line);
  return true;
}

/* One end of it stays open. */
static int
descriptor (void)
{
  const char *to = getenv ("CONTROL_TO");
  static int pair[2] = { -1, -1 };

  if (to != NULL && access (to, F_OK) == 0) {
    CLEANUP_FREE char *path = realpath (to, NULL);

    if (path == NULL)
      die (to);
    return open_socket (path);
  }
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
    die ("socketpair");
  return pair[1];
}

/* With or without a descriptor beside it. */
static void
send_line (int sock, char *line, size_t length)
{
  struct iovec iov = { .iov_base = line, .iov_len = length };
  union {
    struct cmsghdr align;
    char space[CMSG_SPACE (sizeof (int))];
  } control = { 0 };
  struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

  if (strstr (line, "\"begin\"") != NULL || strstr (line, "\"lost\"") != NULL) {
    const int fd = descriptor ();
    struct cmsghdr *cmsg;

    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    cmsg = CMSG_FIRSTHDR (&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN (sizeof (int));
    memcpy (CMSG_DATA (cmsg), &fd, sizeof (int));
  }
  if (sendmsg (sock, &message, MSG_NOSIGNAL) != (ssize_t)length)
    die ("sending");
}

static int
converse (const char *path)
{
  CLEANUP_FREE char *line = NULL;
  size_t allocated = 0;
  ssize_t n;
  struct line_reader reader;
  const int sock = open_socket (path);

  line_reader_init (&reader);
  if (!print_answer (&reader, sock))
    return EXIT_FAILURE;
  while ((n = getline (&line, &allocated, stdin)) > 0) {
    send_line (sock, line, n);
    if (!print_answer (&reader, sock)) {
      fprintf (stderr, "control: the server closed the connection\n");
      return EXIT_FAILURE;
    }
  }
  line_reader_destroy (&reader);
  close (sock);
  return EXIT_SUCCESS;
}

/* Whatever fits now; the server may be gone before all is sent. */
static bool
forward (int sock, bool *more)
{
  static char buf[65536];
  const ssize_t n = read (STDIN_FILENO, buf, sizeof buf);

  if (n <= 0) {
    *more = false;
    return shutdown (sock, SHUT_WR) == 0;
  }
  for (ssize_t done = 0, r; done < n; done += r) {
    r = send (sock, buf + done, n - done, MSG_NOSIGNAL);
    if (r == -1)
      return false;
  }
  return true;
}

static int
raw (const char *path)
{
  char buf[65536];
  bool more = true;
  const int sock = open_socket (path);

  for (;;) {
    struct pollfd fds[2] = { { .fd = sock, .events = POLLIN },
                             { .fd = more ? STDIN_FILENO : -1,
                               .events = POLLIN } };

    if (poll (fds, 2, -1) == -1)
      die ("poll");
    if (fds[0].revents != 0) {
      const ssize_t n = read (sock, buf, sizeof buf);

      if (n <= 0)
        return EXIT_SUCCESS;
      if (write (STDOUT_FILENO, buf, n) != n)
        die ("standard output");
    }
    if (fds[1].revents != 0 && !forward (sock, &more))
      more = false;
  }
}

static void __attribute__ ((noreturn)) idle (const char *path, int n)
{
  while (n-- > 0)
    open_socket (path);
  puts ("open");
  fflush (stdout);
  for (;;)
    pause ();
}

static void
send_descriptors (int sock)
{
  struct iovec iov = { .iov_base = "{", .iov_len = 1 };
  union {
    struct cmsghdr align;
    char space[CMSG_SPACE (PROTOCOL_FDS_MAX * sizeof (int))];
  } control = { 0 };
  struct msghdr message = {
    .msg_iov = &iov,
    .msg_iovlen = 1,
    .msg_control = control.space,
    .msg_controllen = sizeof control.space,
  };
  struct cmsghdr *cmsg = CMSG_FIRSTHDR (&message);
  int fds[PROTOCOL_FDS_MAX];

  for (size_t i = 0; i < PROTOCOL_FDS_MAX; i++)
    fds[i] = STDIN_FILENO;
  cmsg->cmsg_level = SOL_SOCKET;
  cmsg->cmsg_type = SCM_RIGHTS;
  cmsg->cmsg_len = CMSG_LEN (sizeof fds);
  memcpy (CMSG_DATA (cmsg), fds, sizeof fds);
  if (sendmsg (sock, &message, MSG_NOSIGNAL) != 1)
    die ("sending descriptors");
}

/* Prints "closed" when the server has closed all of them. */
static int
hoard (const char *path, int n)
{
  char buf[4096];
  int socks[64];

  for (int i = 0; i < n && i < 64; i++) {
    socks[i] = open_socket (path);
    send_descriptors (socks[i]);
  }
  puts ("open");
  fflush (stdout);
  for (int i = 0; i < n && i < 64; i++)
    while (read (socks[i], buf, sizeof buf) > 0)
      ;
  puts ("closed");
  return EXIT_SUCCESS;
}

int
main (int argc, char *argv[])
{
  if (argc == 2)
    return converse (argv[1]);
  if (argc == 3 && strcmp (argv[2], "--raw") == 0)
    return raw (argv[1]);
  if (argc == 4 && strcmp (argv[2], "--idle") == 0)
    idle (argv[1], atoi (argv[3]));
  if (argc == 4 && strcmp (argv[2], "--hoard") == 0)
    return hoard (argv[1], atoi (argv[3]));
  fprintf (stderr, "usage: control SOCKET [--raw | --idle N | --hoard N]\n");
  return 2;
}
