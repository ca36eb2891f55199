/* SPDX-License-Identifier: BSD-3-Clause */
/* Stands between a migrator and the control socket and loses the answer to its
 * first "commit", or another COMMAND, or makes it wait.
 *
 * lose-answer SOCKET OWN-SOCKET before  the command does not arrive either
 *                               during  the command arrives, and the
 *                                       connection breaks at once
 *                               after   it breaks when the answer is there
 *                               forever the same, and nobody can connect again
 * lose-answer SOCKET OWN-SOCKET until FILE [COMMAND]
 *                               the answer, and all that comes after it, waits
 *                               until FILE exists
 *
 * One connection at a time.  Descriptors are passed on.
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

#include "protocol.h"

static const char *when;
static bool lost;         /* it has happened: everything passes from here on */
static const char *until; /* NULL: nothing waits, or not any more */
static const char *command = "commit";

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "lose-answer: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static int
make_socket (const char *path, struct sockaddr_un *address)
{
  const int sock = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  if (sock == -1 || strlen (path) >= sizeof address->sun_path)
    die ("socket");
  strcpy (address->sun_path, path);
  return sock;
}

struct packet {
  char bytes[65536];
  size_t length;
  union {
    struct cmsghdr align;
    char space[CMSG_SPACE (PROTOCOL_FDS_MAX * sizeof (int))];
  } control;
  size_t control_length;
};

static bool
receive (int sock, struct packet *p)
{
  struct iovec iov = { .iov_base = p->bytes, .iov_len = sizeof p->bytes };
  struct msghdr message = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = p->control.space,
                            .msg_controllen = sizeof p->control.space };
  const ssize_t n = recvmsg (sock, &message, MSG_CMSG_CLOEXEC);

  p->length = n > 0 ? n : 0;
  p->control_length = message.msg_controllen;
  return n > 0;
}

static void
close_passed (struct packet *p)
{
  struct msghdr message = { .msg_control = p->control.space,
                            .msg_controllen = p->control_length };
  struct cmsghdr *c = CMSG_FIRSTHDR (&message);
  int fds[PROTOCOL_FDS_MAX];
  size_t n;

  if (c == NULL || c->cmsg_type != SCM_RIGHTS)
    return;
  n = (c->cmsg_len - CMSG_LEN (0)) / sizeof (int);
  memcpy (fds, CMSG_DATA (c), n * sizeof (int));
  while (n-- > 0)
    close (fds[n]);
}

static bool
pass_on (int sock, struct packet *p)
{
  struct iovec iov = { .iov_base = p->bytes, .iov_len = p->length };
  struct msghdr message = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control =
                              p->control_length ? p->control.space : NULL,
                            .msg_controllen = p->control_length };
  const bool sent =
    sendmsg (sock, &message, MSG_NOSIGNAL) == (ssize_t)p->length;

  close_passed (p);
  return sent;
}

static size_t
count_lines (const struct packet *p)
{
  size_t n = 0;

  for (size_t i = 0; i < p->length; ++i)
    n += p->bytes[i] == '\n';
  return n;
}

static bool
has_command (const struct packet *p)
{
  char name[64];
  const int n = snprintf (name, sizeof name, "\"execute\":\"%s\"", command);

  return memmem (p->bytes, p->length, name, n) != NULL;
}

/* Whether what the server says is to wait. */
static bool
must_wait (void)
{
  if (lost && until != NULL && access (until, F_OK) == 0)
    until = NULL;
  return lost && until != NULL;
}

/* Until one side closes, or the answer is to be lost. */
static void
relay (int client, int server)
{
  static struct packet p;
  size_t asked = 0, answered = 0, commit = 0; /* lines; which it was */
  struct pollfd fds[2] = { { .fd = client, .events = POLLIN },
                           { .fd = server, .events = POLLIN } };

  while (poll (fds, 2, must_wait () ? 10 : -1) >= 0) {
    if (fds[0].revents) {
      if (!receive (client, &p))
        return;
      asked += count_lines (&p);
      if (!lost && has_command (&p)) {
        commit = until ? 0 : asked + 1; /* the greeting is one more */
        lost = true;
        if (strcmp (when, "before") == 0) {
          close_passed (&p);
          return;
        }
      }
      if (!pass_on (server, &p) || (commit && strcmp (when, "during") == 0))
        return;
    }
    if (fds[1].revents) {
      if (!receive (server, &p))
        return;
      answered += count_lines (&p);
      if (commit && answered >= commit)
        return;
      if (!commit && !pass_on (client, &p))
        return;
    }
    fds[1].events = must_wait () ? 0 : POLLIN;
  }
}

int
main (int argc, char *argv[])
{
  struct sockaddr_un server_address, address;
  int listening, client, server;

  if (argc < 4 || argc > 6) {
    fprintf (stderr,
             "usage: lose-answer SOCKET OWN-SOCKET WHEN [FILE [COMMAND]]\n");
    return 2;
  }
  if (argc == 6)
    command = argv[5];
  when = argv[3];
  until = argv[4];
  listening = make_socket (argv[2], &address);
  if (bind (listening, (struct sockaddr *)&address, sizeof address) == -1 ||
      listen (listening, 8) == -1)
    die (argv[2]);
  for (;;) {
    client = accept4 (listening, NULL, NULL, SOCK_CLOEXEC);
    server = make_socket (argv[1], &server_address);
    if (client == -1 || connect (server, (struct sockaddr *)&server_address,
                                 sizeof server_address) == -1)
      die (argv[1]);
    relay (client, server);
    if (lost && strcmp (when, "forever") == 0 && unlink (argv[2]) == -1 &&
        errno != ENOENT)
      die (argv[2]);
    close (client);
    close (server);
  }
}
