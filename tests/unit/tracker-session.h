/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tracker's tests have in common: short ways to begin a session, and
 * to be the migrator of a small disk: four chunks of 64 bytes and a last one of
 * 10.
 */

#ifndef NBDMIGRATE_TRACKER_SESSION_H
#define NBDMIGRATE_TRACKER_SESSION_H

#include <stdbool.h>

#include "tracker/tracker.h"
#include "unit.h"

#define CHUNK UINT64_C (64)
#define DISK (4 * CHUNK + 10)
#define MANY 100

static inline struct tracker *
new_tracker (void)
{
  struct tracker *t = tracker_new (DISK, CHUNK, OWNER_SOURCE);

  CU_ASSERT_PTR_NOT_NULL_FATAL (t);
  return t;
}

static inline struct tracker_status
status (struct tracker *t)
{
  struct tracker_status s;

  tracker_get_status (t, &s);
  return s;
}

/* A tracker whose session has just begun, everything dirty. */
static inline struct tracker *
new_session (void)
{
  struct tracker *t = new_tracker ();

  CU_ASSERT_FALSE (tracker_begin (t, false, true));
  CU_ASSERT (tracker_wait_settled (t, 0));
  return t;
}

/* All ranges from the cursor on. */
static inline struct extents
take_all (struct tracker *t)
{
  struct extents e = EXTENTS_EMPTY;
  uint64_t next = 0;

  CU_ASSERT_EQUAL (tracker_take (t, 0, UINT64_MAX, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (next, status (t).disk_bytes);
  return e;
}

static inline struct extents
compare_all (struct tracker *t, bool quarantined)
{
  struct extents e = EXTENTS_EMPTY;
  uint64_t next = 0;

  CU_ASSERT_EQUAL (
    tracker_compare (t, quarantined, 0, UINT64_MAX, MANY, &e, &next), 0);
  CU_ASSERT_EQUAL (next, status (t).disk_bytes);
  return e;
}

static inline void
flush (struct tracker *t, bool success)
{
  uint64_t epoch = 0;

  CU_ASSERT_EQUAL (tracker_flush_begin (t, &epoch), 0);
  CU_ASSERT_EQUAL (tracker_flush_end (t, success, epoch), 0);
}

/* Copy whatever is dirty and flush it. */
static inline void
copy_all (struct tracker *t)
{
  CLEANUP_EXTENTS struct extents e = take_all (t);

  CU_ASSERT_EQUAL (tracker_done (t, &e, tracker_epoch (t)), 0);
  flush (t, true);
}

static inline struct tracker *
new_clean_session (void)
{
  struct tracker *t = new_session ();

  copy_all (t);
  CU_ASSERT_EQUAL (status (t).remaining_bytes, 0);
  return t;
}

#endif /* NBDMIGRATE_TRACKER_SESSION_H */
