/* SPDX-License-Identifier: BSD-3-Clause */
/* A proxy between an NBD client and its servers that misbehaves on cue.
 *
 *   tcp-relay FIFO LISTEN BACKEND [BACKEND]
 *
 * Addresses are unix:PATH or tcp:IPV4:PORT.  Each client gets a connection of
 * its own to a backend, with two in turn ("a balancer").  Commands come as
 * lines through the FIFO, which is made here; "N COMMAND" on standard output
 * says that the Nth is done; "- kept N" (bytes of one connection, one way),
 * "- dropped" and "- idle" what became of bytes and connections.
 *
 *   pass        forward both ways (so it begins)
 *   stall       take what comes, keep it, forward nothing; pass delivers it
 *   pass-new    the same, but for connections that were stalled
 *   pass-late=MS  the same; they go on so long after the next client has come
 *   drop        take what comes and throw it away; when it passes again such
 *               connections are cut
 *   cut         all connections, by RST; close: by FIN.  What was taken from
 *               clients, also while stalled, is still delivered, and then the
 *               server is told that there is no more: one that has answers to
 *               give when it finds the connection gone may end (nbdkit before
 *               1.34)
 *   refuse      close new clients at once; pass ends it
 *   latency=MS  each byte takes so long, each way
 *   idle=MS     close connections on which nothing came for so long and that
 *               wait for no answer; 0: none
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 256
#define TAKE_BYTES 65536
#define KEEP_MAX_BYTES                                                         \
  (64 * 1024 * 1024) /* each way; then it stops reading                        \
                      */

enum mode { PASS, STALL, DROP };

struct address {
  union {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
  };
  socklen_t length;
};

/* Bytes on their way; the queue of one direction. */
struct piece {
  struct piece *next;
  int64_t due_ms;
  size_t length, done;
  char bytes[];
};

struct way {
  int from, to; /* -1: that end is gone */
  bool ended;   /* nothing comes any more: FIN after what is queued */
  struct piece *first, **last;
  size_t queued;
};

struct pair {
  bool used, dropped, stalled, told;
  int client, server;
  struct way up, down;
  int64_t heard_ms;
  bool asked; /* what came last came from the client: it is not answered */
};

static struct pair pairs[PAIRS_MAX];
static struct address backends[2];
static unsigned nr_backends, nr_accepted, nr_commands;
static enum mode mode;
static bool refusing;
static int64_t latency_ms, idle_ms;
static int64_t late_ms;     /* pass-late; 0: no */
static int64_t go_on_at_ms; /* 0: no client has come since */

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "tcp-relay: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static int64_t
now_ms (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C (1000) + t.tv_nsec / 1000000;
}

static void
say (const char *what)
{
  printf ("- %s\n", what);
  fflush (stdout);
}

/* ---- Sockets ------------------------------------------------------------ */

static void
parse_address (struct address *a, char *text)
{
  char *const port = strrchr (text, ':');

  *a = (struct address){ .length = 0 };
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
make_socket (const struct address *a)
{
  const int s = socket (a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (s == -1)
    die ("socket");
  return s;
}

static int
listen_at (const struct address *a)
{
  const int s = make_socket (a), one = 1;

  setsockopt (s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind (s, &a->any, a->length) == -1 || listen (s, 64) == -1)
    die ("listening");
  return s;
}

/* TCP: by a reset, and what is in its send queue is gone. */
static void
reset_socket (int *s)
{
  const struct linger now = { 1, 0 };

  if (*s == -1)
    return;
  setsockopt (*s, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close (*s);
  *s = -1;
}

/* ---- Queues ------------------------------------------------------------- */

static void
way_open (struct way *w, int from, int to)
{
  *w = (struct way){ .from = from, .to = to };
  w->last = &w->first;
}

static void
way_drop_first (struct way *w)
{
  struct piece *const p = w->first;

  w->queued -= p->length;
  w->first = p->next;
  if (w->first == NULL)
    w->last = &w->first;
  free (p);
}

static void
way_free (struct way *w)
{
  while (w->first != NULL)
    way_drop_first (w);
}

/* What comes, into the queue. */
static void
way_take (struct pair *p, struct way *w)
{
  struct piece *const n = malloc (sizeof *n + TAKE_BYTES);
  ssize_t r;

  if (n == NULL)
    die ("malloc");
  r = recv (w->from, n->bytes, TAKE_BYTES, MSG_DONTWAIT);
  if (r <= 0) {
    if (r == 0 || errno != EAGAIN)
      w->ended = true;
    free (n);
    return;
  }
  p->heard_ms = now_ms ();
  p->asked = w == &p->up;
  if (mode == DROP)
    p->dropped = true;
  if (p->dropped || w->to == -1) {
    if (mode == DROP)
      say ("dropped");
    free (n);
    return;
  }
  n->next = NULL;
  n->due_ms = p->heard_ms + latency_ms;
  n->length = r;
  n->done = 0;
  *w->last = n;
  w->last = &n->next;
  w->queued += r;
  if (mode == STALL || p->stalled) {
    printf ("- kept %zu\n", w->queued);
    fflush (stdout);
  }
}

static void
way_give (struct way *w)
{
  struct piece *const p = w->first;
  const ssize_t r = send (w->to, p->bytes + p->done, p->length - p->done,
                          MSG_DONTWAIT | MSG_NOSIGNAL);

  if (r == -1 && errno == EAGAIN)
    return;
  if (r == -1) {
    way_free (w);
    w->to = -1;
    return;
  }
  p->done += r;
  if (p->done == p->length)
    way_drop_first (w);
}

static bool
way_is_due (const struct pair *p, const struct way *w)
{
  return mode == PASS && !p->stalled && w->first != NULL && w->to != -1 &&
         w->first->due_ms <= now_ms ();
}

/* ---- Connections -------------------------------------------------------- */

static void
pair_end (struct pair *p)
{
  if (p->client != -1)
    close (p->client);
  close (p->server);
  way_free (&p->up);
  way_free (&p->down);
  p->used = false;
}

/* What has come from the client is still to be delivered. */
static void
pair_cut (struct pair *p, bool by_reset)
{
  while (!p->up.ended && p->client != -1 && p->up.queued < KEEP_MAX_BYTES) {
    const size_t before = p->up.queued;

    way_take (p, &p->up);
    if (p->up.queued == before)
      break;
  }
  if (by_reset)
    reset_socket (&p->client);
  else if (p->client != -1) {
    close (p->client);
    p->client = -1;
  }
  p->up.from = p->down.to = -1;
  p->up.ended = true;
  way_free (&p->down);
}

static void
accept_client (int listening)
{
  const int client = accept4 (listening, NULL, NULL, SOCK_CLOEXEC);
  const struct address *const a = &backends[nr_accepted++ % nr_backends];
  struct pair *p = pairs;
  int server;

  if (client == -1)
    return;
  if (late_ms > 0 && go_on_at_ms == 0)
    go_on_at_ms = now_ms () + late_ms;
  server = make_socket (a);
  while (p < pairs + PAIRS_MAX && p->used)
    p++;
  if (refusing || p == pairs + PAIRS_MAX ||
      connect (server, &a->any, a->length) == -1) {
    close (client);
    close (server);
    return;
  }
  *p = (struct pair){ .used = true,
                      .stalled = mode == STALL,
                      .client = client,
                      .server = server,
                      .heard_ms = now_ms () };
  way_open (&p->up, client, server);
  way_open (&p->down, server, client);
}

/* Whatever is over is ended. */
static void
look_after (struct pair *p)
{
  if (p->client != -1 && mode == PASS && p->dropped)
    pair_cut (p, true);
  if (p->client != -1 && idle_ms > 0 && !p->asked && !p->up.ended &&
      now_ms () - p->heard_ms >= idle_ms) {
    pair_cut (p, false);
    say ("idle");
  }
  if (mode != PASS || p->stalled)
    return;
  if (!p->told && p->up.ended && p->up.first == NULL) {
    shutdown (p->server, SHUT_WR);
    p->told = true;
  }
  if (p->down.ended && p->down.first == NULL)
    pair_end (p);
}

/* ---- Commands ----------------------------------------------------------- */

static void
for_all (void (*f) (struct pair *p))
{
  for (size_t i = 0; i < PAIRS_MAX; ++i) {
    if (pairs[i].used)
      f (&pairs[i]);
  }
}

static void
stall (struct pair *p)
{
  p->stalled = true;
}

static void
go_on (struct pair *p)
{
  p->stalled = false;
}

static void
set_mode (enum mode m)
{
  mode = m;
  if (m == PASS)
    refusing = false;
  if (m == STALL)
    for_all (stall);
}

static void
cut (struct pair *p)
{
  pair_cut (p, true);
}

static void
close_gently (struct pair *p)
{
  pair_cut (p, false);
}

static void
obey (const char *command)
{
  if (strcmp (command, "pass") == 0 || strcmp (command, "pass-new") == 0)
    set_mode (PASS);
  else if (strcmp (command, "stall") == 0)
    set_mode (STALL);
  else if (strcmp (command, "drop") == 0)
    set_mode (DROP);
  else if (strcmp (command, "cut") == 0)
    for_all (cut);
  else if (strcmp (command, "close") == 0)
    for_all (close_gently);
  else if (strncmp (command, "pass-late=", 10) == 0) {
    set_mode (PASS);
    late_ms = atoi (command + 10);
    go_on_at_ms = 0;
  }
  else if (strcmp (command, "refuse") == 0)
    refusing = true;
  else if (strncmp (command, "latency=", 8) == 0)
    latency_ms = atoi (command + 8);
  else if (strncmp (command, "idle=", 5) == 0)
    idle_ms = atoi (command + 5);
  else {
    errno = EINVAL;
    die (command);
  }
  if (strcmp (command, "pass") == 0)
    for_all (go_on);
  printf ("%u %s\n", ++nr_commands, command);
  fflush (stdout);
}

static void
read_commands (int fifo)
{
  static char line[256];
  static size_t length;
  char c;

  while (read (fifo, &c, 1) == 1) {
    if (c != '\n' && length < sizeof line - 1) {
      line[length++] = c;
      continue;
    }
    line[length] = '\0';
    length = 0;
    obey (line);
  }
}

/* ---- The loop ----------------------------------------------------------- */

static short
events_of (const struct pair *p, const struct way *in, const struct way *out)
{
  return (in->from != -1 && !in->ended && in->queued < KEEP_MAX_BYTES ? POLLIN
                                                                      : 0) |
         (way_is_due (p, out) ? POLLOUT : 0);
}

static void
serve (struct pair *p, const struct pollfd *client, const struct pollfd *server)
{
  if (client->revents && p->up.from != -1 && !p->up.ended)
    way_take (p, &p->up);
  if (server->revents && !p->down.ended)
    way_take (p, &p->down);
  if (way_is_due (p, &p->up))
    way_give (&p->up);
  if (way_is_due (p, &p->down))
    way_give (&p->down);
}

/* A descriptor that nothing is wanted of is not looked at, or its end would
 * keep the loop busy.
 */
static struct pollfd
poll_for (int fd, short events)
{
  return (struct pollfd){ .fd = events ? fd : -1, .events = events };
}

static void
loop (int fifo, int listening)
{
  static struct pollfd fds[2 + 2 * PAIRS_MAX];

  for (;;) {
    fds[0] = poll_for (fifo, POLLIN);
    fds[1] = poll_for (listening, POLLIN);
    for (size_t i = 0; i < PAIRS_MAX; ++i) {
      struct pair *const p = &pairs[i];

      fds[2 + 2 * i] =
        poll_for (p->used ? p->client : -1, events_of (p, &p->up, &p->down));
      fds[3 + 2 * i] =
        poll_for (p->used ? p->server : -1, events_of (p, &p->down, &p->up));
    }
    if (poll (fds, 2 + 2 * PAIRS_MAX, latency_ms || idle_ms ? 1 : 50) == -1)
      die ("poll");
    for (size_t i = 0; i < PAIRS_MAX; ++i) {
      if (pairs[i].used)
        serve (&pairs[i], &fds[2 + 2 * i], &fds[3 + 2 * i]);
    }
    if (go_on_at_ms != 0 && now_ms () >= go_on_at_ms) {
      for_all (go_on);
      late_ms = go_on_at_ms = 0;
      say ("went on");
    }
    for_all (look_after);
    if (fds[1].revents)
      accept_client (listening);
    if (fds[0].revents)
      read_commands (fifo);
  }
}

int
main (int argc, char *argv[])
{
  struct address own;
  int fifo, listening;

  if (argc != 4 && argc != 5) {
    fprintf (stderr, "usage: tcp-relay FIFO LISTEN BACKEND [BACKEND]\n");
    return 2;
  }
  parse_address (&own, argv[2]);
  for (int i = 3; i < argc; ++i)
    parse_address (&backends[nr_backends++], argv[i]);
  if (mkfifo (argv[1], 0600) == -1)
    die (argv[1]);
  fifo = open (argv[1], O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fifo == -1)
    die (argv[1]);
  listening = listen_at (&own);
  puts ("0 listening");
  fflush (stdout);
  loop (fifo, listening);
}
