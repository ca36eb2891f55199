/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection (connection.h) that the loop drives, and one that a thread does:
 * requests, a server that is killed or stopped, breaking, leaving and closing
 * it with requests in flight.  And loop_post from several threads.
 */

#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "nbd/driver.h"
#include "nbd/endpoint.h"
#include "nbd/unanswered.h"
#include "server.h"

#define DISK_BYTES (4 * 1024 * 1024)
#define PIECE_BYTES (64 * 1024)
#define PIECES (DISK_BYTES / PIECE_BYTES)

static struct server server;
static struct loop loop;
static struct endpoint *endpoint;
static struct connection *connection; /* its only one */
static struct ledger *ledger;
static struct io ios[PIECES];
static unsigned ended, failed, lost;
static uint8_t data[DISK_BYTES], back[DISK_BYTES];

static bool no_handle; /* libnbd makes none, and says so */

struct nbd_handle *
nbd_create (void)
{
  static __typeof__ (nbd_create) *real;
  struct nbd_handle *nbd;

  if (real == NULL)
    real = (__typeof__ (real))dlsym (RTLD_NEXT, "nbd_create");
  nbd = real ();
  if (!no_handle)
    return nbd;
  nbd_get_size (nbd); /* an error */
  nbd_close (nbd);
  return NULL;
}

/* The test runs with either; a thread needs a second processor. */
static bool on_thread;

static void
note_ended (struct io *io)
{
  ended++;
  failed += io->error != 0;
  lost += io->lost;
  CU_ASSERT (!io->lost || io->error != 0);
  CU_ASSERT (!io->lost || !connection_alive (io->connection));
}

static void
begin (void)
{
  const struct connection_options options = { .allocation = true,
                                              .on_thread = on_thread };
  char *why;
  size_t i;
  int fd;

  for (i = 0; i < sizeof data; ++i)
    data[i] = (uint8_t)(i / 512 * 37 + i);
  for (i = 0; i < PIECES; ++i)
    ios[i].ended = note_ended;
  ended = failed = lost = 0;
  loop_init (&loop);
  server_init (&server, DISK_BYTES, 0);
  server_start (&server, NULL);
  endpoint = endpoint_open (&loop, server.uri, &options, -1, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (endpoint);
  connection = endpoint->connections[0];
  CU_ASSERT_EQUAL (connection->driver != NULL, on_thread);
  ledger = ledger_create (&fd);
  CU_ASSERT_PTR_NOT_NULL_FATAL (ledger);
  close (fd);
  unanswered_set_line (connection, &ledger->lines[0]);
}

static void
end (void)
{
  endpoint_close (endpoint);
  ledger_close (ledger);
  loop_destroy (&loop);
  server_destroy (&server);
}

static void
run_until (unsigned n)
{
  while (ended < n)
    CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);
}

static void
write_all (void)
{
  unsigned i;

  for (i = 0; i < PIECES; ++i)
    connection_write (connection, &ios[i], data + i * PIECE_BYTES, PIECE_BYTES,
                      i * PIECE_BYTES);
}

static void
test_no_handle (void)
{
  const struct connection_options options = { .on_thread = on_thread };
  char *why = NULL;

  loop_init (&loop);
  no_handle = true;
  CU_ASSERT_PTR_NULL (
    connection_open (&loop, "nbd://127.0.0.1", &options, -1, &why));
  no_handle = false;
  CU_ASSERT_PTR_NOT_NULL (why);
  free (why);
  loop_destroy (&loop);
}

/* ---- requests ------------------------------------------------------------ */

static uint64_t status_bytes;

static void
note_entries (void *opaque, const char *context, uint64_t offset,
              const uint32_t *pairs, size_t n)
{
  size_t i;

  (void)opaque;
  (void)context;
  (void)offset;
  for (i = 0; i + 1 < n; i += 2)
    status_bytes += pairs[i];
}

static void
test_requests (void)
{
  struct status_io status = { .io.ended = note_ended, .entries = note_entries };
  unsigned i;

  begin ();
  write_all ();
  CU_ASSERT_EQUAL (connection->in_flight, PIECES);
  CU_ASSERT_FALSE (connection_holds_nothing (connection));
  run_until (PIECES);
  CU_ASSERT_EQUAL (ledger_read (&ledger->lines[0]).requests, 0);
  CU_ASSERT_EQUAL (ledger_read (&ledger->lines[0]).since_us, 0);
  connection_flush (connection, &ios[0]);
  run_until (PIECES + 1);
  for (i = 0; i < PIECES; ++i)
    connection_read (connection, &ios[i], back + i * PIECE_BYTES, PIECE_BYTES,
                     i * PIECE_BYTES);
  run_until (2 * PIECES + 1);
  CU_ASSERT_EQUAL (memcmp (data, back, sizeof data), 0);
  status_bytes = 0;
  if (connection->can_status) {
    connection_block_status (connection, &status, DISK_BYTES, 0);
    run_until (2 * PIECES + 2);
    CU_ASSERT (status_bytes > 0);
  }
  CU_ASSERT_EQUAL (failed, 0);
  CU_ASSERT_EQUAL (connection->in_flight, 0);
  end ();
}

/* libnbd does not take it: nothing is sent, and the connection goes on. */
static void
test_refused (void)
{
  begin ();
  connection_read (connection, &ios[0], back, PIECE_BYTES, DISK_BYTES);
  CU_ASSERT_EQUAL (ended, 0);
  run_until (1);
  CU_ASSERT_EQUAL (failed, 1);
  CU_ASSERT_EQUAL (lost, 0);
  CU_ASSERT_TRUE (connection_alive (connection));
  CU_ASSERT_EQUAL (ledger_read (&ledger->lines[0]).requests, 0);
  end ();
}

/* ---- its end ------------------------------------------------------------- */

static void
test_killed (void)
{
  begin ();
  server_signal (&server, SIGSTOP);
  write_all ();
  while (ledger_read (&ledger->lines[0]).since_us == 0)
    server_pause (); /* a thread has not begun yet */
  server_stop (&server, SIGKILL);
  run_until (PIECES);
  CU_ASSERT_EQUAL (failed, PIECES);
  CU_ASSERT_EQUAL (lost, PIECES);
  CU_ASSERT_FALSE (connection_alive (connection));
  CU_ASSERT_EQUAL (connection_socket (connection), -1);
  /* R17: what was begun is owed an answer for ever. */
  CU_ASSERT (ledger_read (&ledger->lines[0]).since_us != 0);

  connection_read (connection, &ios[0], back, PIECE_BYTES, 0);
  run_until (PIECES + 1);
  CU_ASSERT_EQUAL (lost, PIECES + 1);
  end ();
}

/* Nobody asks anything; it is known all the same, and why. */
static void
test_killed_while_idle (void)
{
  begin ();
  server_stop (&server, SIGKILL);
  while (connection_alive (connection))
    CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);
  CU_ASSERT_PTR_NOT_NULL_FATAL (connection->why);
  CU_ASSERT_PTR_NOT_NULL (strstr (connection->why, "closed"));
  CU_ASSERT_EQUAL (connection_socket (connection), -1);
  end ();
}

static void
test_broken (void)
{
  begin ();
  server_signal (&server, SIGSTOP);
  write_all ();
  connection_break (connection, "we want it so");
  run_until (PIECES);
  CU_ASSERT_EQUAL (lost, PIECES);
  CU_ASSERT_STRING_EQUAL (connection->why, "we want it so");
  server_signal (&server, SIGCONT);
  end ();
}

/* What is in flight is given up. */
static void
test_closed (void)
{
  begin ();
  server_signal (&server, SIGSTOP);
  write_all ();
  endpoint_close (endpoint);
  endpoint = NULL;
  CU_ASSERT_EQUAL (ended, 0);
  server_signal (&server, SIGCONT);
  end ();
}

/* The answers stay in the socket. */
static void
test_left (void)
{
  struct ledger_line line;
  char byte;
  int fd;

  begin ();
  server_signal (&server, SIGSTOP);
  connection_write (connection, &ios[0], data, PIECE_BYTES, 0);
  connection_leave (connection, true);
  CU_ASSERT_PTR_NULL (connection->driver);
  server_signal (&server, SIGCONT);
  fd = connection_socket (connection);
  line = ledger_read (&ledger->lines[0]);
  CU_ASSERT_EQUAL (line.requests, 1);
  CU_ASSERT (line.since_us != 0);
  if (line.whole) {
    struct pollfd p = { .fd = fd, .events = POLLIN };

    CU_ASSERT_EQUAL (poll (&p, 1, -1), 1);
    CU_ASSERT_EQUAL (loop_run_once (&loop, 0), 0);
    CU_ASSERT_EQUAL (recv (fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), 1);
  }
  CU_ASSERT_EQUAL (ended, 0);

  connection_leave (connection, false);
  run_until (1);
  CU_ASSERT_EQUAL (failed, 0);
  end ();
}

/* ---- threads ------------------------------------------------------------- */

/* As many as there are processors besides ours, with any number of connections.
 */
static void
test_one_processor (void)
{
  cpu_set_t all, one;
  struct driver *d[3];
  int i = 0;

  CU_ASSERT_EQUAL_FATAL (sched_getaffinity (0, sizeof all, &all), 0);
  while (!CPU_ISSET (i, &all))
    ++i;
  CPU_ZERO (&one);
  CPU_SET (i, &one);
  CU_ASSERT_EQUAL_FATAL (sched_setaffinity (0, sizeof one, &one), 0);
  CU_ASSERT_PTR_NULL (driver_get ());
  CU_ASSERT_EQUAL_FATAL (sched_setaffinity (0, sizeof all, &all), 0);
  for (i = 0; i < 3; ++i)
    CU_ASSERT_PTR_NOT_NULL_FATAL (d[i] = driver_get ());
  if (CPU_COUNT (&all) == 2)
    CU_ASSERT (d[0] == d[1] && d[1] == d[2]);
  if (CPU_COUNT (&all) > 2)
    CU_ASSERT (d[0] != d[1]);
  for (i = 0; i < 3; ++i)
    driver_put (d[i]);
}

#define POSTERS 4
#define POSTS 20000

struct post {
  struct deferred deferred;
  unsigned poster, number;
};

static struct post *posts[POSTERS];
static unsigned next_number[POSTERS], posted;

static void
note_posted (struct deferred *d)
{
  struct post *p = (struct post *)d;

  CU_ASSERT_EQUAL (p->number, next_number[p->poster]);
  next_number[p->poster]++;
  posted++;
}

static void *
post_all (void *arg)
{
  const unsigned poster = (unsigned)(uintptr_t)arg;
  unsigned i;

  for (i = 0; i < POSTS; ++i) {
    posts[poster][i] = (struct post){ .deferred.run = note_posted,
                                      .poster = poster,
                                      .number = i };
    loop_post (&loop, &posts[poster][i].deferred);
    if (i % 64 == 0)
      sched_yield ();
  }
  return NULL;
}

/* None is forgotten, or waits for what comes later: the loop sleeps without a
 * limit.
 */
static void
test_post (void)
{
  pthread_t threads[POSTERS];
  uintptr_t i;

  loop_init (&loop);
  CU_ASSERT_EQUAL_FATAL (loop_listen (&loop), 0);
  CU_ASSERT_EQUAL_FATAL (loop_listen (&loop), 0);
  for (i = 0; i < POSTERS; ++i) {
    posts[i] = calloc (POSTS, sizeof *posts[i]);
    CU_ASSERT_PTR_NOT_NULL_FATAL (posts[i]);
    CU_ASSERT_EQUAL_FATAL (
      pthread_create (&threads[i], NULL, post_all, (void *)i), 0);
  }
  while (posted < POSTERS * POSTS)
    CU_ASSERT_EQUAL (loop_run_once (&loop, -1), 0);
  for (i = 0; i < POSTERS; ++i) {
    pthread_join (threads[i], NULL);
    free (posts[i]);
  }
  loop_destroy (&loop);
}

/* Also where it sleeps without a limit, and for that sleep only. */
static void
test_wake_at (void)
{
  const int64_t wake_us = loop_now_us () + 1000;

  loop_init (&loop);
  loop_wake_at (&loop, wake_us + 1000000);
  loop_wake_at (&loop, wake_us);
  CU_ASSERT_EQUAL (loop_run_once (&loop, -1), 0);
  CU_ASSERT (loop_now_us () >= wake_us);
  CU_ASSERT_EQUAL (loop.wake_us, INT64_MAX);
  loop_destroy (&loop);
}

static CU_TestInfo of_connections[] = {
  { "no memory for one", test_no_handle },
  { "requests", test_requests },
  { "a request that libnbd refuses", test_refused },
  { "a server that is killed", test_killed },
  { "the same while it is idle", test_killed_while_idle },
  { "broken", test_broken },
  { "closed with requests in flight", test_closed },
  { "left to the proxy", test_left },
  CU_TEST_INFO_NULL,
};

int
main (void)
{
  cpu_set_t set;
  CU_TestInfo of_threads[] = {
    { "posting", test_post },
    { "woken at a time", test_wake_at },
    { "processors", test_one_processor },
    CU_TEST_INFO_NULL,
  };
  int status;

  signal (SIGPIPE, SIG_IGN);
  sched_getaffinity (0, sizeof set, &set);
  status = unit_main ("connection", of_connections);
  if (CPU_COUNT (&set) < 2)
    return status;
  on_thread = true;
  status |= unit_main ("connection on a thread", of_connections);
  return status | unit_main ("threads", of_threads);
}
