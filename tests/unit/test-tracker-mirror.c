/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that go to both sides (R12): which do, and what is left of them when
 * they have ended, in whatever order things happen.
 *
 * The disk has four chunks of 64 bytes and a last one of 10; a block of the
 * destination has two bytes.
 */

#include "tracker-session.h"
#include "unit.h"

#define BLOCK 2

/* Everything is clean, and mirroring is on. */
static struct tracker *
new_mirror (void)
{
  struct tracker *t = new_clean_session ();

  tracker_set_grace (t, 0);
  tracker_mirror (t, BLOCK);
  return t;
}

static void
enter (struct tracker *t, struct tracker_request *req, uint64_t offset,
       uint64_t length)
{
  *req = (struct tracker_request){ .may_be_mirrored = true };
  CU_ASSERT_EQUAL_FATAL (tracker_enter (t, req, offset, length), TRACKER_PASS);
}

static void
leave (struct tracker *t, struct tracker_request *req,
       enum tracker_both outcome)
{
  if (req->mirrored)
    tracker_leave_both (t, req, outcome);
  else
    tracker_leave (t, req);
}

/* Whether such a request would be mirrored now.  It leaves its mark if not. */
static bool
goes_to_both (struct tracker *t, uint64_t offset, uint64_t length)
{
  struct tracker_request req;

  enter (t, &req, offset, length);
  leave (t, &req, BOTH_WRITTEN);
  return req.mirrored;
}

/* ---- Which are mirrored ------------------------------------------------- */

static void
test_clean (void)
{
  struct tracker *t = new_mirror ();

  CU_ASSERT (goes_to_both (t, 0, DISK));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 0);
  CU_ASSERT_EQUAL (status (t).dirt.dirtied, 0);
  CU_ASSERT_EQUAL (status (t).unflushed_bytes, DISK);
  CU_ASSERT_EQUAL (status (t).mirrored, 1);
  CU_ASSERT_EQUAL (status (t).mirrored_bytes, DISK);
  flush (t, true);
  CU_ASSERT_EQUAL (status (t).unflushed_bytes, 0);
  CU_ASSERT (goes_to_both (t, CHUNK - 2, 4));
  CU_ASSERT_EQUAL (status (t).unflushed_bytes, 2 * CHUNK);
  CU_ASSERT (goes_to_both (t, CHUNK - 2, 4)); /* unflushed is no obstacle */
  tracker_stop (t);
  tracker_free (t);
}

static void
test_wishes (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request req = TRACKER_REQUEST_INIT;

  CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 2), TRACKER_PASS);
  CU_ASSERT_FALSE (req.mirrored);
  tracker_leave (t, &req);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  CU_ASSERT_EQUAL (status (t).not_mirrored, 1);
  CU_ASSERT_FALSE (goes_to_both (t, CHUNK + 1, 2)); /* half blocks */
  CU_ASSERT_FALSE (goes_to_both (t, 2 * CHUNK, 1));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 3 * CHUNK);
  CU_ASSERT_FALSE (goes_to_both (t, 3 * CHUNK, 0));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 3 * CHUNK);
  tracker_mirror (t, 0);
  CU_ASSERT_FALSE (goes_to_both (t, 3 * CHUNK, 2));
  CU_ASSERT_EQUAL (status (t).not_mirrored, 4);
  tracker_stop (t);
  tracker_free (t);
}

static void
test_states (void)
{
  struct tracker *t = new_mirror ();
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY, q = EXTENTS_EMPTY;
  uint64_t next;

  tracker_mirror (t, 0);
  CU_ASSERT_FALSE (goes_to_both (t, 0, 2)); /* chunk 0 is dirty now */
  tracker_mirror (t, BLOCK);
  CU_ASSERT_FALSE (goes_to_both (t, 4, 2));
  CU_ASSERT (goes_to_both (t, 4, CHUNK)); /* one of two is not */
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  tracker_mirror (t, 0);
  CU_ASSERT_FALSE (goes_to_both (t, 4, CHUNK));
  tracker_mirror (t, BLOCK);
  CU_ASSERT_FALSE (goes_to_both (t, 4, CHUNK)); /* both are, and in part */
  e = take_all (t);                             /* both are leased */
  CU_ASSERT_FALSE (goes_to_both (t, CHUNK, 2));
  CU_ASSERT (goes_to_both (t, 2 * CHUNK, 2));
  CU_ASSERT_EQUAL (tracker_failed (t, &e, true), 0);
  copy_all (t); /* clean but for Q */
  CU_ASSERT_EQUAL (status (t).remaining_bytes, 0);
  CU_ASSERT_FALSE (goes_to_both (t, 0, 2));
  copy_all (t);
  CU_ASSERT_EQUAL (tracker_compare (t, true, 0, UINT64_MAX, MANY, &q, &next),
                   0);
  CU_ASSERT_EQUAL (tracker_compared (t, &q, true, NULL), 0);
  CU_ASSERT (goes_to_both (t, 0, 2));
  tracker_stop (t);
  tracker_free (t);
}

/* A session in which all is dirty, and mirroring is on. */
static struct tracker *
new_dirty_mirror (void)
{
  struct tracker *t = new_mirror ();

  tracker_mirror (t, 0);
  CU_ASSERT_FALSE (goes_to_both (t, 0, DISK));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK);
  tracker_mirror (t, BLOCK);
  return t;
}

/* What a request covers wholly it makes clean, be it dirty before: nothing of
 * it need be copied.  What it covers in part stays as it was.
 */
static void
test_whole_chunks (void)
{
  struct tracker *t = new_dirty_mirror ();

  CU_ASSERT (goes_to_both (t, CHUNK, CHUNK));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK - CHUNK);
  CU_ASSERT_EQUAL (status (t).unflushed_bytes, CHUNK);
  CU_ASSERT_FALSE (goes_to_both (t, 2, CHUNK - 2));
  CU_ASSERT (goes_to_both (t, 2, 2 * CHUNK)); /* in part: 0 and 2 */
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK - CHUNK);
  CU_ASSERT (goes_to_both (t, 4 * CHUNK, DISK - 4 * CHUNK)); /* cut short */
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 3 * CHUNK);
  CU_ASSERT (goes_to_both (t, 0, DISK));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 0);
  tracker_stop (t);
  tracker_free (t);
}

/* What the first pass has not come to is copied anyway: it is not mirrored, and
 * that is nothing that was missed.
 */
static void
test_not_reached (void)
{
  struct tracker *t = new_dirty_mirror ();
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  uint64_t next;

  tracker_begin (t, false, false); /* another session */
  CU_ASSERT (tracker_wait_settled (t, 0));
  tracker_mirror (t, BLOCK);
  CU_ASSERT_FALSE (goes_to_both (t, 0, CHUNK));
  CU_ASSERT_EQUAL (tracker_take (t, 0, 2 * CHUNK, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (next, 2 * CHUNK);
  tracker_done (t, &e, tracker_epoch (t));
  CU_ASSERT (goes_to_both (t, CHUNK, CHUNK));
  CU_ASSERT_FALSE (goes_to_both (t, 2 * CHUNK, CHUNK));
  CU_ASSERT_EQUAL (status (t).not_mirrored, 0);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK - 2 * CHUNK);
  tracker_stop (t);
  tracker_free (t);
}

/* It counts for nothing if it does not end well, and not before it has ended.
 */
static void
test_whole_badly (void)
{
  struct tracker *t = new_dirty_mirror ();
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct tracker_request a;

  enter (t, &a, 0, CHUNK);
  CU_ASSERT (a.mirrored);
  CU_ASSERT_EQUAL (status (t).remaining_bytes, DISK); /* it is in flight */
  leave (t, &a, BOTH_FAILED);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK);
  enter (t, &a, 0, 2 * CHUNK);
  e = take_all (t);
  CU_ASSERT_EQUAL_FATAL (e.n, 1);
  CU_ASSERT_EQUAL (e.v[0].offset, 2 * CHUNK);
  tracker_lost (t, NULL);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 2 * CHUNK);
  tracker_stop (t);
  tracker_free (t);
}

/* What overlaps it meanwhile goes to one side, and may end first. */
static void
test_whole_overlapped (void)
{
  struct tracker *t = new_dirty_mirror ();
  struct tracker_request a, b;

  enter (t, &a, 0, CHUNK);
  enter (t, &b, 2, 2);
  CU_ASSERT_FALSE (b.mirrored);
  leave (t, &b, BOTH_WRITTEN);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK);
  enter (t, &b, 2, 2); /* and what began before it */
  enter (t, &a, 0, CHUNK);
  CU_ASSERT_FALSE (a.mirrored);
  leave (t, &a, BOTH_WRITTEN);
  leave (t, &b, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK);
  tracker_stop (t);
  tracker_free (t);
}

static void
test_overlap (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request a, b, c;

  enter (t, &a, 0, 8);
  CU_ASSERT (a.mirrored);
  enter (t, &b, 8, 8); /* beside it, in the same chunk */
  CU_ASSERT (b.mirrored);
  enter (t, &c, 6, 4); /* over both */
  CU_ASSERT_FALSE (c.mirrored);
  CU_ASSERT_EQUAL (status (t).mirrored_in_flight, 2);
  leave (t, &a, BOTH_WRITTEN);
  leave (t, &b, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 0);
  leave (t, &c, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  CU_ASSERT_EQUAL (status (t).mirrored_in_flight, 0);
  tracker_stop (t);
  tracker_free (t);
}

/* One that is under way since before the tracking, and so is in no list. */
static void
test_not_settled (void)
{
  struct tracker *t = tracker_new (DISK, CHUNK, OWNER_SOURCE);
  struct tracker_request old = TRACKER_REQUEST_INIT;

  CU_ASSERT_EQUAL (tracker_enter (t, &old, 0, 2), TRACKER_PASS);
  tracker_begin (t, false, true);
  copy_all (t);
  tracker_mirror (t, BLOCK);
  CU_ASSERT_FALSE (goes_to_both (t, 0, 2));
  tracker_leave (t, &old);
  CU_ASSERT (tracker_wait_settled (t, 0));
  copy_all (t);
  CU_ASSERT (goes_to_both (t, 0, 2));
  tracker_stop (t);
  tracker_free (t);
}

/* ---- How they end ------------------------------------------------------- */

static void
test_outcomes (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request req;

  enter (t, &req, 0, 2);
  leave (t, &req, BOTH_FAILED);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  CU_ASSERT_EQUAL (status (t).quarantined_bytes, 0);
  enter (t, &req, CHUNK, 2);
  leave (t, &req, BOTH_UNKNOWN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 2 * CHUNK);
  CU_ASSERT_EQUAL (status (t).quarantined_bytes, CHUNK);
  CU_ASSERT_EQUAL (status (t).not_mirrored, 2);
  CU_ASSERT_EQUAL (status (t).mirrored, 0);
  tracker_stop (t);
  tracker_free (t);
}

/* The answer of the destination was seen, and what it was for is gone. */
static void
expect_conflict (struct tracker *t, struct tracker_request *req)
{
  leave (t, req, BOTH_WRITTEN);
  CU_ASSERT (status (t).dirty_bytes >= CHUNK);
  CU_ASSERT_EQUAL (status (t).mirrored, 0);
  CU_ASSERT_EQUAL (status (t).not_mirrored, 1);
}

static void
test_take_conflicts (void)
{
  struct tracker *t = new_mirror ();
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct tracker_request a, b, other;

  enter (t, &a, 0, 2);
  enter (t, &other, 3 * CHUNK, 2);
  tracker_mirror (t, 0);
  enter (t, &b, 2, 2); /* makes the chunk dirty */
  leave (t, &b, BOTH_WRITTEN);
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 0);
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  expect_conflict (t, &a); /* the lease has come and gone meanwhile */
  leave (t, &other, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  CU_ASSERT_EQUAL (status (t).mirrored, 1);
  tracker_stop (t);
  tracker_free (t);
}

static void
test_compare_conflicts (void)
{
  struct tracker *t = new_mirror ();
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY, wrong = EXTENTS_EMPTY;
  struct tracker_request a;

  enter (t, &a, 0, 2);
  e = compare_all (t, false);
  expect_conflict (t, &a);
  CU_ASSERT_EQUAL (tracker_compared (t, &e, false, &wrong), 0);
  /* The rest differs by itself. */
  CU_ASSERT_EQUAL_FATAL (wrong.n, 1);
  CU_ASSERT_EQUAL (wrong.v[0].offset, CHUNK);
  tracker_stop (t);
  tracker_free (t);
}

static void
test_losses (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request a;
  uint64_t epoch = tracker_epoch (t);

  CU_ASSERT (goes_to_both (t, 2 * CHUNK, 2));
  enter (t, &a, 0, 2);
  tracker_mirror_lost (t);
  CU_ASSERT_EQUAL (status (t).unflushed_bytes, 0);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  CU_ASSERT_EQUAL (tracker_epoch (t), epoch);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 2 * CHUNK);

  copy_all (t);
  enter (t, &a, 0, 2);
  CU_ASSERT (a.mirrored);
  CU_ASSERT_EQUAL (tracker_lost (t, NULL), epoch + 1);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  tracker_stop (t);
  tracker_free (t);
}

/* A server that cannot write out what it has acknowledged says so once, and
 * that may be to the mirror, before the migrator has said "done".
 */
static void
test_loss_under_lease (void)
{
  struct tracker *t = new_mirror ();

  tracker_mirror (t, 0);
  CU_ASSERT_FALSE (goes_to_both (t, 0, 2));

  CLEANUP_EXTENTS struct extents e = take_all (t);

  tracker_mirror_lost (t);
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  flush (t, true);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  tracker_free (t);
}

/* It has ended before the flush was asked for, or after. */
static void
test_flush (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request a, b;
  uint64_t epoch;

  enter (t, &a, 0, 2);
  enter (t, &b, CHUNK, 2);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (tracker_flush_begin (t, &epoch), 0);
  leave (t, &b, BOTH_WRITTEN);
  CU_ASSERT (goes_to_both (t, 0, 2));
  CU_ASSERT_EQUAL (tracker_flush_end (t, true, epoch), 0);
  CU_ASSERT_EQUAL (status (t).unflushed_bytes, 2 * CHUNK);
  tracker_stop (t);
  tracker_free (t);
}

/* ---- When it ends ------------------------------------------------------- */

static void
test_session_ends (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request a, b;

  enter (t, &a, 0, 2);
  enter (t, &b, CHUNK, 2);
  tracker_end_session (t);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_FALSE (goes_to_both (t, 2 * CHUNK, 2));
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 2 * CHUNK);
  tracker_stop (t);
  CU_ASSERT_EQUAL (status (t).quarantined_bytes, 0);
  leave (t, &b, BOTH_UNKNOWN); /* that is so, tracking or not (R17) */
  CU_ASSERT_EQUAL (status (t).quarantined_bytes, CHUNK);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 0);
  tracker_mirror (t, BLOCK);
  CU_ASSERT_FALSE (goes_to_both (t, 2 * CHUNK, 2));
  tracker_free (t);
}

/* What was committed as of the pause is not written to after it. */
static void
test_commit (void)
{
  struct tracker *t = new_mirror ();
  const uint64_t token = tracker_hold (t, 600000);
  uint64_t pause_us;

  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_DONE);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), 0);
  tracker_commit_end (t, true, OWNER_SOURCE); /* a detach */
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  CU_ASSERT_FALSE (goes_to_both (t, 0, 2));
  tracker_stop (t);
  tracker_free (t);
}

/* Nor is what goes to the destination alone. */
static void
test_pivot (void)
{
  struct tracker *t = new_mirror ();
  const uint64_t token = tracker_hold (t, 600000);
  uint64_t pause_us;

  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_DONE);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), 0);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  tracker_mirror (t, BLOCK);
  CU_ASSERT_FALSE (goes_to_both (t, 0, 2));
  tracker_stop (t);
  tracker_free (t);
}

/* A migration that is given up has mirrored nothing, whatever the destination
 * answers after that.
 */
static void
test_given_up (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request req;

  enter (t, &req, 0, 2);
  CU_ASSERT_TRUE (req.mirrored);
  tracker_stop (t);
  leave (t, &req, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).mirrored, 0);
  CU_ASSERT_EQUAL (status (t).not_mirrored, 1);
  tracker_free (t);
}

/* The same of one from a place to that the disk had moved before. */
static void
test_demoted (void)
{
  struct tracker *t = new_tracker ();
  struct tracker_request req;

  tracker_set_owner (t, OWNER_DESTINATION, true);
  tracker_promote (t);
  CU_ASSERT_FALSE (tracker_begin (t, false, true));
  CU_ASSERT (tracker_wait_settled (t, 0));
  copy_all (t);
  tracker_mirror (t, BLOCK);
  enter (t, &req, 0, 2);
  CU_ASSERT_TRUE (req.mirrored);
  tracker_demote (t, 0);
  leave (t, &req, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).owner, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (status (t).mirrored, 0);
  CU_ASSERT_EQUAL (status (t).not_mirrored, 1);
  tracker_stop (t);
  tracker_free (t);
}

/* It does not wait for the destination on top of the pause. */
static void
test_held (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request a = { .may_be_mirrored = true };
  const uint64_t token = tracker_hold (t, 600000);
  uint64_t pause_us;

  CU_ASSERT_EQUAL (tracker_enter (t, &a, 0, 2), TRACKER_WAIT);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  CU_ASSERT_EQUAL (tracker_enter (t, &a, 0, 2), TRACKER_PASS);
  CU_ASSERT_FALSE (a.mirrored);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, CHUNK);
  CU_ASSERT (goes_to_both (t, CHUNK, 2));
  tracker_stop (t);
  tracker_free (t);
}

/* R9: both sides must have ended. */
static void
test_drain (void)
{
  struct tracker *t = new_mirror ();
  struct tracker_request a;
  uint64_t token;

  enter (t, &a, 0, 2);
  token = tracker_hold (t, 600000);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_WAIT);
  leave (t, &a, BOTH_WRITTEN);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_DONE);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), -1); /* unflushed */
  flush (t, true);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), 0);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  tracker_stop (t);
  tracker_free (t);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "clean chunks", test_clean },
    { "what is not to be mirrored", test_wishes },
    { "states of a chunk", test_states },
    { "whole chunks that are dirty", test_whole_chunks },
    { "whole chunks, ended badly", test_whole_badly },
    { "not reached by the first pass", test_not_reached },
    { "whole chunks, overlapped", test_whole_overlapped },
    { "overlapping requests", test_overlap },
    { "older than the tracking", test_not_settled },
    { "outcomes", test_outcomes },
    { "a lease in between", test_take_conflicts },
    { "a comparison in between", test_compare_conflicts },
    { "losses in between", test_losses },
    { "a loss while something is leased", test_loss_under_lease },
    { "flushes", test_flush },
    { "the session ends", test_session_ends },
    { "a commit ends it", test_commit },
    { "a pivot ends it", test_pivot },
    { "given up in between", test_given_up },
    { "demoted in between", test_demoted },
    { "a request that the pause has held", test_held },
    { "the pause waits for both sides", test_drain },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("tracker-mirror", tests);
}
