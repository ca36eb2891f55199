/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dial.h"
#include "uri.h"

#define AT_ONCE_MAX 16
#define NEXT_MS 250 /* RFC 8305, section 5 */
#define SLICE_MS 100

/* The addresses that are tried. */
struct race {
  struct pollfd fds[AT_ONCE_MAX];
  unsigned n;
  const struct addrinfo *next;
  int error; /* of one that did not come */
};

bool
dial_init (struct dial *d, const char *uri)
{
  *d = (struct dial){ .host = NULL };
  return uri_tcp_address (uri, &d->host, &d->port);
}

void
dial_destroy (struct dial *d)
{
  if (d->addresses != NULL)
    freeaddrinfo (d->addresses);
  free (d->host);
  free (d->port);
}

/* As libnbd does. */
static char *
describe (const char *doing, const struct dial *d, const char *what)
{
  char *text;

  return asprintf (&text, "%s: %s:%s: %s", doing, d->host, d->port, what) == -1
           ? NULL
           : text;
}

int
dial_resolve (struct dial *d, char **why)
{
  const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
  const int err = getaddrinfo (d->host, d->port, &hints, &d->addresses);

  if (err == 0)
    return 0;
  d->addresses = NULL;
  *why = describe ("getaddrinfo", d,
                   err == EAI_SYSTEM ? strerror (errno) : gai_strerror (err));
  return -1;
}

/* ---- the race ---------------------------------------------------------- */

static int64_t
now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The socket, which may not be connected yet; -1 with errno set. */
static int
begin_connecting (const struct addrinfo *a)
{
  static const int on = 1;
  const int fd =
    socket (a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
            a->ai_protocol);
  int err;

  if (fd == -1)
    return -1;
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect (fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS)
    return fd;
  err = errno;
  close (fd);
  errno = err;
  return -1;
}

/* Try one more; those that fail at once are passed over. */
static void
start_next (struct race *r)
{
  while (r->next != NULL && r->n < AT_ONCE_MAX) {
    const int fd = begin_connecting (r->next);

    r->next = r->next->ai_next;
    if (fd != -1) {
      r->fds[r->n++] = (struct pollfd){ .fd = fd, .events = POLLOUT };
      return;
    }
    r->error = errno;
  }
}

/* errno of a socket that connect is done with; 0: it is connected. */
static int
outcome (int fd)
{
  int err;
  socklen_t size = sizeof err;

  return getsockopt (fd, SOL_SOCKET, SO_ERROR, &err, &size) == -1 ? errno : err;
}

static void
remove_one (struct race *r, unsigned i)
{
  r->fds[i] = r->fds[--r->n];
}

/* The first that is connected, which leaves the race; -1: none is yet. */
static int
find_winner (struct race *r)
{
  unsigned i = 0;

  while (i < r->n) {
    const int fd = r->fds[i].fd;
    int err;

    if (r->fds[i].revents == 0) {
      ++i;
      continue;
    }
    err = outcome (fd);
    remove_one (r, i);
    if (err == 0)
      return fd;
    r->error = err;
    close (fd);
  }
  return -1;
}

static void
end_race (struct race *r)
{
  while (r->n > 0)
    close (r->fds[--r->n].fd);
}

/* -1 with r->error. */
static int
run_race (struct race *r, dial_goes_on *goes_on, void *opaque)
{
  int64_t next_ms = 0;
  int winner = -1;

  while (winner == -1 && (r->n > 0 || r->next != NULL)) {
    unsigned before;

    if (!goes_on (opaque)) {
      r->error = ETIMEDOUT;
      break;
    }
    if (r->n == 0 || now_ms () >= next_ms) {
      start_next (r);
      next_ms = now_ms () + NEXT_MS;
    }
    before = r->n;
    if (before > 0 && poll (r->fds, before, SLICE_MS) > 0)
      winner = find_winner (r);
    if (r->n < before) /* one has failed: the next at once */
      next_ms = 0;
  }
  end_race (r);
  return winner;
}

int
dial_connect (const struct dial *d, dial_goes_on *goes_on, void *opaque,
              char **why)
{
  struct race r = { .next = d->addresses, .error = EHOSTUNREACH };
  const int fd = run_race (&r, goes_on, opaque);

  if (fd == -1)
    *why = describe ("connect", d, strerror (r.error));
  return fd;
}
