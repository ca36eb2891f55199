/* SPDX-License-Identifier: BSD-3-Clause */
/* Which chunks the tracker gives as the same on both sides (R14), and what it
 * takes back at a start.
 */

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "tracker/tracker.h"
#include "unit.h"

#define CHUNK UINT64_C (4096)
#define CHUNKS 100
#define DISK (CHUNKS * CHUNK - 1000)
#define WORDS 2

static struct tracker *tracker;
static struct tracker_request request;

static void
begin (void)
{
  tracker = tracker_new (DISK, CHUNK, OWNER_SOURCE);
  assert (tracker != NULL && !tracker_begin (tracker, false, false));
  assert (tracker_wait_settled (tracker, 0));
}

static void
end (void)
{
  tracker_free (tracker);
}

static void
flush (void)
{
  uint64_t epoch;

  assert (tracker_flush_begin (tracker, &epoch) == 0 &&
          tracker_flush_end (tracker, true, epoch) == 0);
}

/* What is dirty is copied, and flushed if that is wished. */
static void
copy (bool flushed)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  uint64_t next;

  assert (tracker_take (tracker, 0, 2 * DISK, 100, &e, &next) == 0 &&
          tracker_done (tracker, &e, tracker_epoch (tracker)) == 0);
  if (flushed)
    flush ();
}

static void
write_begin (uint64_t chunk)
{
  request = (struct tracker_request)TRACKER_REQUEST_INIT;
  assert (tracker_enter (tracker, &request, chunk * CHUNK, 1) == TRACKER_PASS);
}

static void
write_end (void)
{
  tracker_leave (tracker, &request);
}

static void
write_to (uint64_t chunk)
{
  write_begin (chunk);
  write_end ();
}

static void
count_words (void *opaque, uint64_t word, const uint64_t *bits, size_t n)
{
  size_t *words = opaque;

  CU_ASSERT_EQUAL (word, *words);
  for (size_t i = 0; i < n; i++)
    CU_ASSERT_EQUAL (bits[i], UINT64_MAX);
  *words += n;
}

static void
take (void *opaque, uint64_t word, const uint64_t *bits, size_t n)
{
  uint64_t *to = opaque;

  assert (word + n <= WORDS);
  memcpy (to + word, bits, n * sizeof *bits);
}

static bool
is_quiet (uint64_t chunk)
{
  uint64_t bits[WORDS] = { 0 };

  tracker_give_quiet (tracker, CHUNK, take, bits);
  return (bits[chunk / 64] >> chunk % 64 & 1) != 0;
}

/* D, L, U, F and Q each keep a chunk from being quiet. */
static void
test_states (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  uint64_t next, epoch;

  begin ();
  CU_ASSERT_TRUE (tracker_note_quiet (tracker, true));
  CU_ASSERT_FALSE (is_quiet (5)); /* D */
  assert (tracker_take (tracker, 0, 2 * DISK, 100, &e, &next) == 0);
  tracker_note_quiet (tracker, true);
  CU_ASSERT_FALSE (is_quiet (5)); /* L */
  assert (tracker_done (tracker, &e, tracker_epoch (tracker)) == 0);
  tracker_note_quiet (tracker, true);
  CU_ASSERT_FALSE (is_quiet (5)); /* U */
  assert (tracker_flush_begin (tracker, &epoch) == 0);
  tracker_note_quiet (tracker, true);
  CU_ASSERT_FALSE (is_quiet (5)); /* F */
  assert (tracker_flush_end (tracker, true, epoch) == 0);
  CU_ASSERT_FALSE (is_quiet (5)); /* not when it was noted */
  tracker_note_quiet (tracker, true);
  CU_ASSERT_TRUE (is_quiet (5));
  CU_ASSERT_TRUE (is_quiet (CHUNKS - 1));
  CU_ASSERT_TRUE (is_quiet (CHUNKS + 1)); /* past the last one */
  tracker_set_quarantined (tracker, true);
  CU_ASSERT_FALSE (is_quiet (5)); /* Q */
  end ();
}

/* What was clean when it was noted, and is clean again, is not quiet: it was
 * read after the source was flushed.
 */
static void
test_written_between (void)
{
  begin ();
  copy (true);
  CU_ASSERT_TRUE (tracker_note_quiet (tracker, true));
  write_to (5);
  CU_ASSERT_FALSE (is_quiet (5));
  copy (true);
  CU_ASSERT_FALSE (is_quiet (5));
  CU_ASSERT_TRUE (is_quiet (6));
  tracker_note_quiet (tracker, false); /* it is one that is written to */
  CU_ASSERT_FALSE (is_quiet (5));
  CU_ASSERT_TRUE (is_quiet (6));
  tracker_note_quiet (tracker, false); /* not since */
  CU_ASSERT_TRUE (is_quiet (5));
  write_to (5);
  copy (true);
  tracker_note_quiet (tracker, true);
  CU_ASSERT_TRUE (is_quiet (5));
  end ();
}

/* The same for one that goes to both sides. */
static void
test_mirrored_between (void)
{
  begin ();
  copy (true);
  tracker_mirror (tracker, 1);
  tracker_note_quiet (tracker, true);
  request = (struct tracker_request){ .may_be_mirrored = true };
  assert (tracker_enter (tracker, &request, 5 * CHUNK, CHUNK) == TRACKER_PASS);
  CU_ASSERT_TRUE (request.mirrored);
  CU_ASSERT_FALSE (is_quiet (5));
  tracker_leave_both (tracker, &request, BOTH_WRITTEN);
  CU_ASSERT_FALSE (is_quiet (5));
  flush ();
  CU_ASSERT_FALSE (is_quiet (5));
  CU_ASSERT_TRUE (is_quiet (6));
  end ();
}

static void
test_in_flight (void)
{
  begin ();
  copy (true);
  write_begin (70);
  tracker_note_quiet (tracker, true);
  CU_ASSERT_FALSE (is_quiet (70));
  CU_ASSERT_TRUE (is_quiet (69));
  CU_ASSERT_TRUE (is_quiet (71));
  write_end ();
  copy (true);
  tracker_note_quiet (tracker, true);
  CU_ASSERT_TRUE (is_quiet (70));
  write_begin (70);
  CU_ASSERT_FALSE (is_quiet (70));
  write_end ();
  end ();
}

/* Where it is not known what may be different nothing is quiet. */
static void
test_unknown (void)
{
  begin ();
  copy (true);
  tracker_note_quiet (tracker, true);
  tracker_end_session (tracker);
  CU_ASSERT_TRUE (is_quiet (5)); /* the tracking goes on */
  assert (!tracker_begin (tracker, false, false));
  copy (true);
  CU_ASSERT_FALSE (is_quiet (5)); /* it was noted before this migration */
  tracker_note_quiet (tracker, true);
  CU_ASSERT_TRUE (is_quiet (5));
  assert (tracker_begin (tracker, true, true));
  CU_ASSERT_TRUE (is_quiet (5));
  tracker_stop (tracker);
  CU_ASSERT_FALSE (tracker_note_quiet (tracker, true));
  CU_ASSERT_FALSE (is_quiet (5));
  end ();

  /* A request that began before the tracking is in no list. */
  tracker = tracker_new (DISK, CHUNK, OWNER_SOURCE);
  write_begin (5);
  assert (!tracker_begin (tracker, false, false));
  CU_ASSERT_FALSE (tracker_note_quiet (tracker, true));
  write_end ();
  CU_ASSERT_TRUE (tracker_note_quiet (tracker, true));
  end ();
}

/* Chunks of another size are others. */
static void
test_resized (void)
{
  begin ();
  copy (true);
  tracker_note_quiet (tracker, true);
  tracker_end_session (tracker);
  CU_ASSERT_EQUAL (tracker_set_chunk (tracker, 2 * CHUNK), 0);
  CU_ASSERT_FALSE (is_quiet (5));
  tracker_note_quiet (tracker, true);
  CU_ASSERT_FALSE (is_quiet (5));
  end ();
}

static void
test_restore (void)
{
  const uint64_t dirty[WORDS] = { UINT64_C (1) << 5, UINT64_C (1)
                                                       << (CHUNKS - 1 - 64) };
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct tracker_status s;
  uint64_t next;

  for (int quarantined = 0; quarantined < 2; quarantined++) {
    tracker = tracker_new (DISK, CHUNK, OWNER_SOURCE);
    tracker_set_quarantined (tracker, true); /* that was not known to be less */
    tracker_restore (tracker, dirty, quarantined);
    tracker_get_status (tracker, &s);
    CU_ASSERT_TRUE (s.tracking);
    CU_ASSERT_EQUAL (s.dirty_bytes, 2 * CHUNK - 1000);
    CU_ASSERT_EQUAL (s.quarantined_bytes, quarantined ? 2 * CHUNK - 1000 : 0);
    write_to (9); /* before a session begins */
    CU_ASSERT_TRUE (tracker_begin (tracker, true, true));
    CU_ASSERT_TRUE (tracker_wait_settled (tracker, 0));
    extents_clear (&e);
    CU_ASSERT_EQUAL (tracker_take (tracker, 0, 2 * DISK, 100, &e, &next), 0);
    CU_ASSERT_EQUAL (e.n, 3);
    for (size_t i = 0; i < e.n; i++)
      CU_ASSERT_TRUE (e.v[i].touched); /* R18: not zero any more */
    tracker_end_session (tracker);
    end ();
  }
}

/* No bit is past the last chunk. */
static void
test_whole_words (void)
{
  tracker = tracker_new (64 * WORDS * CHUNK, CHUNK, OWNER_SOURCE);
  assert (tracker != NULL && !tracker_begin (tracker, false, false));
  assert (tracker_wait_settled (tracker, 0));
  CU_ASSERT_TRUE (tracker_note_quiet (tracker, true));
  CU_ASSERT_FALSE (is_quiet (64 * WORDS - 1));
  copy (true);
  CU_ASSERT_TRUE (tracker_note_quiet (tracker, true));
  CU_ASSERT_TRUE (is_quiet (64 * WORDS - 1));
  end ();
}

/* So many that they are given in several pieces. */
static void
test_pieces (void)
{
  const uint64_t chunks = 200000;
  size_t words = 0;

  tracker = tracker_new (chunks * CHUNK, CHUNK, OWNER_SOURCE);
  assert (tracker != NULL && !tracker_begin (tracker, false, false));
  assert (tracker_wait_settled (tracker, 0));
  {
    CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
    uint64_t next;

    assert (tracker_take (tracker, 0, chunks * CHUNK, 100, &e, &next) == 0 &&
            tracker_done (tracker, &e, tracker_epoch (tracker)) == 0);
  }
  flush ();
  CU_ASSERT_TRUE (tracker_note_quiet (tracker, true));
  tracker_give_quiet (tracker, CHUNK, count_words, &words);
  CU_ASSERT_EQUAL (words, (chunks + 63) / 64);
  end ();
}

static uint64_t
dirty_bytes (void)
{
  struct tracker_status s;

  tracker_get_status (tracker, &s);
  return s.dirty_bytes;
}

static void
lose (uint64_t chunk_bytes)
{
  const uint64_t lost[WORDS] = { UINT64_C (1) << 5, UINT64_C (1)
                                                      << (CHUNKS - 1 - 64) };

  tracker_source_lost (tracker, chunk_bytes, 0, lost, WORDS);
}

/* What the source has lost is dirty, whatever it was, and not quiet. */
static void
test_source_lost (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  uint64_t next, epoch;

  begin ();
  lose (CHUNK);
  assert (tracker_take (tracker, 0, 2 * DISK, 100, &e, &next) == 0);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT_FALSE (e.v[0].touched); /* R18: by nobody */
  assert (tracker_failed (tracker, &e, false) == 0);
  extents_clear (&e);
  copy (true);
  tracker_note_quiet (tracker, true);
  lose (CHUNK);
  CU_ASSERT_EQUAL (dirty_bytes (), 2 * CHUNK - 1000);
  lose (CHUNK);
  CU_ASSERT_EQUAL (dirty_bytes (), 2 * CHUNK - 1000);
  copy (true);
  CU_ASSERT_FALSE (is_quiet (5)); /* it was read after the source was flushed */
  CU_ASSERT_TRUE (is_quiet (6));
  lose (CHUNK);
  assert (tracker_take (tracker, 0, 2 * DISK, 100, &e, &next) == 0);
  lose (CHUNK); /* L */
  assert (tracker_done (tracker, &e, tracker_epoch (tracker)) == 0);
  CU_ASSERT_EQUAL (dirty_bytes (), 2 * CHUNK - 1000);
  copy (false);
  assert (tracker_flush_begin (tracker, &epoch) == 0);
  lose (CHUNK); /* F */
  assert (tracker_flush_end (tracker, true, epoch) == 0);
  CU_ASSERT_EQUAL (dirty_bytes (), 2 * CHUNK - 1000);
  lose (2 * CHUNK); /* words of other chunks */
  CU_ASSERT_EQUAL (dirty_bytes (), DISK);
  copy (true);
  tracker_set_owner (tracker, OWNER_FENCED, false);
  lose (CHUNK);
  CU_ASSERT_EQUAL (dirty_bytes (), 0); /* it is not the source any more */
  tracker_set_owner (tracker, OWNER_SOURCE, false);
  lose (CHUNK);
  CU_ASSERT_EQUAL (dirty_bytes (), 2 * CHUNK - 1000);
  tracker_stop (tracker);
  CU_ASSERT_EQUAL (dirty_bytes (), 0);
  lose (CHUNK);
  CU_ASSERT_EQUAL (dirty_bytes (), 0); /* nothing is tracked */
  end ();
}

static void *
wait_open (void *opaque)
{
  tracker_wait_open (tracker);
  return opaque;
}

/* It ends by the release, and by the deadline. */
static void
test_wait_open (void)
{
  pthread_t thread;
  uint64_t token, pause_us;

  begin ();
  tracker_wait_open (tracker);
  token = tracker_hold (tracker, 60000);
  assert (token != 0 && pthread_create (&thread, NULL, wait_open, NULL) == 0 &&
          tracker_release (tracker, token, &pause_us) == 0);
  pthread_join (thread, NULL);
  assert (tracker_hold (tracker, 1) != 0);
  tracker_wait_open (tracker);
  end ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "states", test_states },
    { "written between", test_written_between },
    { "mirrored between", test_mirrored_between },
    { "in flight", test_in_flight },
    { "not known", test_unknown },
    { "resized", test_resized },
    { "restored", test_restore },
    { "whole words", test_whole_words },
    { "pieces", test_pieces },
    { "lost by the source", test_source_lost },
    { "the gate opens", test_wait_open },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("tracker-quiet", tests);
}
