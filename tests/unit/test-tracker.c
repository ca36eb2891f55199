/* SPDX-License-Identifier: BSD-3-Clause */
/* The tracker, rule by rule.  What threads do to each other at random is the
 * hammer's business (test-tracker-hammer); here a second thread only shows
 * that who waits is woken.
 *
 * The disk has four chunks of 64 bytes and a last one of 10.
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "tracker-session.h"
#include "unit.h"

#define LONG_MS 600000 /* never reached */

/* ---- Short ways to say things ------------------------------------------ */

static int
done (struct tracker *t, uint64_t offset, uint64_t length, uint64_t epoch)
{
  struct extent x = { offset, length, false };
  const struct extents e = { &x, 1, 1 };

  return tracker_done (t, &e, epoch);
}

static int
failed (struct tracker *t, uint64_t offset, uint64_t length, bool unknown)
{
  struct extent x = { offset, length, false };
  const struct extents e = { &x, 1, 1 };

  return tracker_failed (t, &e, unknown);
}

static int
compared (struct tracker *t, uint64_t offset, uint64_t length, bool equal,
          struct extents *wrong)
{
  struct extent x = { offset, length, false };
  const struct extents e = { &x, 1, 1 };

  return tracker_compared (t, &e, equal, wrong);
}

static void
enter (struct tracker *t, struct tracker_request *req, uint64_t offset,
       uint64_t length)
{
  CU_ASSERT_EQUAL_FATAL (tracker_enter (t, req, offset, length), TRACKER_PASS);
}

static void
guest_write (struct tracker *t, uint64_t offset, uint64_t length)
{
  struct tracker_request req = TRACKER_REQUEST_INIT;

  enter (t, &req, offset, length);
  tracker_leave (t, &req);
}

/* Dirty, leased and touched just now may be the same chunk. */
static uint64_t
remaining (const struct tracker_status *s)
{
  const uint64_t sum = s->dirty_bytes + s->leased_bytes + s->in_flight_bytes;

  return sum < DISK ? sum : DISK;
}

/* D, L, U (and F), Q in bytes, and that remaining is what R9 says. */
static bool
bytes (struct tracker *t, uint64_t d, uint64_t l, uint64_t u, uint64_t q)
{
  const struct tracker_status s = status (t);

  if (s.dirty_bytes == d && s.leased_bytes == l && s.unflushed_bytes == u &&
      s.quarantined_bytes == q && s.remaining_bytes == remaining (&s))
    return true;
  printf ("\n    D %" PRIu64 " L %" PRIu64 " U %" PRIu64 " Q %" PRIu64
          " remaining %" PRIu64 " ",
          s.dirty_bytes, s.leased_bytes, s.unflushed_bytes, s.quarantined_bytes,
          s.remaining_bytes);
  return false;
}

static void
finish (struct tracker *t)
{
  tracker_stop (t);
  tracker_free (t);
}

/* The hold expires by itself: look until it has. */
static void
until_open (struct tracker *t)
{
  while (status (t).gate != GATE_OPEN)
    ;
}

/* ---- Requests while tracking is off ------------------------------------ */

static void
test_new (void)
{
  CU_ASSERT_PTR_NULL (tracker_new (DISK, 0, OWNER_SOURCE));
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_PTR_NULL (tracker_new (DISK, 65, OWNER_SOURCE));
  CU_ASSERT_EQUAL (errno, EINVAL);

  struct tracker *t = new_tracker ();
  const struct tracker_status s = status (t);

  CU_ASSERT_EQUAL (s.owner, OWNER_SOURCE);
  CU_ASSERT_FALSE (s.tracking);
  CU_ASSERT_FALSE (tracker_is_tracking (t));
  CU_ASSERT_EQUAL (s.gate, GATE_OPEN);
  CU_ASSERT_EQUAL (s.disk_bytes, DISK);
  CU_ASSERT_EQUAL (s.chunk_bytes, CHUNK);
  CU_ASSERT_EQUAL (s.in_flight_requests, 0);
  CU_ASSERT (bytes (t, 0, 0, 0, 0));
  tracker_free (t);
  tracker_free (NULL);
}

/* A request is under way while the chunks become larger, and smaller again.
 */
static void
test_set_chunk (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request a = TRACKER_REQUEST_INIT, b = TRACKER_REQUEST_INIT;
  struct extents e;

  enter (t, &a, CHUNK - 1, 1);
  enter (t, &b, 2 * CHUNK, 1);
  tracker_end_session (t);
  CU_ASSERT_EQUAL (tracker_set_chunk (t, 0), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (tracker_set_chunk (t, 2 * CHUNK), 0);
  CU_ASSERT_EQUAL (status (t).chunk_bytes, 2 * CHUNK);
  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (tracker_wait_settled (t, 0));
  CU_ASSERT_EQUAL (status (t).in_flight_requests, 2);
  tracker_leave (t, &a);
  CU_ASSERT (bytes (t, 2 * CHUNK, 0, 0, 0));
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT_EQUAL (e.v[0].offset, 0);
  CU_ASSERT_EQUAL (e.v[0].length, 2 * CHUNK);
  /* No part of a lease that the destination could not write. */
  e.v[0].length = CHUNK;
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), -1);
  e.v[0].length = 2 * CHUNK;
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  extents_free (&e);
  tracker_end_session (t);
  CU_ASSERT_EQUAL (tracker_set_chunk (t, CHUNK), 0);
  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, 2 * CHUNK, 0, 0, 0)); /* was not flushed */
  tracker_leave (t, &b);
  CU_ASSERT (bytes (t, 3 * CHUNK, 0, 0, 0));
  tracker_free (t);
}

static void
test_untracked (void)
{
  struct tracker *t = new_tracker ();
  struct tracker_request a = TRACKER_REQUEST_INIT, b = TRACKER_REQUEST_INIT;

  enter (t, &a, 0, 1);
  enter (t, &b, 0, DISK);
  CU_ASSERT_FALSE (a.listed);
  CU_ASSERT_EQUAL (a.route.owner, OWNER_SOURCE);
  CU_ASSERT_EQUAL (status (t).in_flight_requests, 2);
  tracker_leave (t, &a);
  tracker_leave (t, &b);
  CU_ASSERT_EQUAL (status (t).in_flight_requests, 0);
  CU_ASSERT (bytes (t, 0, 0, 0, 0));

  /* Nothing can be leased or held. */
  struct extents e = take_all (t);

  CU_ASSERT_EQUAL (e.n, 0);
  extents_free (&e);
  e = compare_all (t, false);
  CU_ASSERT_EQUAL (e.n, 0);
  extents_free (&e);
  CU_ASSERT_EQUAL (tracker_hold (t, LONG_MS), 0);
  CU_ASSERT_FALSE (tracker_wait_settled (t, 0));
  tracker_free (t);
}

static void
test_not_served (void)
{
  static const enum owner owners[] = { OWNER_FENCED, OWNER_UNKNOWN };
  struct tracker_request req = TRACKER_REQUEST_INIT;

  for (unsigned i = 0; i < 2; i++) {
    struct tracker *t = tracker_new (DISK, CHUNK, owners[i]);

    CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_FENCED);
    CU_ASSERT_EQUAL (status (t).in_flight_requests, 0);
    tracker_begin (t, false, true);
    CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_FENCED);
    CU_ASSERT_EQUAL (status (t).in_flight_requests, 0);

    tracker_set_owner (t, OWNER_DESTINATION, false);
    CU_ASSERT_EQUAL (tracker_owner (t), OWNER_DESTINATION);
    enter (t, &req, 0, 1);
    CU_ASSERT_EQUAL (req.route.owner, OWNER_DESTINATION);
    tracker_leave (t, &req);
    finish (t);
  }
}

/* ---- Tracking (R1, R2) ------------------------------------------------- */

static void *
wait_settled_thread (void *t)
{
  while (!tracker_wait_settled (t, LONG_MS))
    ;
  return NULL;
}

static void
test_settle (void)
{
  struct tracker *t = new_tracker ();
  struct tracker_request before = TRACKER_REQUEST_INIT,
                         after = TRACKER_REQUEST_INIT;
  pthread_t thread;

  enter (t, &before, 0, 1);
  tracker_begin (t, false, true);
  CU_ASSERT_FALSE (tracker_wait_settled (t, 0));
  enter (t, &after, 0, 1);
  CU_ASSERT (after.listed);
  tracker_leave (t, &after);
  CU_ASSERT_FALSE (tracker_wait_settled (t, 0));

  /* Nor is it drained. */
  const uint64_t token = tracker_hold (t, LONG_MS);
  uint64_t pause_us;

  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_WAIT);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);

  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, wait_settled_thread, t),
                         0);
  tracker_leave (t, &before);
  pthread_join (thread, NULL);
  CU_ASSERT (tracker_wait_settled (t, 0));
  finish (t);
}

static void
test_begin (void)
{
  struct tracker *t = new_tracker ();

  /* Writes were missed: there is nothing to resume. */
  CU_ASSERT_FALSE (tracker_begin (t, true, true));
  CU_ASSERT (tracker_is_tracking (t));
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));
  copy_all (t);
  guest_write (t, 0, 1);
  tracker_end_session (t);
  CU_ASSERT (tracker_is_tracking (t));
  CU_ASSERT (bytes (t, CHUNK, 0, 0, 0));
  guest_write (t, CHUNK, 1); /* between the sessions */
  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, 2 * CHUNK, 0, 0, 0));

  /* Another destination has nothing of it. */
  CU_ASSERT_FALSE (tracker_begin (t, true, false));
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));
  copy_all (t);
  CU_ASSERT_FALSE (tracker_begin (t, false, true));
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));

  tracker_stop (t);
  CU_ASSERT (bytes (t, 0, 0, 0, 0));
  CU_ASSERT_FALSE (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));
  finish (t);
}

/* A session that was never ended leaves nothing leased or unflushed behind. */
static void
test_begin_over (void)
{
  struct tracker *t = new_session ();
  struct extents e = EXTENTS_EMPTY;
  uint64_t next;
  const uint64_t epoch = tracker_epoch (t);

  tracker_take (t, 0, 3 * CHUNK, MANY, &e, &next);
  done (t, 0, CHUNK, epoch);
  CU_ASSERT (bytes (t, CHUNK + 10, 2 * CHUNK, CHUNK, 0));
  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, DISK, 0, 0, 2 * CHUNK));
  CU_ASSERT (tracker_epoch (t) > epoch);
  extents_free (&e);
  finish (t);
}

/* A mirrored request whose outcome is not known, and that ends while its chunk
 * is compared for an earlier one: what was found equal does not speak for it.
 */
static void
test_unknown_while_compared (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request a = { .may_be_mirrored = true }, b = a;
  struct extents e;

  tracker_set_grace (t, 0);
  tracker_mirror (t, 1);
  enter (t, &a, 0, 1);
  enter (t, &b, 1, 1);
  CU_ASSERT_FATAL (a.mirrored && b.mirrored);
  tracker_leave_both (t, &b, BOTH_UNKNOWN);
  copy_all (t);
  CU_ASSERT (bytes (t, 0, 0, 0, CHUNK));
  e = compare_all (t, true);
  CU_ASSERT (bytes (t, 0, CHUNK, 0, CHUNK));
  tracker_leave_both (t, &a, BOTH_UNKNOWN);
  CU_ASSERT_EQUAL (compared (t, 0, CHUNK, true, NULL), 0);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, CHUNK));
  copy_all (t);
  CU_ASSERT (bytes (t, 0, 0, 0, CHUNK)); /* and it is looked at once more */
  extents_free (&e);
  finish (t);
}

/* What is dirtied in vain is told apart from what is dirty for the first time,
 * and from what is dirty already.
 */
static void
test_dirt (void)
{
  struct tracker *t = new_clean_session ();
  struct dirt d;

  guest_write (t, 0, 1);
  guest_write (t, 1, 1);
  d = status (t).dirt;
  CU_ASSERT_EQUAL (d.changed, 2);
  CU_ASSERT_EQUAL (d.touched, 2 * CHUNK);
  CU_ASSERT_EQUAL (d.dirtied, CHUNK);
  CU_ASSERT_EQUAL (d.redirtied, 0);
  copy_all (t);
  guest_write (t, 0, 2 * CHUNK);
  d = status (t).dirt;
  CU_ASSERT_EQUAL (d.changed, 2 + 2 * CHUNK);
  CU_ASSERT_EQUAL (d.touched, 4 * CHUNK);
  CU_ASSERT_EQUAL (d.dirtied, 3 * CHUNK);
  CU_ASSERT_EQUAL (d.redirtied, CHUNK);
  CU_ASSERT (status (t).dirt_rate.changed > 0);
  finish (t);
}

static uint64_t
take_cold (struct tracker *t)
{
  struct extents e = EXTENTS_EMPTY;
  uint64_t next, bytes = 0;

  CU_ASSERT_EQUAL (tracker_take_cold (t, 0, UINT64_MAX, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (next, DISK);
  for (size_t i = 0; i < e.n; i++)
    bytes += e.v[i].length;
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  extents_free (&e);
  return bytes;
}

/* What is touched in each of two rounds waits, until it is left alone for one.
 */
static void
test_hot (void)
{
  struct tracker *t = new_clean_session ();

  for (int i = 0; i < 2; i++) {
    guest_write (t, 0, 2 * CHUNK);
    CU_ASSERT_EQUAL (status (t).hot_bytes, 0);
    CU_ASSERT_EQUAL (take_cold (t), 2 * CHUNK);
    tracker_begin_round (t);
  }
  guest_write (t, 0, 3 * CHUNK);
  CU_ASSERT_EQUAL (status (t).hot_bytes, 2 * CHUNK);
  CU_ASSERT_EQUAL (status (t).guest_bytes, 3 * CHUNK);
  CU_ASSERT_EQUAL (take_cold (t), CHUNK);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 2 * CHUNK);
  guest_write (t, CHUNK, 1); /* dirty already, and still hot */
  tracker_begin_round (t);
  guest_write (t, CHUNK, 1);
  tracker_begin_round (t);
  CU_ASSERT_EQUAL (status (t).hot_bytes, CHUNK);
  CU_ASSERT_EQUAL (take_cold (t), CHUNK);
  tracker_begin_round (t);
  CU_ASSERT_EQUAL (status (t).hot_bytes, 0);
  CU_ASSERT_EQUAL (take_cold (t), CHUNK);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, 0);
  finish (t);
}

static void
test_mark (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request a = TRACKER_REQUEST_INIT, b = TRACKER_REQUEST_INIT;
  const uint64_t dirtied = status (t).dirt.dirtied;

  /* D comes at the end, what is in flight counts until then (R2, R9). */
  enter (t, &a, CHUNK - 1, 2);
  CU_ASSERT (a.listed);
  CU_ASSERT (bytes (t, 0, 0, 0, 0));
  CU_ASSERT_EQUAL (status (t).remaining_bytes, 2);
  CU_ASSERT_EQUAL (status (t).in_flight_requests, 1);
  enter (t, &b, DISK - 1, 1);
  CU_ASSERT_EQUAL (status (t).remaining_bytes, 3);
  tracker_leave (t, &a);
  CU_ASSERT (bytes (t, 2 * CHUNK, 0, 0, 0));
  CU_ASSERT_EQUAL (status (t).remaining_bytes, 2 * CHUNK + 1);
  tracker_leave (t, &b);
  CU_ASSERT (bytes (t, 2 * CHUNK + 10, 0, 0, 0));
  CU_ASSERT_EQUAL (status (t).dirt.dirtied - dirtied, 2 * CHUNK + 10);
  CU_ASSERT (status (t).dirt_rate.dirtied > 0);

  guest_write (t, 0, CHUNK); /* dirty already */
  guest_write (t, 5, 0);     /* nothing */
  CU_ASSERT_EQUAL (status (t).dirt.dirtied - dirtied, 2 * CHUNK + 10);
  CU_ASSERT (bytes (t, 2 * CHUNK + 10, 0, 0, 0));
  guest_write (t, 0, DISK);
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));
  /* Never more than the disk has, though it be counted twice. */
  enter (t, &a, 0, DISK);
  CU_ASSERT_EQUAL (status (t).remaining_bytes, DISK);
  tracker_leave (t, &a);
  finish (t);
}

static void
test_stop (void)
{
  struct tracker *t = new_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT, off = TRACKER_REQUEST_INIT;

  CLEANUP_EXTENTS struct extents e = take_all (t);

  /* Listed requests leave well, whatever happened meanwhile. */
  enter (t, &req, 0, 1);
  tracker_hold (t, LONG_MS);
  tracker_stop (t);
  CU_ASSERT_FALSE (tracker_is_tracking (t));
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT (bytes (t, 0, 0, 0, DISK)); /* the lease's outcome is unknown */
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  enter (t, &off, 0, 1);
  CU_ASSERT_FALSE (off.listed);
  tracker_leave (t, &req);
  CU_ASSERT (bytes (t, 0, 0, 0, DISK));

  /* And off the list, over a new beginning: it is waited for. */
  tracker_begin (t, false, true);
  CU_ASSERT_FALSE (tracker_wait_settled (t, 0));
  tracker_leave (t, &off);
  CU_ASSERT (tracker_wait_settled (t, 0));
  finish (t);
}

/* ---- Leases (R3 to R5) ------------------------------------------------- */

static void
test_take (void)
{
  struct tracker *t = new_clean_session ();
  struct extents e = EXTENTS_EMPTY;
  uint64_t next = 99;

  guest_write (t, 0, 1);
  guest_write (t, 2 * CHUNK, CHUNK);
  guest_write (t, DISK - 1, 1);

  /* One chunk at least; the cursor is rounded down. */
  CU_ASSERT_EQUAL (tracker_take (t, 5, 1, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT_EQUAL (e.v[0].offset, 0);
  CU_ASSERT_EQUAL (e.v[0].length, CHUNK);
  CU_ASSERT (e.v[0].touched);
  CU_ASSERT_EQUAL (next, CHUNK);
  CU_ASSERT (bytes (t, CHUNK + 10, CHUNK, 0, 0));

  /* No more ranges than asked for. */
  CU_ASSERT_EQUAL (tracker_take (t, next, UINT64_MAX, 1, &e, &next), 0);
  CU_ASSERT_EQUAL (e.n, 2);
  CU_ASSERT_EQUAL (e.v[1].offset, 2 * CHUNK);
  CU_ASSERT_EQUAL (next, 3 * CHUNK);

  /* The last one is cut at the disk's end. */
  CU_ASSERT_EQUAL (tracker_take (t, next, UINT64_MAX, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (e.n, 3);
  CU_ASSERT_EQUAL (e.v[2].offset, 4 * CHUNK);
  CU_ASSERT_EQUAL (e.v[2].length, 10);
  CU_ASSERT_EQUAL (next, DISK);
  CU_ASSERT (bytes (t, 0, 2 * CHUNK + 10, 0, 0));

  /* R4: what is leased is not taken again, dirty or not. */
  guest_write (t, 0, DISK);
  extents_clear (&e);
  CU_ASSERT_EQUAL (tracker_take (t, 0, UINT64_MAX, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (e.n, 2);
  CU_ASSERT_EQUAL (e.v[0].offset, CHUNK);
  CU_ASSERT_EQUAL (e.v[1].offset, 3 * CHUNK);
  CU_ASSERT (bytes (t, 2 * CHUNK + 10, DISK, 0, 0));

  CU_ASSERT_EQUAL (tracker_take (t, DISK, UINT64_MAX, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (next, DISK);
  CU_ASSERT_EQUAL (e.n, 2);
  extents_free (&e);
  finish (t);
}

/* R18 */
static void
test_touched (void)
{
  struct tracker *t = new_tracker ();
  struct extents e = EXTENTS_EMPTY;
  uint64_t next;

  tracker_begin (t, false, true);
  tracker_take (t, CHUNK, 1, MANY, &e, &next);
  CU_ASSERT_FALSE (e.v[0].touched);
  failed (t, CHUNK, CHUNK, false); /* whatever became of it */
  extents_clear (&e);
  tracker_take (t, 0, UINT64_MAX, MANY, &e, &next);
  CU_ASSERT_EQUAL_FATAL (e.n, 3);
  CU_ASSERT_FALSE (e.v[0].touched);
  CU_ASSERT (e.v[1].touched);
  CU_ASSERT_EQUAL (e.v[1].offset, CHUNK);
  CU_ASSERT_EQUAL (e.v[1].length, CHUNK);
  CU_ASSERT_FALSE (e.v[2].touched);
  extents_free (&e);

  tracker_stop (t); /* what was written stays written */
  tracker_begin (t, false, true);
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT (e.v[0].touched);
  extents_free (&e);

  tracker_begin (t, false, false); /* elsewhere, but that is no proof */
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT (e.v[0].touched);
  extents_free (&e);

  tracker_set_written (t, false); /* this is */
  tracker_begin (t, false, false);
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT_FALSE (e.v[0].touched);
  extents_free (&e);

  tracker_set_written (t, false);
  tracker_set_written (t, true); /* nobody knows where */
  tracker_begin (t, false, true);
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT (e.v[0].touched);
  extents_free (&e);

  tracker_stop (t); /* a guest may have run there */
  tracker_set_written (t, false);
  tracker_set_owner (t, OWNER_FENCED, false);
  tracker_begin (t, false, false);
  tracker_set_owner (t, OWNER_SOURCE, true);
  tracker_begin (t, false, true);
  e = take_all (t);
  CU_ASSERT (e.v[0].touched);
  extents_free (&e);
  finish (t);
}

/* R18, R1: left out is not written; but what the guest wrote is never left to
 * what was promised.
 */
static void
test_skipped (void)
{
  struct tracker *t = new_session ();
  struct extents e = take_all (t);
  struct tracker_request req = TRACKER_REQUEST_INIT;

  guest_write (t, 2 * CHUNK, 1);         /* while it is leased */
  tracker_enter (t, &req, 3 * CHUNK, 1); /* and at its end, too */
  CU_ASSERT_EQUAL (tracker_skipped (t, &e, tracker_epoch (t)), 0);
  tracker_leave (t, &req);
  flush (t, true);
  extents_free (&e);
  CU_ASSERT_EQUAL (status (t).remaining_bytes, 2 * CHUNK);
  tracker_begin (t, false, true);
  e = take_all (t);
  CU_ASSERT_EQUAL_FATAL (e.n, 3);
  CU_ASSERT_FALSE (e.v[0].touched);
  CU_ASSERT_TRUE (e.v[1].touched);
  CU_ASSERT_EQUAL (e.v[1].offset, 2 * CHUNK);
  CU_ASSERT_EQUAL (e.v[1].length, 2 * CHUNK);
  CU_ASSERT_FALSE (e.v[2].touched);
  /* R6a */
  CU_ASSERT_EQUAL (tracker_skipped (t, &e, tracker_epoch (t) - 1), 0);
  extents_free (&e);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK);
  finish (t);
}

/* R18: what was put back is as it was, but where the guest wrote meanwhile. */
static void
test_put_back (void)
{
  struct tracker *t = new_session ();
  struct extents e = take_all (t);

  guest_write (t, 2 * CHUNK, 1);
  CU_ASSERT_EQUAL (tracker_put_back (t, &e), 0);
  CU_ASSERT_EQUAL (tracker_put_back (t, &e), -1); /* not leased any more */
  extents_free (&e);
  CU_ASSERT_EQUAL (status (t).dirty_bytes, DISK);
  e = take_all (t);
  CU_ASSERT_EQUAL_FATAL (e.n, 3);
  CU_ASSERT_FALSE (e.v[0].touched);
  CU_ASSERT_TRUE (e.v[1].touched);
  CU_ASSERT_EQUAL (e.v[1].offset, 2 * CHUNK);
  CU_ASSERT_EQUAL (e.v[1].length, CHUNK);
  CU_ASSERT_FALSE (e.v[2].touched);
  extents_free (&e);
  finish (t);
}

static void
test_done (void)
{
  struct tracker *t = new_session ();

  CLEANUP_EXTENTS struct extents e = take_all (t);

  /* R3: a write meanwhile makes it dirty for good. */
  guest_write (t, 0, 1);
  CU_ASSERT (bytes (t, CHUNK, DISK, 0, 0));
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  CU_ASSERT (bytes (t, CHUNK, 0, DISK, 0));
  flush (t, true);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, 0));
  finish (t);
}

static void
test_failed (void)
{
  struct tracker *t = new_session ();

  CLEANUP_EXTENTS struct extents e = take_all (t);

  CU_ASSERT_EQUAL (failed (t, 0, CHUNK, false), 0);
  CU_ASSERT (bytes (t, CHUNK, DISK - CHUNK, 0, 0));
  CU_ASSERT_EQUAL (failed (t, CHUNK, CHUNK, true), 0);
  CU_ASSERT (bytes (t, 2 * CHUNK, DISK - 2 * CHUNK, 0, CHUNK));

  /* Copied again under a lease, it is still quarantined (R17). */
  extents_free (&e);
  e = take_all (t);
  CU_ASSERT_EQUAL (e.n, 1);
  CU_ASSERT_EQUAL (e.v[0].length, 2 * CHUNK);
  CU_ASSERT_EQUAL (done (t, 0, DISK, tracker_epoch (t)), 0);
  flush (t, true);
  CU_ASSERT (bytes (t, 0, 0, 0, CHUNK));
  finish (t);
}

static void
test_bad_leases (void)
{
  struct tracker *t = new_session ();
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  const uint64_t epoch = tracker_epoch (t);
  uint64_t next;
  struct extent pair[2] = { { CHUNK, CHUNK, false }, { 0, CHUNK, false } };
  const struct extents half = { pair, 2, 2 };

  tracker_take (t, CHUNK, 2 * CHUNK, MANY, &e, &next);
  tracker_take (t, 4 * CHUNK, 1, MANY, &e, &next);
  CU_ASSERT_EQUAL (tracker_done (t, &half, epoch), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (tracker_failed (t, &half, false), -1);
  CU_ASSERT_EQUAL (tracker_compared (t, &half, true, NULL), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (done (t, CHUNK, CHUNK + 1, epoch), -1);
  CU_ASSERT_EQUAL (done (t, CHUNK + 1, CHUNK, epoch), -1);
  CU_ASSERT_EQUAL (done (t, 4 * CHUNK, 9, epoch), -1);
  CU_ASSERT_EQUAL (done (t, 4 * CHUNK, CHUNK, epoch), -1);
  CU_ASSERT_EQUAL (done (t, UINT64_MAX - CHUNK + 1, CHUNK, epoch), -1);
  CU_ASSERT (bytes (t, 2 * CHUNK, 2 * CHUNK + 10, 0, 0));
  CU_ASSERT_EQUAL (done (t, 4 * CHUNK, 10, epoch), 0);
  CU_ASSERT_EQUAL (done (t, 4 * CHUNK, 10, epoch), -1); /* twice */
  finish (t);
}

/* ---- Flushes and losses (R6, R6a) -------------------------------------- */

static void
test_flush (void)
{
  struct tracker *t = new_session ();
  uint64_t epoch, other;

  CLEANUP_EXTENTS struct extents e = take_all (t);

  CU_ASSERT_EQUAL (tracker_flush_end (t, true, 1), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  done (t, 0, CHUNK, tracker_epoch (t));
  CU_ASSERT_EQUAL (tracker_flush_begin (t, &epoch), 0);
  CU_ASSERT_EQUAL (tracker_flush_begin (t, &other), -1);
  CU_ASSERT_EQUAL (errno, EBUSY);

  /* Done during the flush is not covered by it. */
  done (t, CHUNK, CHUNK, epoch);
  CU_ASSERT (bytes (t, 0, DISK - 2 * CHUNK, 2 * CHUNK, 0));
  CU_ASSERT_EQUAL (tracker_flush_end (t, true, epoch), 0);
  CU_ASSERT (bytes (t, 0, DISK - 2 * CHUNK, CHUNK, 0));
  flush (t, false);
  CU_ASSERT (bytes (t, CHUNK, DISK - 2 * CHUNK, 0, 0));
  flush (t, true); /* of nothing */
  finish (t);
}

static void
test_lost (void)
{
  struct tracker *t = new_session ();
  const uint64_t old = tracker_epoch (t);
  uint64_t epoch;

  CLEANUP_EXTENTS struct extents e = take_all (t);

  done (t, 0, CHUNK, old);
  CU_ASSERT_EQUAL (tracker_flush_begin (t, &epoch), 0);
  CU_ASSERT_EQUAL (epoch, old);
  done (t, CHUNK, CHUNK, old);

  uint64_t again_bytes;
  const uint64_t now = tracker_lost (t, &again_bytes);

  CU_ASSERT_EQUAL (again_bytes, 2 * CHUNK);
  CU_ASSERT (now > old);
  CU_ASSERT_EQUAL (tracker_epoch (t), now);
  CU_ASSERT_EQUAL (status (t).epoch, now);
  CU_ASSERT (bytes (t, 2 * CHUNK, DISK - 2 * CHUNK, 0, 0));
  CU_ASSERT_EQUAL (done (t, 2 * CHUNK, CHUNK, old), 0); /* too late: failed */
  CU_ASSERT (bytes (t, 3 * CHUNK, CHUNK + 10, 0, 0));
  CU_ASSERT_EQUAL (done (t, 3 * CHUNK, CHUNK, now + 1), 0); /* nonsense */
  CU_ASSERT (bytes (t, 4 * CHUNK, 10, 0, 0));
  CU_ASSERT_EQUAL (done (t, 4 * CHUNK, 10, now), 0);
  CU_ASSERT_EQUAL (tracker_flush_end (t, true, epoch), 0);
  CU_ASSERT (bytes (t, 4 * CHUNK, 0, 10, 0));
  finish (t);
}

/* A loss is often seen by a flush first. */
static void
test_flush_before_loss (void)
{
  struct tracker *t = new_session ();
  const uint64_t epoch = tracker_epoch (t);
  uint64_t again_bytes;

  CLEANUP_EXTENTS struct extents e = take_all (t);

  done (t, 0, CHUNK, epoch);
  flush (t, false);
  done (t, CHUNK, CHUNK, epoch);
  tracker_lost (t, &again_bytes);
  CU_ASSERT_EQUAL (again_bytes, 2 * CHUNK);
  tracker_lost (t, &again_bytes);
  CU_ASSERT_EQUAL (again_bytes, 0);

  done (t, 2 * CHUNK, CHUNK, epoch + 2);
  flush (t, false);
  flush (t, true); /* what became dirty before has been told of in vain */
  tracker_lost (t, &again_bytes);
  CU_ASSERT_EQUAL (again_bytes, 0);
  finish (t);
}

/* A flush that began before the loss covers nothing, even if the same chunks
 * were copied again meanwhile.
 */
static void
test_flush_over_loss (void)
{
  struct tracker *t = new_session ();
  struct extents e = take_all (t);
  uint64_t epoch;

  tracker_done (t, &e, tracker_epoch (t));
  tracker_flush_begin (t, &epoch);
  tracker_lost (t, NULL);
  extents_free (&e);
  e = take_all (t);
  tracker_done (t, &e, tracker_epoch (t));
  CU_ASSERT_EQUAL (tracker_flush_end (t, true, epoch), 0);
  CU_ASSERT (bytes (t, 0, 0, DISK, 0));
  flush (t, true);
  CU_ASSERT (bytes (t, 0, 0, 0, 0));
  extents_free (&e);
  finish (t);
}

static void
test_session_end (void)
{
  struct tracker *t = new_session ();
  const uint64_t old = tracker_epoch (t);
  struct extents e = take_all (t);
  uint64_t epoch;

  done (t, 0, CHUNK, old);
  tracker_flush_begin (t, &epoch);
  done (t, CHUNK, CHUNK, old);
  CU_ASSERT_NOT_EQUAL (tracker_hold (t, LONG_MS), 0);
  tracker_end_session (t);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT (bytes (t, DISK, 0, 0, DISK - 2 * CHUNK));
  CU_ASSERT (tracker_epoch (t) > old);
  CU_ASSERT_EQUAL (tracker_flush_end (t, true, epoch), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  extents_free (&e);

  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, DISK, 0, 0, DISK - 2 * CHUNK));
  copy_all (t);
  CU_ASSERT (bytes (t, 0, 0, 0, DISK - 2 * CHUNK));
  CU_ASSERT_FALSE (tracker_begin (t, false, true)); /* Q survives that too */
  CU_ASSERT (bytes (t, DISK, 0, 0, DISK - 2 * CHUNK));
  finish (t);
}

/* ---- Compare (R17) ----------------------------------------------------- */

static void
test_compare (void)
{
  struct tracker *t = new_clean_session ();
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct tracker_request req = TRACKER_REQUEST_INIT;

  guest_write (t, CHUNK, 1); /* dirty: not compared */

  struct extents e = compare_all (t, false);

  CU_ASSERT_EQUAL_FATAL (e.n, 2);
  CU_ASSERT_EQUAL (e.v[0].length, CHUNK);
  CU_ASSERT_EQUAL (e.v[1].offset, 2 * CHUNK);
  CU_ASSERT_EQUAL (e.v[1].length, 2 * CHUNK + 10);
  CU_ASSERT (e.v[0].touched && e.v[1].touched);
  CU_ASSERT (bytes (t, CHUNK, DISK - CHUNK, 0, 0));
  extents_free (&e);
  e = take_all (t); /* R4 */
  CU_ASSERT_EQUAL (e.n, 1);
  extents_free (&e);

  CU_ASSERT_EQUAL (compared (t, 0, CHUNK, true, &wrong), 0);
  CU_ASSERT (bytes (t, 0, DISK - CHUNK, 0, 0));

  /* Touched meanwhile, or being touched: no wonder that it differs. */
  guest_write (t, 2 * CHUNK, 1);
  enter (t, &req, 3 * CHUNK - 1, 2);
  CU_ASSERT_EQUAL (compared (t, 2 * CHUNK, 2 * CHUNK + 10, false, &wrong), 0);
  CU_ASSERT_EQUAL_FATAL (wrong.n, 1);
  CU_ASSERT_EQUAL (wrong.v[0].offset, 4 * CHUNK);
  CU_ASSERT_EQUAL (wrong.v[0].length, 10);
  CU_ASSERT (bytes (t, 2 * CHUNK + 10, CHUNK, 0, 0));
  tracker_leave (t, &req);
  finish (t);
}

static void
test_compare_touched (void)
{
  struct tracker *t = new_clean_session ();
  CLEANUP_EXTENTS struct extents e = compare_all (t, false);

  CU_ASSERT_EQUAL (e.n, 1);
  guest_write (t, 0, 1);
  CU_ASSERT_EQUAL (compared (t, 0, CHUNK, true, NULL), 0);
  CU_ASSERT (bytes (t, CHUNK, DISK - CHUNK, 0, 0)); /* still dirty */
  finish (t);
}

static void
test_quarantine (void)
{
  struct tracker *t = new_session ();
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct extents e = take_all (t);

  tracker_set_grace (t, LONG_MS);
  CU_ASSERT_EQUAL (failed (t, 0, 2 * CHUNK, true), 0);
  CU_ASSERT_EQUAL (done (t, 2 * CHUNK, DISK - 2 * CHUNK, tracker_epoch (t)), 0);
  flush (t, true);
  copy_all (t);
  CU_ASSERT (bytes (t, 0, 0, 0, 2 * CHUNK));
  extents_free (&e);

  /* A late write may still come: not compared in either way. */
  e = compare_all (t, true);
  CU_ASSERT_EQUAL (e.n, 0);
  extents_free (&e);
  e = compare_all (t, false);
  CU_ASSERT_EQUAL_FATAL (e.n, 1);
  CU_ASSERT_EQUAL (e.v[0].offset, 2 * CHUNK);
  CU_ASSERT_EQUAL (tracker_compared (t, &e, true, &wrong), 0);
  extents_free (&e);

  tracker_set_grace (t, 0);
  guest_write (t, CHUNK, 1); /* dirty: to be copied first */
  e = compare_all (t, true);
  CU_ASSERT_EQUAL_FATAL (e.n, 1);
  CU_ASSERT_EQUAL (e.v[0].offset, 0);
  CU_ASSERT_EQUAL (e.v[0].length, CHUNK);
  CU_ASSERT_EQUAL (tracker_compared (t, &e, true, &wrong), 0);
  CU_ASSERT (bytes (t, CHUNK, 0, CHUNK, CHUNK));
  extents_free (&e);
  copy_all (t);
  CU_ASSERT (bytes (t, 0, 0, 0, CHUNK));
  e = compare_all (t, true);
  CU_ASSERT_EQUAL (tracker_compared (t, &e, false, &wrong), 0);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, CHUNK)); /* once more */
  CU_ASSERT_EQUAL (wrong.n, 1);
  extents_free (&e);
  finish (t);
}

/* A server that was slow before may be so again: the grace follows the delays.
 */
static void
test_quarantine_delays (void)
{
  struct tracker *t = new_clean_session ();

  tracker_set_grace (t, 1000);
  CU_ASSERT_EQUAL (status (t).quarantine_ms, 0); /* there is none */
  tracker_set_quarantined (t, true);
  CU_ASSERT (bytes (t, 0, 0, 0, DISK));
  CU_ASSERT (status (t).quarantine_ms <= 1000);
  tracker_note_delay (t, 10);
  CU_ASSERT (status (t).quarantine_ms <= 1000);
  tracker_note_delay (t, LONG_MS);
  tracker_note_delay (t, 10); /* the longest counts */
  CU_ASSERT (status (t).quarantine_ms > LONG_MS);
  CU_ASSERT (status (t).quarantine_ms <= QUARANTINE_FACTOR * LONG_MS);
  tracker_note_delay (t, UINT64_MAX); /* somebody's nonsense */
  CU_ASSERT (status (t).quarantine_ms < UINT64_C (24) * 3600 * 1000);

  /* It is known that nothing will come; then again it is not. */
  tracker_end_quarantine (t);
  CU_ASSERT_EQUAL (status (t).quarantine_ms, 0);
  CU_ASSERT (bytes (t, 0, 0, 0, DISK));
  tracker_renew_quarantine (t);
  CU_ASSERT (status (t).quarantine_ms > LONG_MS);
  tracker_end_quarantine (t);
  tracker_begin (t, true, true); /* a server that was stopped goes on now */
  CU_ASSERT (status (t).quarantine_ms > LONG_MS);
  tracker_set_quarantined (t, false);
  CU_ASSERT (bytes (t, 0, 0, 0, 0));
  finish (t);
}

/* Two writes of unknown outcome to one chunk: the first lands after the last
 * copy and is flushed, the second lands after the flush.  The destination is
 * found equal, but only in its cache.
 */
static void
test_quarantine_flush (void)
{
  struct tracker *t = new_clean_session ();
  CLEANUP_EXTENTS struct extents none = EXTENTS_EMPTY;

  tracker_set_grace (t, 0);
  for (unsigned i = 0; i < 2; i++) {
    guest_write (t, 0, 1);

    CLEANUP_EXTENTS struct extents e = take_all (t);

    CU_ASSERT_EQUAL (tracker_failed (t, &e, true), 0);
  }
  copy_all (t);
  CU_ASSERT (bytes (t, 0, 0, 0, CHUNK));

  CLEANUP_EXTENTS struct extents e = compare_all (t, true);

  CU_ASSERT_EQUAL (tracker_compared (t, &e, true, &none), 0);
  CU_ASSERT (bytes (t, 0, 0, CHUNK, 0));
  tracker_lost (t, NULL);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, 0));
  finish (t);
}

/* ---- Gate (R8, R9) ----------------------------------------------------- */

static void
test_hold (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;
  uint64_t pause_us;
  const uint64_t token = tracker_hold (t, LONG_MS);

  CU_ASSERT_NOT_EQUAL (token, 0);
  CU_ASSERT_EQUAL (status (t).gate, GATE_CLOSED);
  CU_ASSERT_EQUAL (tracker_hold (t, LONG_MS), 0);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_DONE);
  CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_WAIT);
  tracker_give_up (t, &req);
  CU_ASSERT_EQUAL (status (t).in_flight_requests, 0);
  CU_ASSERT_EQUAL (tracker_release (t, token + 1, &pause_us), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, token + 1, 0), DRAIN_EXPIRED);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  CU_ASSERT_EQUAL (pause_us, status (t).last_pause_us);
  CU_ASSERT (pause_us >= 100000); /* a request was held that long */
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), -1);
  guest_write (t, 0, 1);
  CU_ASSERT_EQUAL (status (t).gates_expired, 0);
  finish (t);
}

struct drain {
  struct tracker *t;
  uint64_t token;
  enum tracker_drain result;
};

static void *
drain_thread (void *opaque)
{
  struct drain *d = opaque;

  do
    d->result = tracker_wait_drained (d->t, d->token, LONG_MS);
  while (d->result == DRAIN_WAIT);
  return NULL;
}

static void
test_drain (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request a = TRACKER_REQUEST_INIT, b = TRACKER_REQUEST_INIT;
  struct drain d = { t, 0, DRAIN_WAIT };
  pthread_t thread;

  enter (t, &a, 0, 1);
  enter (t, &b, 0, 1);
  d.token = tracker_hold (t, LONG_MS);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, d.token, 0), DRAIN_WAIT);
  tracker_leave (t, &b);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, d.token, 1), DRAIN_WAIT);
  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, drain_thread, &d), 0);
  tracker_leave (t, &a);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (d.result, DRAIN_DONE);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, 0)); /* only now D is final */
  finish (t);
}

static void
test_expiry (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;
  uint64_t pause_us;

  /* A request in flight that does not end: the deadline does. */
  enter (t, &req, 0, 1);

  struct drain d = { t, tracker_hold (t, 5), DRAIN_WAIT };

  drain_thread (&d);
  CU_ASSERT_EQUAL (d.result, DRAIN_EXPIRED);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT_EQUAL (status (t).gates_expired, 1);
  CU_ASSERT_EQUAL (status (t).last_pause_us, 5000);
  tracker_leave (t, &req);
  CU_ASSERT_EQUAL (tracker_release (t, d.token, &pause_us), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, d.token, 0), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, d.token), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);

  /* A request held passes at the deadline, with nobody else about. */
  CU_ASSERT_NOT_EQUAL (tracker_hold (t, 5), 0);
  enter (t, &req, 0, 1);
  CU_ASSERT_EQUAL (status (t).gates_expired, 2);
  tracker_leave (t, &req);
  finish (t);
}

struct guest {
  struct tracker *t;
  atomic_int waits;
  enum tracker_verdict verdict;
  enum owner owner;
};

/* One request that insists. */
static void *
guest_thread (void *opaque)
{
  struct guest *g = opaque;
  struct tracker_request req = TRACKER_REQUEST_INIT;

  while ((g->verdict = tracker_enter (g->t, &req, 0, 1)) == TRACKER_WAIT)
    g->waits++;
  if (g->verdict == TRACKER_PASS) {
    g->owner = req.route.owner;
    tracker_leave (g->t, &req);
  }
  return NULL;
}

static void
start_guest (struct guest *g, pthread_t *thread)
{
  g->waits = 0;
  CU_ASSERT_EQUAL_FATAL (pthread_create (thread, NULL, guest_thread, g), 0);
}

/* It is held now, or has been and comes back. */
static void
until_held (struct guest *g)
{
  while (g->waits == 0)
    tracker_wake (g->t);
}

static void
test_held (void)
{
  struct tracker *t = new_clean_session ();
  struct guest g = { .t = t };
  pthread_t thread;
  uint64_t pause_us;
  const uint64_t token = tracker_hold (t, LONG_MS);

  start_guest (&g, &thread);
  until_held (&g);
  CU_ASSERT_EQUAL (tracker_wait_drained (t, token, 0), DRAIN_DONE);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (g.verdict, TRACKER_PASS);
  CU_ASSERT_EQUAL (g.owner, OWNER_SOURCE);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, 0));
  finish (t);
}

static void *
hold_thread (void *opaque)
{
  struct drain *d = opaque;

  d->token = tracker_hold (d->t, LONG_MS);
  return NULL;
}

/* Holds one after the other, and a request that is between two turns when the
 * gate opens: it passes before the next hold.
 */
static void
test_chain_of_holds (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;
  struct drain d = { .t = t };
  uint64_t pause_us;
  pthread_t thread;

  d.token = tracker_hold (t, LONG_MS);
  for (int i = 0; i < 3; i++) {
    CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_WAIT);
    CU_ASSERT_EQUAL (tracker_release (t, d.token, &pause_us), 0);
    CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, hold_thread, &d), 0);
    for (int n = 0; n < 10000; n++)
      sched_yield (); /* time for it to do the wrong thing */
    enter (t, &req, 0, 1);
    pthread_join (thread, NULL);
    CU_ASSERT_EQUAL (status (t).gate, GATE_CLOSED);
    tracker_leave (t, &req);
  }
  CU_ASSERT_EQUAL (tracker_release (t, d.token, &pause_us), 0);

  /* Who gives up is not waited for. */
  d.token = tracker_hold (t, LONG_MS);
  CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_WAIT);
  CU_ASSERT_EQUAL (tracker_release (t, d.token, &pause_us), 0);
  tracker_give_up (t, &req);
  CU_ASSERT_NOT_EQUAL (tracker_hold (t, LONG_MS), 0);
  finish (t);
}

/* Reports of waiting threads when the server quits. */
static void *
settled_once (void *t)
{
  (void)tracker_wait_settled (t, LONG_MS);
  return NULL;
}

static void *
drained_once (void *opaque)
{
  struct drain *d = opaque;

  d->result = tracker_wait_drained (d->t, d->token, LONG_MS);
  return NULL;
}

static void *
wake_thread (void *opaque)
{
  struct guest *g = opaque;

  while (g->waits == 0)
    tracker_wake (g->t);
  return NULL;
}

static void
test_wake (void)
{
  struct tracker *t = new_tracker ();
  struct guest waker = { .t = t };
  struct tracker_request req = TRACKER_REQUEST_INIT;
  pthread_t thread;

  enter (t, &req, 0, 1);
  tracker_begin (t, false, true);

  struct drain d = { t, tracker_hold (t, LONG_MS), DRAIN_DONE };

  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, wake_thread, &waker),
                         0);
  settled_once (t);
  drained_once (&d);
  CU_ASSERT_EQUAL (d.result, DRAIN_WAIT);
  waker.waits = 1;
  pthread_join (thread, NULL);
  tracker_leave (t, &req);
  finish (t);
}

/* ---- Commit (R10) ------------------------------------------------------ */

static void
expect_busy (struct tracker *t, uint64_t token)
{
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), -1);
  CU_ASSERT_EQUAL (errno, EBUSY);
  CU_ASSERT_EQUAL (status (t).gate, GATE_CLOSED);
}

static void
test_commit_conditions (void)
{
  struct tracker *t = new_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;
  uint64_t epoch;

  tracker_set_grace (t, 0);
  enter (t, &req, 0, 1);

  const uint64_t token = tracker_hold (t, LONG_MS);

  CU_ASSERT_EQUAL (tracker_commit_begin (t, token + 1, 0), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  expect_busy (t, token); /* D */

  struct extents e = take_all (t);

  expect_busy (t, token); /* L */
  tracker_failed (t, &e, true);
  extents_free (&e);
  e = take_all (t);
  tracker_done (t, &e, tracker_epoch (t));
  expect_busy (t, token); /* U */
  tracker_flush_begin (t, &epoch);
  expect_busy (t, token); /* F */
  tracker_flush_end (t, true, epoch);
  expect_busy (t, token); /* Q */
  extents_free (&e);
  e = compare_all (t, true);
  tracker_compared (t, &e, true, NULL);
  expect_busy (t, token); /* U: what was quarantined */
  flush (t, true);
  expect_busy (t, token); /* in flight */
  tracker_leave (t, &req);
  expect_busy (t, token); /* D again */
  copy_all (t);
  tracker_flush_begin (t, &epoch);
  expect_busy (t, token); /* a flush of nothing is under way */
  tracker_flush_end (t, true, epoch);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), 0);
  tracker_commit_end (t, true, OWNER_SOURCE);
  extents_free (&e);
  finish (t);
}

/* Held and committed, up to the record. */
static uint64_t
begin_commit_of_several (struct tracker *t, unsigned deadline_ms,
                         unsigned patience_ms)
{
  uint64_t token;

  do {
    token = tracker_hold (t, deadline_ms);
    CU_ASSERT_NOT_EQUAL_FATAL (token, 0);
  } while (tracker_commit_begin (t, token, patience_ms) == -1 &&
           errno == ETIMEDOUT);
  CU_ASSERT_EQUAL_FATAL (status (t).gate, GATE_COMMITTING);
  return token;
}

static uint64_t
begin_commit (struct tracker *t, unsigned deadline_ms)
{
  return begin_commit_of_several (t, deadline_ms, 0);
}

static void
test_detach (void)
{
  struct tracker *t = new_clean_session ();
  const uint64_t token = begin_commit (t, LONG_MS);
  uint64_t pause_us;

  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), -1);
  CU_ASSERT_EQUAL (errno, EBUSY);
  tracker_commit_end (t, true, OWNER_SOURCE);
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTED);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);

  /* Tracking goes on, for a later --incremental. */
  guest_write (t, CHUNK, 1);
  tracker_end_session (t);
  guest_write (t, 0, 1);
  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, 2 * CHUNK, 0, 0, 0));
  finish (t);
}

/* Held requests get the new owner, or nothing. */
static void
commit_with_guest (enum owner owner, struct guest *g)
{
  struct tracker *t = new_clean_session ();
  const uint64_t token = begin_commit (t, LONG_MS);
  uint64_t pause_us;
  pthread_t thread;

  g->t = t;
  start_guest (g, &thread);
  until_held (g);
  CU_ASSERT_EQUAL (tracker_owner (t), OWNER_SOURCE);
  tracker_commit_end (t, true, owner);
  CU_ASSERT_EQUAL (tracker_owner (t), owner);
  g->waits = 0;
  until_held (g); /* still */
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  pthread_join (thread, NULL);

  /* Nor does tracking matter any more. */
  CU_ASSERT (bytes (t, 0, 0, 0, 0));
  finish (t);
}

static void
test_pivot (void)
{
  struct guest g;

  commit_with_guest (OWNER_DESTINATION, &g);
  CU_ASSERT_EQUAL (g.verdict, TRACKER_PASS);
  CU_ASSERT_EQUAL (g.owner, OWNER_DESTINATION);
}

static void
test_handover (void)
{
  struct guest g;

  commit_with_guest (OWNER_FENCED, &g);
  CU_ASSERT_EQUAL (g.verdict, TRACKER_FENCED);
}

/* Only the source's disk can be committed away. */
static void
test_commit_wrong_owner (void)
{
  struct tracker *t = new_clean_session ();
  uint64_t pause_us, token = begin_commit (t, LONG_MS);

  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  token = tracker_hold (t, LONG_MS);
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  finish (t);
}

static void
test_not_recorded (void)
{
  struct tracker *t = new_clean_session ();
  const uint64_t token = begin_commit (t, LONG_MS);
  uint64_t pause_us;

  tracker_commit_end (t, false, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (tracker_owner (t), OWNER_SOURCE);
  CU_ASSERT_EQUAL (status (t).gate, GATE_CLOSED);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  finish (t);
}

static void
test_rollback (void)
{
  struct tracker *t = new_clean_session ();
  const uint64_t token = begin_commit (t, LONG_MS);
  struct route back;
  uint64_t pause_us;

  CU_ASSERT_TRUE (tracker_fallback (t, &back));
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT_TRUE (tracker_fallback (t, &back));
  CU_ASSERT_EQUAL (back.owner, OWNER_SOURCE);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), 0);
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTING);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  tracker_commit_end (t, false, OWNER_SOURCE);
  CU_ASSERT_EQUAL (tracker_owner (t), OWNER_SOURCE);
  CU_ASSERT_EQUAL (status (t).gate, GATE_CLOSED);

  /* Again, and this time the old record cannot be restored. */
  CU_ASSERT_EQUAL (tracker_commit_begin (t, token, 0), 0);
  tracker_commit_end (t, true, OWNER_FENCED);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), 0);
  tracker_commit_end (t, true, OWNER_FENCED);
  CU_ASSERT_EQUAL (tracker_owner (t), OWNER_FENCED);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  CU_ASSERT_FALSE (tracker_fallback (t, &back));
  finish (t);
}

/* The deadline passes between check and record: two owners, were it obeyed. */
static void
test_late_record (void)
{
  struct tracker *t = new_clean_session ();
  struct guest g = { .t = t };
  pthread_t thread;
  uint64_t pause_us;
  const uint64_t token = begin_commit (t, 20);
  const uint64_t expired = status (t).gates_expired;

  start_guest (&g, &thread);
  while (g.waits == 0)
    ; /* it was held for longer than the deadline */
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTING);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT_EQUAL (status (t).gates_expired, expired + 1);
  CU_ASSERT (status (t).last_pause_us > 20000);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (g.owner, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  finish (t);
}

static void
test_committed_expires (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;

  begin_commit (t, 20);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  until_open (t);
  enter (t, &req, 0, 1);
  CU_ASSERT_EQUAL (req.route.owner, OWNER_DESTINATION);
  tracker_leave (t, &req);
  finish (t);
}

/* R10: one of several disks is recorded, also late, and another one cannot be:
 * it must still be possible to take it back.
 */
static void
test_patience (void)
{
  struct tracker *t = new_clean_session ();
  struct guest g = { .t = t };
  pthread_t thread;
  struct tracker_read read = TRACKER_READ_INIT;
  const uint64_t token = begin_commit_of_several (t, 20, LONG_MS);
  const uint64_t expired = status (t).gates_expired;

  start_guest (&g, &thread);
  while (g.waits == 0)
    ; /* it was held for longer than the deadline */
  tracker_commit_end (t, true, OWNER_FENCED);
  CU_ASSERT_EQUAL_FATAL (status (t).gate, GATE_COMMITTED);
  g.waits = 0;
  while (g.waits == 0)
    ; /* still */
  CU_ASSERT_EQUAL (tracker_enter_read (t, &read), TRACKER_WAIT);
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTED);
  CU_ASSERT_EQUAL (status (t).gates_expired, expired);

  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), 0);
  tracker_commit_end (t, false, OWNER_SOURCE);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN); /* nothing to wait for */
  CU_ASSERT_EQUAL (status (t).gates_expired, expired + 1);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (g.verdict, TRACKER_PASS);
  CU_ASSERT_EQUAL (g.owner, OWNER_SOURCE);
  CU_ASSERT_EQUAL (tracker_enter_read (t, &read), TRACKER_PASS);
  finish (t);
}

/* It ends: with the new owner, as nobody took it back. */
static void
test_patience_ends (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;
  const uint64_t token = begin_commit_of_several (t, 20, 30);

  tracker_commit_end (t, true, OWNER_DESTINATION);
  enter (t, &req, 0, 1); /* with nobody else about */
  CU_ASSERT_EQUAL (req.route.owner, OWNER_DESTINATION);
  tracker_leave (t, &req);
  CU_ASSERT (status (t).last_pause_us >= 50000);
  CU_ASSERT_EQUAL (tracker_rollback_begin (t, token), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);
  finish (t);
}

/* The migrator dies before it could release: no reason to wait any longer. */
static void
test_session_end_in_patience (void)
{
  struct tracker *t = new_clean_session ();

  begin_commit_of_several (t, LONG_MS, LONG_MS);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  tracker_end_session (t);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT_EQUAL (tracker_owner (t), OWNER_DESTINATION);
  finish (t);
}

static void
test_session_end_in_commit (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;

  begin_commit (t, LONG_MS);
  tracker_end_session (t);
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTING); /* R10 */
  CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_WAIT);
  tracker_give_up (t, &req);
  tracker_commit_end (t, false, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT_EQUAL (status (t).gates_expired, 0);
  enter (t, &req, 0, 1);
  CU_ASSERT_EQUAL (req.route.owner, OWNER_SOURCE);
  tracker_leave (t, &req);

  /* It was for that commit only. */
  copy_all (t);
  begin_commit (t, LONG_MS);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTED);
  tracker_end_session (t);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  finish (t);
}

/* The deadline passes as well, and it is not the gate's that counts. */
static void
test_session_end_in_late_commit (void)
{
  struct tracker *t = new_clean_session ();
  struct guest g = { .t = t };
  pthread_t thread;
  uint64_t expired;

  begin_commit (t, 20);
  expired = status (t).gates_expired;
  tracker_end_session (t);
  start_guest (&g, &thread);
  while (g.waits == 0)
    ; /* it was held for longer than the deadline */
  CU_ASSERT_EQUAL (status (t).gate, GATE_COMMITTING);
  tracker_commit_end (t, false, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  CU_ASSERT_EQUAL (status (t).gates_expired, expired);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (g.owner, OWNER_SOURCE);
  finish (t);
}

/* With tracking off, requests would pass a shut gate. */
static void
test_stop_in_commit (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request req = TRACKER_REQUEST_INIT;

  begin_commit (t, LONG_MS);
  tracker_stop (t);
  CU_ASSERT (tracker_is_tracking (t));
  CU_ASSERT_EQUAL (tracker_enter (t, &req, 0, 1), TRACKER_WAIT);
  tracker_give_up (t, &req);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT_FALSE (tracker_is_tracking (t));
  CU_ASSERT_EQUAL (status (t).gate, GATE_OPEN);
  enter (t, &req, 0, 1);
  CU_ASSERT_FALSE (req.listed);
  CU_ASSERT_EQUAL (req.route.owner, OWNER_DESTINATION);
  tracker_leave (t, &req);
  tracker_free (t);
}

static void *
begin_thread (void *t)
{
  tracker_begin (t, true, true);
  return NULL;
}

static void
test_begin_in_commit (void)
{
  struct tracker *t = new_clean_session ();
  pthread_t thread;

  begin_commit (t, LONG_MS);
  tracker_stop (t);
  CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, begin_thread, t), 0);
  tracker_commit_end (t, false, OWNER_SOURCE);
  pthread_join (thread, NULL);
  CU_ASSERT (tracker_is_tracking (t)); /* after the stop, whole */
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));
  finish (t);
}

/* After a pivot the destination is the source of the next migration.  A request
 * that went to it before may end after: it is waited for (R1), and it marks
 * what it wrote.
 */
static void
test_move_on (void)
{
  struct tracker *t = new_clean_session ();
  struct tracker_request uncounted = TRACKER_REQUEST_INIT;
  struct tracker_request listed = TRACKER_REQUEST_INIT;
  struct route route;
  uint64_t pause_us;
  uint64_t token;

  CU_ASSERT (tracker_route (t, &route));
  CU_ASSERT_EQUAL (route.place, 0);
  tracker_promote (t); /* is none */
  CU_ASSERT_EQUAL (tracker_owner (t), OWNER_SOURCE);

  token = begin_commit (t, LONG_MS);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT (tracker_fallback (t, &route));
  CU_ASSERT_EQUAL (route.place, 0);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  CU_ASSERT_FALSE (tracker_fallback (t, &route));
  enter (t, &listed, CHUNK, 1);
  CU_ASSERT_EQUAL (listed.route.place, 1);
  tracker_stop (t);
  enter (t, &uncounted, 2 * CHUNK, 1);

  tracker_promote (t);
  tracker_set_place (t, OWNER_DESTINATION, 2);
  CU_ASSERT_FALSE (tracker_begin (t, true, false));
  CU_ASSERT (tracker_route (t, &route));
  CU_ASSERT_EQUAL (route.owner, OWNER_SOURCE);
  CU_ASSERT_EQUAL (route.place, 1);
  CU_ASSERT_FALSE (tracker_wait_settled (t, 0));

  /* It came to nothing, and begins again. */
  tracker_end_session (t);
  tracker_demote (t, 0);
  tracker_stop (t);
  CU_ASSERT (tracker_route (t, &route));
  CU_ASSERT_EQUAL (route.owner, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (route.place, 1);
  CU_ASSERT_EQUAL (tracker_place (t, OWNER_SOURCE), 0);
  CU_ASSERT_FALSE (status (t).tracking);
  tracker_promote (t);
  tracker_set_place (t, OWNER_DESTINATION, 2);
  CU_ASSERT_FALSE (tracker_begin (t, true, true));

  tracker_leave (t, &uncounted);
  CU_ASSERT (tracker_wait_settled (t, 0));
  copy_all (t);
  tracker_leave (t, &listed);
  CU_ASSERT (bytes (t, CHUNK, 0, 0, 0));

  copy_all (t);
  begin_commit (t, LONG_MS);
  tracker_commit_end (t, true, OWNER_DESTINATION);
  CU_ASSERT (tracker_route (t, &route));
  CU_ASSERT_EQUAL (route.place, 2);
  CU_ASSERT (tracker_fallback (t, &route));
  CU_ASSERT_EQUAL (route.place, 1);
  tracker_end_session (t);
  finish (t);
}

/* ---- Odd disks --------------------------------------------------------- */

static void
test_empty_disk (void)
{
  struct tracker *t = tracker_new (0, CHUNK, OWNER_SOURCE);
  struct tracker_request req = TRACKER_REQUEST_INIT;
  uint64_t pause_us;

  CU_ASSERT_PTR_NOT_NULL_FATAL (t);
  tracker_begin (t, false, true);
  CU_ASSERT (tracker_wait_settled (t, 0));
  CU_ASSERT (bytes (t, 0, 0, 0, 0));

  CLEANUP_EXTENTS struct extents e = take_all (t);

  CU_ASSERT_EQUAL (e.n, 0);
  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  flush (t, true);
  tracker_lost (t, NULL);
  enter (t, &req, 0, 0);
  tracker_leave (t, &req);

  const uint64_t token = begin_commit (t, LONG_MS);

  tracker_commit_end (t, true, OWNER_SOURCE);
  CU_ASSERT_EQUAL (tracker_release (t, token, &pause_us), 0);
  tracker_end_session (t);
  finish (t);
}

static void
test_tiny_disk (void)
{
  struct tracker *t = tracker_new (1, 1 << 16, OWNER_SOURCE);

  CU_ASSERT_PTR_NOT_NULL_FATAL (t);
  tracker_begin (t, false, true);
  CU_ASSERT (bytes (t, 1, 0, 0, 0));
  copy_all (t);
  guest_write (t, 0, 1);
  CU_ASSERT (bytes (t, 1, 0, 0, 0));
  finish (t);
}

static void
test_set_owner (void)
{
  struct tracker *t = tracker_new (DISK, CHUNK, OWNER_FENCED);

  tracker_set_owner (t, OWNER_SOURCE, true);
  CU_ASSERT_FALSE (tracker_is_tracking (t));
  CU_ASSERT_FALSE (tracker_begin (t, true, true));
  copy_all (t);
  tracker_end_session (t);
  tracker_set_owner (t, OWNER_SOURCE, true);
  CU_ASSERT (tracker_begin (t, true, true));
  CU_ASSERT (bytes (t, DISK, 0, 0, 0));
  finish (t);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "new", test_new },
    { "requests while tracking is off", test_untracked },
    { "fenced and unknown owner", test_not_served },
    { "settle (R1)", test_settle },
    { "begin, resumed or not", test_begin },
    { "chunks of another size (R19)", test_set_chunk },
    { "begin over a session that was not ended", test_begin_over },
    { "mark at the end (R2)", test_mark },
    { "of unknown outcome while compared (R17)", test_unknown_while_compared },
    { "kinds of dirt", test_dirt },
    { "what is hot waits", test_hot },
    { "stop", test_stop },
    { "take (R3, R4)", test_take },
    { "touched (R18)", test_touched },
    { "skipped (R18, R1)", test_skipped },
    { "put back (R18)", test_put_back },
    { "done (R5)", test_done },
    { "failed (R5, R17)", test_failed },
    { "ranges that are not leased chunks", test_bad_leases },
    { "flush (R6)", test_flush },
    { "lost (R6a)", test_lost },
    { "a flush that fails before a loss", test_flush_before_loss },
    { "a flush over a loss", test_flush_over_loss },
    { "end of the session (R7)", test_session_end },
    { "compare", test_compare },
    { "compare what is written meanwhile", test_compare_touched },
    { "quarantine (R17)", test_quarantine },
    { "the grace follows the delays (R17)", test_quarantine_delays },
    { "what was quarantined takes a flush", test_quarantine_flush },
    { "hold and release (R8)", test_hold },
    { "drain (R9)", test_drain },
    { "deadline (R8)", test_expiry },
    { "a request held", test_held },
    { "a chain of holds", test_chain_of_holds },
    { "wake", test_wake },
    { "what a commit needs (R10)", test_commit_conditions },
    { "detach", test_detach },
    { "pivot", test_pivot },
    { "handover", test_handover },
    { "commit of a disk that is not the source's", test_commit_wrong_owner },
    { "commit that is not recorded", test_not_recorded },
    { "rollback", test_rollback },
    { "deadline between check and record (R10)", test_late_record },
    { "deadline after the record", test_committed_expires },
    { "waiting for the records of other disks (R10)", test_patience },
    { "such waiting comes to an end", test_patience_ends },
    { "end of the session in such waiting", test_session_end_in_patience },
    { "end of the session in a commit (R10)", test_session_end_in_commit },
    { "the session ends in a late commit", test_session_end_in_late_commit },
    { "stop in a commit", test_stop_in_commit },
    { "begin in a commit", test_begin_in_commit },
    { "a disk of 0 bytes", test_empty_disk },
    { "a disk of 1 byte", test_tiny_disk },
    { "set owner (R20)", test_set_owner },
    { "moved on", test_move_on },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("tracker", tests);
}
