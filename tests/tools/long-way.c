/* SPDX-License-Identifier: BSD-3-Clause */
/* A long network between an NBD client and its server, for tests and figures.
 *
 *   long-way RTT_MS LISTEN BACKEND
 *
 * Addresses are unix:PATH or tcp:IPV4:PORT.  Each client gets a connection of
 * its own to the backend.  Each byte takes half of RTT_MS (a decimal fraction)
 * each way, however many are on their way: it is a delay, and neither a limit
 * of the bandwidth nor of what may be in flight, as long as that fits into
 * WAY_BYTES.  An end travels like the bytes before it.  "listening" on
 * standard output says that clients can come; SIGTERM ends it.
 *
 * One thread for each direction of a connection: a ring buffer, and a list of
 * when which part of it came.  (tcp-relay.c misbehaves on cue; this one has
 * only to be cheap and exact.)
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define WAY_BYTES (UINT64_C (256) << 20) /* in flight in one direction */
#define TAKE_BYTES (UINT64_C (256) << 10)
#define PIECES 65536 /* in flight in one direction */

struct address {
  union {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
  };
  socklen_t length;
};

struct piece {
  int64_t due_ns;
  uint64_t end; /* of its bytes, counted from the beginning of the stream */
};

struct way {
  int from, to;
  bool ended; /* nothing comes any more */
  int64_t end_due_ns;
  char *ring;
  uint64_t taken, given; /* bytes since the beginning */
  struct piece *pieces;
  uint64_t pieces_taken, pieces_given;
};

static int64_t delay_ns; /* one way */
static struct address backend;

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "long-way: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static int64_t
now_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C (1000000000) + t.tv_nsec;
}

static void
parse_address (struct address *a, char *text)
{
  char *const port = strrchr (text, ':');

  if (strncmp (text, "unix:", 5) == 0 &&
      strlen (text + 5) < sizeof a->un.sun_path) {
    a->un.sun_family = AF_UNIX;
    strcpy (a->un.sun_path, text + 5);
    a->length = sizeof a->un;
    return;
  }
  if (strncmp (text, "tcp:", 4) == 0 && port > text + 4) {
    *port = '\0';
    a->in.sin_family = AF_INET;
    a->in.sin_port = htons (atoi (port + 1));
    a->length = sizeof a->in;
    if (inet_pton (AF_INET, text + 4, &a->in.sin_addr) == 1)
      return;
  }
  errno = EINVAL;
  die (text);
}

static int
new_socket (const struct address *a)
{
  const int s = socket (a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (s == -1)
    die ("socket");
  return s;
}

/* ---- one direction ------------------------------------------------------ */

/* How many bytes are at 'at' in one piece, of so many. */
static uint64_t
in_one_piece (uint64_t at, uint64_t bytes)
{
  const uint64_t rest = WAY_BYTES - at % WAY_BYTES;

  return bytes < rest ? bytes : rest;
}

/* An idle way begins at the front again: less memory is touched. */
static void
rewind_if_empty (struct way *w)
{
  if (w->given == w->taken)
    w->given = w->taken = 0;
}

static bool
has_room (const struct way *w)
{
  return !w->ended && w->taken - w->given < WAY_BYTES &&
         w->pieces_taken - w->pieces_given < PIECES;
}

static void
take (struct way *w)
{
  uint64_t room;
  ssize_t r;

  rewind_if_empty (w);
  room = WAY_BYTES - (w->taken - w->given);
  room = in_one_piece (w->taken, room < TAKE_BYTES ? room : TAKE_BYTES);
  r = recv (w->from, w->ring + w->taken % WAY_BYTES, room, MSG_DONTWAIT);
  if (r == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (r <= 0) {
    w->ended = true;
    w->end_due_ns = now_ns () + delay_ns;
    return;
  }
  w->taken += r;
  w->pieces[w->pieces_taken++ % PIECES] =
    (struct piece){ now_ns () + delay_ns, w->taken };
}

/* Up to which byte all is due, and in *next_ns when more will be (0: not known
 * yet).
 */
static uint64_t
due (struct way *w, int64_t *next_ns)
{
  const int64_t now = now_ns ();
  uint64_t i = w->pieces_given, until = w->given;

  while (i < w->pieces_taken && w->pieces[i % PIECES].due_ns <= now)
    until = w->pieces[i++ % PIECES].end;
  *next_ns = i < w->pieces_taken ? w->pieces[i % PIECES].due_ns
             : w->ended          ? w->end_due_ns
                                 : 0;
  return until;
}

/* False: the other end is gone. */
static bool
give (struct way *w, uint64_t until)
{
  const ssize_t r = send (w->to, w->ring + w->given % WAY_BYTES,
                          in_one_piece (w->given, until - w->given),
                          MSG_DONTWAIT | MSG_NOSIGNAL);

  if (r == -1)
    return errno == EAGAIN || errno == EINTR;
  w->given += r;
  while (w->pieces_given < w->pieces_taken &&
         w->pieces[w->pieces_given % PIECES].end <= w->given)
    w->pieces_given++;
  return true;
}

static void
wait_until (struct way *w, bool want_to_give, int64_t next_ns)
{
  struct pollfd fds[2] = {
    { .fd = has_room (w) ? w->from : -1, .events = POLLIN },
    { .fd = want_to_give ? w->to : -1, .events = POLLOUT },
  };
  int64_t wait = next_ns - now_ns ();
  struct timespec t;

  if (wait < 0)
    wait = 0;
  t = (struct timespec){ wait / 1000000000, wait % 1000000000 };
  if (ppoll (fds, 2, next_ns && !want_to_give ? &t : NULL, NULL) == -1 &&
      errno != EINTR)
    die ("ppoll");
}

static void *
go (void *opaque)
{
  struct way *w = opaque;

  for (;;) {
    int64_t next_ns;
    const uint64_t until = due (w, &next_ns);

    if (until > w->given && !give (w, until))
      break;
    if (w->ended && w->given == w->taken && w->end_due_ns <= now_ns ())
      break;
    wait_until (w, until > w->given, next_ns);
    if (has_room (w))
      take (w);
  }
  shutdown (w->to, SHUT_WR);
  shutdown (w->from, SHUT_RD);
  return NULL;
}

/* ---- connections --------------------------------------------------------- */

static void
way_open (struct way *w, int from, int to)
{
  *w = (struct way){ .from = from, .to = to };
  w->ring = mmap (NULL, WAY_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  w->pieces = malloc (PIECES * sizeof *w->pieces);
  if (w->ring == MAP_FAILED || w->pieces == NULL)
    die ("memory");
}

static void
way_free (struct way *w)
{
  munmap (w->ring, WAY_BYTES);
  free (w->pieces);
}

/* One client, to its end. */
static void *
serve (void *opaque)
{
  const int client = *(int *)opaque, server = new_socket (&backend), one = 1;
  struct way up, down;
  pthread_t other;

  free (opaque);
  if (connect (server, &backend.any, backend.length) == 0) {
    setsockopt (client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt (server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    way_open (&up, client, server);
    way_open (&down, server, client);
    if (pthread_create (&other, NULL, go, &down) != 0)
      die ("pthread_create");
    go (&up);
    pthread_join (other, NULL);
    way_free (&up);
    way_free (&down);
  }
  close (client);
  close (server);
  return NULL;
}

int
main (int argc, char *argv[])
{
  struct address own = { .length = 0 };
  const int one = 1;
  int listening;

  if (argc != 4) {
    fprintf (stderr, "usage: long-way RTT_MS LISTEN BACKEND\n");
    return 2;
  }
  delay_ns = (int64_t)(strtod (argv[1], NULL) * 1e6 / 2);
  parse_address (&own, argv[2]);
  parse_address (&backend, argv[3]);
  signal (SIGPIPE, SIG_IGN);
  listening = new_socket (&own);
  setsockopt (listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind (listening, &own.any, own.length) == -1 ||
      listen (listening, 64) == -1)
    die (argv[2]);
  puts ("listening");
  fflush (stdout);
  for (;;) {
    int *client = malloc (sizeof *client);
    pthread_t t;

    if (client == NULL)
      die ("memory");
    *client = accept4 (listening, NULL, NULL, SOCK_CLOEXEC);
    if (*client == -1 || pthread_create (&t, NULL, serve, client) != 0)
      die ("accept");
    pthread_detach (t);
  }
}
