/* SPDX-License-Identifier: BSD-3-Clause */
/* A flush beside the copying (R6): it overtakes a write that is not answered,
 * which the next flush must cover, although nothing else was written since. And
 * which connection is flushed when.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "copy/copier.h"
#include "nbd/endpoint.h"
#include "server.h"

#define DISK_BYTES (1024 * 1024)
#define CHUNK_BYTES (64 * 1024)

static struct server source, destination;
static struct loop loop;
static struct bucket bucket;
static struct endpoint *from, *to;
static struct copier *copier;
static char cue[80];
static unsigned done;
static enum copy_outcome expected;

static void
ended (void *opaque, uint64_t offset, uint64_t length,
       enum copy_outcome outcome)
{
  (void)opaque;
  (void)offset;
  (void)length;
  CU_ASSERT_EQUAL (outcome, expected);
  done++;
}

static void
wrote (void *opaque, uint64_t offset, uint64_t length)
{
  (void)opaque;
  (void)offset;
  (void)length;
}

static uint64_t question;

static void
ask (void *opaque, uint64_t ticket, uint64_t offset, uint64_t length)
{
  (void)opaque;
  (void)offset;
  (void)length;
  question = ticket;
}

static struct endpoint *
open_endpoint (const struct server *s)
{
  const struct connection_options options = { .allocation = true };
  char *why = NULL;
  struct endpoint *e = endpoint_open (&loop, s->uri, &options, -1, &why);

  if (e == NULL) {
    fprintf (stderr, "%s: %s\n", s->uri, why);
    exit (EXIT_FAILURE);
  }
  return e;
}

/* The destination takes the first write that begins with 'S' when the cue is
 * there.
 */
static void
begin (void)
{
  const struct copier_options options = {
    .chunk_bytes = CHUNK_BYTES,
    .request_bytes = CHUNK_BYTES,
    .in_flight_bytes = DISK_BYTES,
    .bucket = &bucket,
    .ended = ended,
    .wrote = wrote,
    .ask = ask,
  };
  char args[128];

  done = 0;
  expected = COPY_DONE;
  loop_init (&loop);
  bucket_init (&bucket, 0, loop_now_us ());
  server_init (&source, DISK_BYTES, 'S');
  server_start (&source, NULL);
  server_init (&destination, DISK_BYTES, 0);
  snprintf (cue, sizeof cue, "%s/cue", destination.dir);
  snprintf (args, sizeof args, "dawdle=%s multi-conn=0", cue);
  server_start (&destination, args);
  from = open_endpoint (&source);
  to = open_endpoint (&destination);
  copier = copier_new (&loop, from, to, &options);
  CU_ASSERT_PTR_NOT_NULL_FATAL (copier);
}

static void
end (void)
{
  char name[96];

  endpoint_close (from); /* in the order of disk_close */
  endpoint_close (to);
  copier_free (copier);
  loop_destroy (&loop);
  unlink (cue);
  snprintf (name, sizeof name, "%s.done", cue);
  unlink (name);
  server_destroy (&source);
  server_destroy (&destination);
}

static void
run_once (void)
{
  copier_run (copier);
  CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);
}

/* An upper bound, not a time to wait. */
static bool
ends_well (void)
{
  unsigned tries = SERVER_TRIES;
  bool ok;

  while (copier_flushing (copier, &ok) && tries-- > 0)
    run_once ();
  return !copier_flushing (copier, &ok) && ok;
}

static bool
flush_ends (void)
{
  copier_flush (copier);
  return ends_well ();
}

static void
test_overtaken_write (void)
{
  static uint8_t image[DISK_BYTES];
  size_t i;

  begin ();
  CU_ASSERT_EQUAL (copier_add (copier, 0, CHUNK_BYTES, true), 0);
  while (to->connections[0]->in_flight == 0)
    run_once ();
  CU_ASSERT_TRUE (flush_ends ());
  CU_ASSERT_EQUAL (done, 0);

  close (open (cue, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  while (done == 0)
    run_once ();
  CU_ASSERT_TRUE (flush_ends ());
  server_stop (&destination, SIGKILL);
  server_read_file (&destination, image, DISK_BYTES);
  for (i = 0; i < CHUNK_BYTES && image[i] == 'S'; ++i)
    ;
  CU_ASSERT_EQUAL (i, CHUNK_BYTES);
  end ();
}

/* ---- A flush that is owed for what was read back ------------------------- */

static void
read_back (void)
{
  expected = COPY_DIFFERENT;
  done = 0;
  CU_ASSERT_EQUAL (copier_add_compare (copier, 0, CHUNK_BYTES), 0);
  while (done == 0)
    run_once ();
}

static void
close_idle (void)
{
  shutdown (connection_socket (to->connections[0]), SHUT_RDWR);
}

static void
connect_one (void)
{
  const struct connection_options none = { 0 };
  struct connection *coming;
  char *why = NULL;

  coming = connection_begin (&loop, to->uri, &none, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (coming);
  while (!connection_has_come (coming))
    run_once ();
  endpoint_add (to, coming);
}

/* As renew.c does it. */
static void
connect_again (void)
{
  char *why;

  while (connection_alive (to->connections[0]))
    run_once ();
  CU_ASSERT_PTR_NULL (endpoint_lost (to));
  why = endpoint_drop_broken (to);
  CU_ASSERT_PTR_NOT_NULL (why);
  free (why);
  connect_one ();
}

static void
test_closed_before_the_flush (void)
{
  bool ok;

  begin ();
  read_back ();
  close_idle ();
  connect_again ();
  copier_flush (copier);
  CU_ASSERT_TRUE (copier_flushing (copier, &ok));
  CU_ASSERT_TRUE (ends_well ());
  end ();
}

/* And that is noticed when it is sent. */
static void
test_closed_at_the_flush (void)
{
  begin ();
  read_back ();
  close_idle ();
  copier_flush (copier);
  connect_again ();
  CU_ASSERT_TRUE (ends_well ());
  end ();
}

/* ---- Several connections ------------------------------------------------- */

#define CONNECTIONS 4

/* A server that serves one request at a time on a connection must not make the
 * narrow pass wait for the flush of the others.
 */
static void
test_narrow_beside_flushes (void)
{
  unsigned i;

  begin ();
  while (to->nr_connections < CONNECTIONS)
    connect_one ();
  for (i = 0; i < CONNECTIONS; ++i)
    to->connections[i]->written = true;
  copier_set_narrow (copier, true);
  CU_ASSERT_EQUAL (copier_add (copier, 0, CHUNK_BYTES, true), 0);
  while (to->connections[0]->in_flight == 0)
    run_once ();
  copier_flush (copier);
  copier_run (copier);
  for (i = 0; i < CONNECTIONS; ++i)
    CU_ASSERT_EQUAL (to->connections[i]->flush_due, i < CONNECTIONS / 2);

  close (open (cue, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  while (done == 0)
    run_once ();
  CU_ASSERT_TRUE (ends_well ());
  end ();
}

/* ---- A flush of the source, before it is asked -------------------------- */

static bool is_read;

static void
read_ended (struct io *io)
{
  (void)io;
  is_read = true;
}

/* The question is given up while the only connection to the source has another
 * request: whatever is asked there next, it is flushed before.
 */
static void
test_given_up_before_the_flush (void)
{
  static struct io busy = { .ended = read_ended };
  static char data[512];
  struct connection *c;

  begin ();
  c = from->connections[0];
  question = 0;
  is_read = false;
  CU_ASSERT_EQUAL (copier_add (copier, 0, DISK_BYTES, true), 0);
  copier_run (copier);
  CU_ASSERT_NOT_EQUAL_FATAL (question, 0);
  connection_read (c, &busy, data, sizeof data, 0);
  copier_answer (copier, question, COPIER_SAID_ASK_THE_SOURCE, NULL, 0);
  copier_run (copier);
  expected = COPY_FAILED;
  copier_drop_queue (copier);
  CU_ASSERT_EQUAL (done, 1);
  while (!is_read)
    CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);

  CU_ASSERT_EQUAL (copier_add (copier, 0, DISK_BYTES, true), 0);
  copier_run (copier);
  CU_ASSERT_EQUAL_FATAL (c->in_flight, 1);
  CU_ASSERT_TRUE (c->ios->flush);
  while (c->in_flight > 0)
    CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);
  end ();
}

/* Its answer never comes, and the copier is freed: it does not look at the
 * endpoints, which are closed by then, and ends nothing.  (That it leaves
 * nothing behind is for the address sanitizer to say.)
 */
static void
test_freed_at_the_flush (void)
{
  begin ();
  question = 0;
  CU_ASSERT_EQUAL (copier_add (copier, 0, DISK_BYTES, true), 0);
  copier_run (copier);
  CU_ASSERT_NOT_EQUAL_FATAL (question, 0);
  server_signal (&source, SIGSTOP);
  copier_answer (copier, question, COPIER_SAID_ASK_THE_SOURCE, NULL, 0);
  copier_run (copier);
  CU_ASSERT_EQUAL_FATAL (from->connections[0]->in_flight, 1);
  end ();
  CU_ASSERT_EQUAL (done, 0);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a flush overtakes a write", test_overtaken_write },
    { "closed before an owed flush", test_closed_before_the_flush },
    { "closed at an owed flush", test_closed_at_the_flush },
    { "a narrow pass beside flushes", test_narrow_beside_flushes },
    { "a question given up before the source's flush",
      test_given_up_before_the_flush },
    { "freed with the source's flush in flight", test_freed_at_the_flush },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("copier-flush", tests);
}
