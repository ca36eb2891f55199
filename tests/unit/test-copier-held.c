/* SPDX-License-Identifier: BSD-3-Clause */
/* While the copying rests, for guests or until 'resume', nothing begins:
 * zeroes, which are no bytes of a rate, neither.
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
static uint64_t ended_bytes, question;

static void
ended (void *opaque, uint64_t offset, uint64_t length,
       enum copy_outcome outcome)
{
  (void)opaque;
  (void)offset;
  CU_ASSERT_EQUAL (outcome, COPY_DONE);
  ended_bytes += length;
}

static void
wrote (void *opaque, uint64_t offset, uint64_t length)
{
  (void)opaque;
  (void)offset;
  (void)length;
}

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

  ended_bytes = question = 0;
  loop_init (&loop);
  bucket_init (&bucket, 0, loop_now_us ());
  server_init (&source, DISK_BYTES, 0);
  server_start (&source, NULL);
  server_init (&destination, DISK_BYTES, 'D');
  server_start (&destination, NULL);
  from = open_endpoint (&source);
  to = open_endpoint (&destination);
  copier = copier_new (&loop, from, to, &options);
  CU_ASSERT_PTR_NOT_NULL_FATAL (copier);
}

static void
end (void)
{
  endpoint_close (from); /* in the order of disk_close */
  endpoint_close (to);
  copier_free (copier);
  loop_destroy (&loop);
  server_destroy (&source);
  server_destroy (&destination);
}

static void
run_once (void)
{
  copier_run (copier);
  CU_ASSERT_EQUAL (loop_run_once (&loop, 10), 0);
}

/* All of it is said to be zero, and was looked at: only the copying is left. */
static void
make_ready (void)
{
  struct extents zero = EXTENTS_EMPTY;
  struct copier_stats s = { 0 };

  CU_ASSERT_EQUAL (copier_add (copier, 0, DISK_BYTES, true), 0);
  copier_run (copier);
  CU_ASSERT_NOT_EQUAL_FATAL (question, 0);
  CU_ASSERT_EQUAL (extents_append (&zero, 0, DISK_BYTES, false), 0);
  copier_answer (copier, question, COPIER_SAID_ZERO, &zero, DISK_BYTES);
  extents_free (&zero);
  while (s.sampled_bytes == 0) {
    run_once ();
    copier_get_stats (copier, &s);
  }
  copier_run (copier);
}

static void
goes_on (void)
{
  struct copier_stats s;

  while (ended_bytes < DISK_BYTES)
    run_once ();
  copier_get_stats (copier, &s);
  CU_ASSERT_EQUAL (s.zeroed_bytes, DISK_BYTES);
  CU_ASSERT_EQUAL (s.copied_bytes, 0);
}

static void
test_rests (void)
{
  begin ();
  bucket_hold (&bucket, true, loop_now_us ());
  make_ready ();
  CU_ASSERT_FALSE (copier_is_moving (copier));
  CU_ASSERT_EQUAL (copier_backlog (copier), DISK_BYTES);
  bucket_hold (&bucket, false, loop_now_us ());
  goes_on ();
  end ();
}

static void
test_is_paused (void)
{
  begin ();
  bucket_pause (&bucket, true);
  make_ready ();
  CU_ASSERT_FALSE (copier_is_moving (copier));
  bucket_pause (&bucket, false);
  goes_on ();
  end ();
}

/* In the pause of the cut-over nothing holds it up. */
static void
test_cut_over (void)
{
  begin ();
  bucket_hold (&bucket, true, loop_now_us ());
  make_ready ();
  copier_obey_rate (copier, false);
  goes_on ();
  end ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "it rests", test_rests },
    { "it is paused", test_is_paused },
    { "the cut-over", test_cut_over },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("copier-held", tests);
}
