/* SPDX-License-Identifier: BSD-3-Clause */
/* Sending lines and descriptors: to a slow peer, a dead one, one that never
 * reads, and under signals.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "cleanup.h"
#include "protocol.h"
#include "unit.h"

struct pair {
  int sock[2]; /* 0 sends, 1 receives; -1 when closed */
  struct line_reader r;
};

static void
pair_close (struct pair *p)
{
  cleanup_close (&p->sock[0]);
  cleanup_close (&p->sock[1]);
  line_reader_destroy (&p->r);
}

#define CLEANUP_PAIR __attribute__ ((cleanup (pair_close)))

/* flags: of the sending end, 0 or O_NONBLOCK */
static void
pair_open (struct pair *p, int flags)
{
  const int type = SOCK_STREAM | SOCK_CLOEXEC;

  line_reader_init (&p->r);
  CU_ASSERT_EQUAL_FATAL (socketpair (AF_UNIX, type, 0, p->sock), 0);
  CU_ASSERT_EQUAL_FATAL (fcntl (p->sock[0], F_SETFL, flags), 0);
}

/* Receive until a line is complete. */
static char *
get_line (struct pair *p)
{
  char *line;

  while ((line = line_reader_next (&p->r)) == NULL)
    if (line_reader_receive (&p->r, p->sock[1]) <= 0)
      return NULL;
  return line;
}

/* {"x": "aaa..."}, in all of this many bytes without the newline. */
static json_t *
message_of_length (size_t len)
{
  CLEANUP_FREE char *text = malloc (len);
  const size_t frame = strlen ("{\"x\":\"\"}");

  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  memset (text, 'a', len);
  text[len - frame] = '\0';

  json_t *message = json_pack ("{s:s}", "x", text);

  CU_ASSERT_PTR_NOT_NULL_FATAL (message);
  return message;
}

static void
assert_received (struct pair *p, const json_t *expected)
{
  CLEANUP_FREE char *line = get_line (p);

  CU_ASSERT_PTR_NOT_NULL_FATAL (line);

  CLEANUP_JSON json_t *message = json_loads (line, 0, NULL);

  CU_ASSERT (json_equal (message, expected));
}

static void
assert_refused (struct pair *p, const json_t *message, size_t nr_fds, int error)
{
  int fds[PROTOCOL_FDS_MAX + 1];
  char c;

  for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
    fds[i] = p->sock[0];
  errno = 0;
  CU_ASSERT_EQUAL (protocol_send (p->sock[0], message, fds, nr_fds), -1);
  CU_ASSERT_EQUAL (errno, error);
  CU_ASSERT_EQUAL (recv (p->sock[1], &c, 1, MSG_DONTWAIT), -1);
  CU_ASSERT_EQUAL (errno, EAGAIN); /* nothing was sent */
}

/* ---- Lines ------------------------------------------------------------- */

static void
test_one_line_each (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message =
    json_pack ("{s:s, s:[i,i]}", "text\nnewline", "a\nb\r\n\"\\\t\xc3\xa4",
               "numbers", 1, 2);
  CLEANUP_JSON json_t *empty = json_object ();

  pair_open (&p, 0);
  CU_ASSERT_EQUAL (protocol_send (p.sock[0], message, NULL, 0), 0);
  CU_ASSERT_EQUAL (protocol_send (p.sock[0], empty, NULL, 0), 0);
  CU_ASSERT_EQUAL (protocol_send (p.sock[0], message, NULL, 0), 0);
  assert_received (&p, message);
  assert_received (&p, empty);
  assert_received (&p, message);
  CU_ASSERT_PTR_NULL (line_reader_next (&p.r));
}

static void
test_no_object (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *array = json_array ();
  CLEANUP_JSON json_t *string = json_string ("x");

  pair_open (&p, 0);
  assert_refused (&p, NULL, 0, EINVAL);
  assert_refused (&p, array, 0, EINVAL);
  assert_refused (&p, string, 0, EINVAL);
}

static void
test_too_long (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = message_of_length (PROTOCOL_LINE_MAX);

  pair_open (&p, 0);
  assert_refused (&p, message, 0, EMSGSIZE);
}

static void
test_bad_sockets (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = json_object ();

  errno = 0;
  CU_ASSERT_EQUAL (protocol_send (-1, message, NULL, 0), -1);
  CU_ASSERT_EQUAL (errno, EBADF);
  pair_open (&p, 0);
  close (p.sock[1]);
  p.sock[1] = -1;
  errno = 0;
  CU_ASSERT_EQUAL (protocol_send (p.sock[0], message, NULL, 0), -1);
  CU_ASSERT_EQUAL (errno, EPIPE); /* and no SIGPIPE, or we were not here */
}

/* ---- A peer that reads while we send ----------------------------------- */

struct sender {
  int sock;
  const json_t *message;
  const int *fds;
  size_t nr_fds;
  int result;
  int error;
};

static void *
run_sender (void *arg)
{
  struct sender *s = arg;

  errno = 0;
  s->result = protocol_send (s->sock, s->message, s->fds, s->nr_fds);
  s->error = errno;
  return NULL;
}

static void
assert_longest_passes (int flags)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = message_of_length (PROTOCOL_LINE_MAX - 1);
  struct sender s = { .message = message };
  pthread_t thread;

  pair_open (&p, flags);
  s.sock = p.sock[0];
  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, run_sender, &s), 0);
  assert_received (&p, message);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (s.result, 0);
}

static void
test_longest_line (void)
{
  assert_longest_passes (0);
  assert_longest_passes (O_NONBLOCK);
}

static void
ignore (int sig)
{
  (void)sig;
}

/* Signals come all the time while the line goes through; it stays whole. */
static void
test_signals (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = message_of_length (PROTOCOL_LINE_MAX - 1);
  const struct sigaction action = { .sa_handler = ignore }; /* no restart */
  struct sender s = { .message = message };
  struct sigaction before;
  pthread_t thread;
  char *line;

  pair_open (&p, 0);
  s.sock = p.sock[0];
  CU_ASSERT_EQUAL_FATAL (sigaction (SIGUSR1, &action, &before), 0);
  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, run_sender, &s), 0);
  while ((line = line_reader_next (&p.r)) == NULL) {
    pthread_kill (thread, SIGUSR1);
    if (line_reader_receive (&p.r, p.sock[1]) <= 0)
      break;
  }
  pthread_join (thread, NULL);
  sigaction (SIGUSR1, &before, NULL);
  CU_ASSERT_EQUAL (s.result, 0);
  CU_ASSERT_PTR_NOT_NULL_FATAL (line);
  CU_ASSERT_EQUAL (strlen (line), PROTOCOL_LINE_MAX - 1);
  free (line);
}

/* ---- A peer that does not read ----------------------------------------- */

static void
assert_times_out (int flags)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = message_of_length (PROTOCOL_LINE_MAX - 1);
  const struct timeval tv = { .tv_usec = 20000 };

  pair_open (&p, flags);
  CU_ASSERT_EQUAL_FATAL (
    setsockopt (p.sock[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), 0);
  errno = 0;
  CU_ASSERT_EQUAL (protocol_send (p.sock[0], message, NULL, 0), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
}

static void
test_timeout (void)
{
  assert_times_out (0);
  assert_times_out (O_NONBLOCK);
}

/* The peer goes away while we wait for it. */
static void
test_hang_up (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = message_of_length (PROTOCOL_LINE_MAX - 1);
  struct sender s = { .message = message };
  pthread_t thread;

  pair_open (&p, 0);
  s.sock = p.sock[0];
  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, run_sender, &s), 0);
  CU_ASSERT (line_reader_receive (&p.r, p.sock[1]) > 0);
  close (p.sock[1]);
  p.sock[1] = -1;
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (s.result, -1);
  CU_ASSERT (s.error == EPIPE || s.error == ECONNRESET);
}

/* ---- Descriptors ------------------------------------------------------- */

static bool
same_file (int a, int b)
{
  struct stat x, y;

  return fstat (a, &x) == 0 && fstat (b, &y) == 0 && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

/* They come in order, ours stay open. */
static void
assert_fds_pass (size_t nr_fds)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = json_object ();
  int pipes[2], fds[PROTOCOL_FDS_MAX], got[PROTOCOL_FDS_MAX];

  pair_open (&p, 0);
  CU_ASSERT_EQUAL_FATAL (pipe2 (pipes, O_CLOEXEC), 0);
  for (size_t i = 0; i < nr_fds; i++)
    fds[i] = i % 3 == 0 ? pipes[0] : p.sock[0];
  CU_ASSERT_EQUAL (protocol_send (p.sock[0], message, fds, nr_fds), 0);
  CU_ASSERT (fcntl (pipes[0], F_GETFD) != -1);
  assert_received (&p, message);
  CU_ASSERT_EQUAL_FATAL (line_reader_take_fds (&p.r, got), nr_fds);
  for (size_t i = 0; i < nr_fds; i++) {
    CU_ASSERT (same_file (got[i], fds[i]));
    close (got[i]);
  }
  close (pipes[0]);
  close (pipes[1]);
}

static void
test_fds (void)
{
  assert_fds_pass (0);
  assert_fds_pass (1);
  assert_fds_pass (2);
  assert_fds_pass (PROTOCOL_FDS_MAX);
}

/* A line that needs many system calls carries them once. */
static void
test_fds_once (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = message_of_length (PROTOCOL_LINE_MAX - 1);
  struct sender s = { .message = message, .fds = p.sock, .nr_fds = 2 };
  const int small = 4096;
  int got[PROTOCOL_FDS_MAX];
  pthread_t thread;

  pair_open (&p, 0);
  s.sock = p.sock[0];
  setsockopt (p.sock[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, run_sender, &s), 0);
  assert_received (&p, message);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (s.result, 0);
  CU_ASSERT_EQUAL_FATAL (line_reader_take_fds (&p.r, got), 2);
  close (got[0]);
  close (got[1]);
}

static void
test_too_many_fds (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_JSON json_t *message = json_object ();

  pair_open (&p, 0);
  assert_refused (&p, message, PROTOCOL_FDS_MAX + 1, EINVAL);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "one line each", test_one_line_each },
    { "no object", test_no_object },
    { "a line too long", test_too_long },
    { "bad sockets", test_bad_sockets },
    { "the longest line", test_longest_line },
    { "under signals", test_signals },
    { "a peer that never reads", test_timeout },
    { "a peer that goes away", test_hang_up },
    { "descriptors", test_fds },
    { "descriptors with a long line", test_fds_once },
    { "too many descriptors", test_too_many_fds },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("protocol-send", tests);
}
