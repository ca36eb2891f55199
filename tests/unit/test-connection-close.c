/* SPDX-License-Identifier: BSD-3-Clause */
/* Of a connection that is closed nothing comes any more: neither what had been
 * answered and was to be carried out by the loop, nor what was in flight, which
 * libnbd since 1.18 completes when it closes.
 */

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

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
begin (void)
{
  const struct connection_options none = { 0 };
  char *why = NULL;

  nr_ended = 0;
  loop_init (&loop);
  server_init (&server, DISK_BYTES, 'S');
  server_start (&server, NULL);
  endpoint = endpoint_open (&loop, server.uri, &none, -1, &why);
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
  begin ();
  server_signal (&server, SIGSTOP);
  connection_read (c, &request, data, sizeof data, 0);
  CU_ASSERT_EQUAL (c->in_flight, 1);
  close_and_run ();
}

static void
test_answered (void)
{
  struct pollfd p = { .events = POLLIN };

  begin ();
  p.fd = connection_socket (c);
  connection_read (c, &request, data, sizeof data, 0);
  while (loop.first == NULL) {
    CU_ASSERT_EQUAL (poll (&p, 1, -1), 1);
    c->watch.ready (&c->watch, POLLIN);
  }
  close_and_run ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a request in flight", test_in_flight },
    { "a request that was answered", test_answered },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("connection-close", tests);
}
