/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections that are made anew (renew.h): the filter is told of no socket
 * that libnbd has closed meanwhile, as when a request met a server that was
 * gone before the loop could notice.
 */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "disk/disk.h"
#include "nbd/probe.h"
#include "server.h"

#define DISK_BYTES (1024 * 1024)

static struct server server;
static struct loop loop;
static struct failure failure;
static struct endpoint *to;
static struct disk disk;
static pthread_t filter;
static int listening;
static char control_path[96];

static const struct disk_settings settings = {
  .loop = &loop,
  .failure = &failure,
};
static const struct pair pair = { .source = "A", .destination = "B" };

/* A filter that greets, and answers nothing. */
static void *
greet (void *arg)
{
  static const char text[] = "{\"nbdmigrate\": {\"protocol\": %d}}\n";
  char line[64];
  const int n = snprintf (line, sizeof line, text, PROTOCOL_VERSION);
  const int sock = accept (listening, NULL, NULL);

  (void)arg;
  if (sock == -1 || write (sock, line, n) != n)
    server_die ("greeting");
  return (void *)(intptr_t)sock;
}

static void
open_control (void)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  char *why;

  snprintf (control_path, sizeof control_path, "%s/c", server.dir);
  strcpy (addr.sun_path, control_path);
  listening = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening == -1 ||
      bind (listening, (struct sockaddr *)&addr, sizeof addr) == -1 ||
      listen (listening, 1) == -1)
    server_die (control_path);
  if (pthread_create (&filter, NULL, greet, NULL) != 0)
    server_die ("pthread_create");
  disk.control = control_open (&loop, control_path, 60000, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (disk.control);
}

static void
begin (void)
{
  char *why;

  loop_init (&loop);
  failure = (struct failure){ .stop = STOP_NO };
  server_init (&server, DISK_BYTES, 0);
  server_start (&server, NULL);
  to = endpoint_open (&loop, server.uri, &disk_more_options, -1, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (to);
  endpoint_add (
    to, connection_open (&loop, server.uri, &disk_more_options, -1, &why));
  CU_ASSERT_PTR_NOT_NULL_FATAL (to->connections[1]);
  disk =
    (struct disk){ .settings = &settings, .pair = &pair, .destination = to };
  open_control ();
}

static void
end (void)
{
  void *sock;

  control_close (disk.control);
  endpoint_close (to);
  renew_close (&disk.renewal);
  loop_destroy (&loop);
  failure_free (&failure);
  pthread_join (filter, &sock);
  close ((intptr_t)sock);
  close (listening);
  unlink (control_path);
  server_destroy (&server);
}

static void
run_once (void)
{
  CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);
}

/* One connection is closed, and another has come in its place. */
static void
lose_one (void)
{
  struct renewal *r = &disk.renewal;

  shutdown (to->connections[0]->sock, SHUT_RDWR);
  while (connection_alive (to->connections[0]))
    run_once ();
  renew_run (&disk, loop_now_us ());
  CU_ASSERT_EQUAL (to->nr_connections, 1);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r->coming);
  while (r->coming->reach != NULL || nbd_aio_is_ready (r->coming->nbd) != 1)
    run_once ();
}

/* Before the loop runs again the other is lost, too, and a request meets that:
 * nobody is told of anything in this round.
 */
static void
lose_other_unnoticed (void)
{
  struct connection *c = to->connections[0];

  shutdown (c->sock, SHUT_RDWR);
  probe_idle (to, INT64_MAX);
  CU_ASSERT_EQUAL (nbd_aio_is_dead (c->nbd), 1);
  CU_ASSERT_TRUE (connection_alive (c));
  renew_run (&disk, loop_now_us ());
  CU_ASSERT_FALSE (disk.renewal.telling);
  CU_ASSERT_PTR_NULL (control_broken (disk.control));
}

static void
test_closed_meanwhile (void)
{
  begin ();
  lose_one ();
  lose_other_unnoticed ();

  /* It is noticed: the filter is told of the new one alone. */
  run_once ();
  renew_run (&disk, loop_now_us ());
  CU_ASSERT_EQUAL (to->nr_connections, 0);
  CU_ASSERT_EQUAL (disk.renewal.missing, 2);
  CU_ASSERT_TRUE (disk.renewal.telling);
  CU_ASSERT_PTR_NULL (control_broken (disk.control));
  CU_ASSERT_EQUAL (failure.stop, STOP_NO);
  end ();
}

/* The new one is closed before it could be told of: that attempt has failed. */
static void
test_new_one_closed (void)
{
  struct connection *coming;

  begin ();
  lose_one ();
  coming = disk.renewal.coming;
  lose_other_unnoticed ();
  shutdown (coming->sock, SHUT_RDWR);
  while (connection_alive (coming))
    run_once ();
  renew_run (&disk, loop_now_us ());
  CU_ASSERT_PTR_NULL (disk.renewal.coming);
  CU_ASSERT_FALSE (disk.renewal.telling);
  CU_ASSERT_EQUAL (failure.stop, STOP_NO);
  end ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "one is closed while another has come", test_closed_meanwhile },
    { "the one that has come is closed", test_new_one_closed },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("renew", tests);
}
