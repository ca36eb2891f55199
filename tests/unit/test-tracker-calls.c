/* SPDX-License-Identifier: BSD-3-Clause */
/* The tracker without memory: each allocation fails, once, and each and all
 * that follow it.
 *
 * It refuses, and what it knows is as before: nothing is leased that the caller
 * has not got (R3), and nothing ends as compared that nobody heard of.
 */

#include <assert.h>
#include <stdbool.h>

#include "extents.h"
#include "tracker/tracker.h"
#include "failing-calls.h"
#include "unit.h"

#define CHUNK UINT64_C (4096)
#define CHUNKS 100 /* so many that a list of every other one grows twice */
#define DISK (CHUNKS * CHUNK)
#define MANY 1000

static struct tracker *tracker;
static struct extents found, given;

/* ---- Every allocation --------------------------------------------------- */

static struct tracker_status
status (void)
{
  struct tracker_status s;

  tracker_get_status (tracker, &s);
  return s;
}

static bool
is_same (const struct tracker_status *a, const struct tracker_status *b)
{
  return a->dirty_bytes == b->dirty_bytes &&
         a->leased_bytes == b->leased_bytes &&
         a->unflushed_bytes == b->unflushed_bytes &&
         a->quarantined_bytes == b->quarantined_bytes;
}

/* False: no allocation is the n-th. */
static bool
try_allocation (int (*act) (void), unsigned long n, bool lasts)
{
  const struct tracker_status before = status ();
  struct tracker_status after;
  int r;

  extents_free (&found);
  failing_arm (n, lasts);
  r = act ();
  failing_disarm ();
  if (failing.failed == 0) {
    CU_ASSERT_EQUAL (r, 0);
    return false;
  }
  CU_ASSERT_EQUAL (r, -1);
  CU_ASSERT_EQUAL (errno, ENOMEM);
  after = status ();
  CU_ASSERT (is_same (&before, &after));
  return true;
}

static void
try_all (int (*act) (void))
{
  for (unsigned long n = 0; try_allocation (act, n, true); n++)
    ;
  for (unsigned long n = 0; try_allocation (act, n, false); n++)
    ;
}

/* ---- A session ---------------------------------------------------------- */

static void
begin (void)
{
  tracker = tracker_new (DISK, CHUNK, OWNER_SOURCE);
  CU_ASSERT_PTR_NOT_NULL_FATAL (tracker);
  tracker_begin (tracker, false, true);
  CU_ASSERT (tracker_wait_settled (tracker, 0));
}

static void
end (void)
{
  extents_free (&found);
  extents_free (&given);
  tracker_stop (tracker);
  tracker_free (tracker);
}

/* All is leased, and not yet read. */
static void
lease_all (void)
{
  uint64_t next;

  CU_ASSERT_EQUAL (tracker_take (tracker, 0, UINT64_MAX, MANY, &given, &next),
                   0);
}

static void
copy_all (void)
{
  uint64_t epoch;

  lease_all ();
  CU_ASSERT_EQUAL (tracker_done (tracker, &given, tracker_epoch (tracker)), 0);
  CU_ASSERT_EQUAL (tracker_flush_begin (tracker, &epoch), 0);
  CU_ASSERT_EQUAL (tracker_flush_end (tracker, true, epoch), 0);
  extents_free (&given);
}

/* Every other chunk. */
static void
guest_writes (void)
{
  for (uint64_t i = 0; i < CHUNKS; i += 2) {
    struct tracker_request req = TRACKER_REQUEST_INIT;

    CU_ASSERT_EQUAL_FATAL (tracker_enter (tracker, &req, i * CHUNK, CHUNK),
                           TRACKER_PASS);
    tracker_leave (tracker, &req);
  }
}

/* ---- Tests -------------------------------------------------------------- */

static int
act_new (void)
{
  struct tracker *t = tracker_new (DISK, CHUNK, OWNER_SOURCE);

  if (t == NULL)
    return -1;
  tracker_free (t);
  return 0;
}

static void
test_new (void)
{
  begin ();
  try_all (act_new);
  end ();
}

static int
act_set_chunk (void)
{
  return tracker_set_chunk (tracker, 2 * CHUNK);
}

/* What was leased, and the size of a chunk, stay as well. */
static void
test_set_chunk (void)
{
  begin ();
  tracker_stop (tracker);
  for (unsigned long n = 0; try_allocation (act_set_chunk, n, true); n++)
    CU_ASSERT_EQUAL (status ().chunk_bytes, CHUNK);
  CU_ASSERT_EQUAL (status ().chunk_bytes, 2 * CHUNK);
  end ();
}

static int
act_take (void)
{
  uint64_t next;

  return tracker_take (tracker, 0, UINT64_MAX, MANY, &found, &next);
}

static void
test_take (void)
{
  begin ();
  copy_all ();
  guest_writes ();
  for (unsigned long n = 0; try_allocation (act_take, n, false); n++)
    ;
  CU_ASSERT_EQUAL (found.n, CHUNKS / 2);
  CU_ASSERT_EQUAL (status ().leased_bytes, extents_bytes (&found));
  end ();
}

static int
act_compare (void)
{
  uint64_t next;

  return tracker_compare (tracker, false, 0, UINT64_MAX, MANY, &found, &next);
}

static void
test_compare (void)
{
  begin ();
  copy_all ();
  guest_writes ();
  for (unsigned long n = 0; try_allocation (act_compare, n, false); n++)
    ;
  CU_ASSERT_EQUAL (found.n, CHUNKS / 2);
  end ();
}

static int
act_differ (void)
{
  return tracker_compared (tracker, &given, false, &found);
}

/* The lease stays, to be ended another way. */
static void
test_differ (void)
{
  uint64_t next;

  begin ();
  copy_all ();
  CU_ASSERT_EQUAL (
    tracker_compare (tracker, false, 0, UINT64_MAX, MANY, &given, &next), 0);
  guest_writes ();
  for (unsigned long n = 0; try_allocation (act_differ, n, false); n++)
    ;
  CU_ASSERT_EQUAL (found.n, CHUNKS / 2);
  CU_ASSERT_EQUAL (status ().dirty_bytes, DISK);
  end ();
}

static int
act_untouched (void)
{
  uint64_t limit;

  return tracker_untouched (tracker, &given, MANY, &found, &limit);
}

static void
test_untouched (void)
{
  begin ();
  lease_all ();
  guest_writes ();
  try_all (act_untouched);
  CU_ASSERT_EQUAL (found.n, CHUNKS / 2);
  end ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a new one", test_new },
    { "another size of chunks", test_set_chunk },
    { "a lease", test_take },
    { "a lease for comparing", test_compare },
    { "what differs", test_differ },
    { "what was not touched", test_untouched },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("tracker without memory", tests);
}
