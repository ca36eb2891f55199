/* SPDX-License-Identifier: BSD-3-Clause */
/* Of a connection that is closed nothing comes any more: neither what had been
 * answered and was to be carried out by the loop, nor what was in flight, which
 * libnbd since 1.18 completes when it closes; nor what a thread that drove it
 * had still to hand back.
 */

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "nbd/driver.h"
#include "nbd/endpoint.h"
#include "server.h"

#define DISK_BYTES 65536

static struct server server;
static struct loop loop;
static struct endpoint *endpoint;
static struct connection *c;
static char data[4096];
static unsigned nr_ended;

static void
ended (struct io *io)
{
  (void)io;
  nr_ended++;
}

static struct io request = { .ended = ended };

static void
begin (bool on_thread)
{
  const struct connection_options options = { .on_thread = on_thread };
  char *why = NULL;

  nr_ended = 0;
  loop_init (&loop);
  server_init (&server, DISK_BYTES, 'S');
  server_start (&server, NULL);
  endpoint = endpoint_open (&loop, server.uri, &options, -1, &why);
  if (endpoint == NULL) {
    fprintf (stderr, "%s: %s\n", server.uri, why);
    exit (EXIT_FAILURE);
  }
  c = endpoint->connections[0];
}

static void
close_and_run (void)
{
  endpoint_close (endpoint);
  CU_ASSERT_PTR_NULL (loop.first);
  CU_ASSERT_EQUAL (loop_run_once (&loop, 0), 0);
  CU_ASSERT_EQUAL (nr_ended, 0);
  loop_destroy (&loop);
  server_signal (&server, SIGCONT);
  server_destroy (&server);
}

static void
test_in_flight (void)
{
  begin (false);
  server_signal (&server, SIGSTOP);
  connection_read (c, &request, data, sizeof data, 0);
  CU_ASSERT_EQUAL (c->in_flight, 1);
  close_and_run ();
}

static void
test_answered (void)
{
  struct pollfd p = { .events = POLLIN };

  begin (false);
  p.fd = connection_socket (c);
  connection_read (c, &request, data, sizeof data, 0);
  while (loop.first == NULL) {
    CU_ASSERT_EQUAL (poll (&p, 1, -1), 1);
    c->watch.ready (&c->watch, POLLIN);
  }
  close_and_run ();
}

/* So long that the main thread gets on meanwhile, if it does not wait. */
static void
take_time (struct deferred *d)
{
  (void)d;
  usleep (50000);
}

static struct deferred slow = { .run = take_time },
                       slow_later = { .run = take_time };

static void
defer_slow (struct deferred *d)
{
  (void)d;
  loop_defer (driver_loop (c->driver), &slow_later);
}

static struct deferred slower = { .run = defer_slow };

/* The connection's driver goes on when the connection is closed.  How many were
 * got until it was that one.
 */
static unsigned
keep_driver (struct driver *v[ENDPOINT_CONNECTIONS_MAX])
{
  unsigned n = 0;

  do
    v[n] = driver_get ();
  while (v[n++] != c->driver && n < ENDPOINT_CONNECTIONS_MAX);
  return n;
}

/* A request beyond the disk's end, which libnbd refuses when the thread gives
 * it: that was not done yet when the closing began.
 */
static void
test_handed_back (void)
{
  struct driver *v[ENDPOINT_CONNECTIONS_MAX];
  unsigned n;

  begin (true);
  if (c->driver == NULL) { /* with one processor there is no thread */
    close_and_run ();
    return;
  }
  n = keep_driver (v);
  loop_post (driver_loop (c->driver), &slow);
  loop_post (driver_loop (c->driver), &slower);
  connection_read (c, &request, data, sizeof data, DISK_BYTES);
  endpoint_close (endpoint);
  while (n > 0)
    driver_put (v[--n]);
  endpoint = NULL;
  close_and_run ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a request in flight", test_in_flight },
    { "a request that was answered", test_answered },
    { "a request that a thread has still to hand back", test_handed_back },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("connection-close", tests);
}
