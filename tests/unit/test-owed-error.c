/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is told of an error that is owed, and when that is kept (R13). */

#include "relay/owed-error.h"
#include "unit.h"

static struct owed_error o;
static int calls, result;
static bool kept;

static int
keep (void *opaque, bool owed)
{
  CU_ASSERT_PTR_EQUAL (opaque, &o);
  ++calls;
  if (result == 0)
    kept = owed;
  return result;
}

static void
begin (bool owed)
{
  calls = result = 0;
  kept = owed;
  owed_error_init (&o, owed, keep, &o);
}

static void
settled (bool owed, int expected_calls)
{
  owed_error_settle (&o);
  CU_ASSERT_EQUAL (kept, owed);
  CU_ASSERT_EQUAL (calls, expected_calls);
}

/* Connections that were there are told once each, whenever they ask. */
static void
test_connections (void)
{
  uint64_t one, two;

  begin (false);
  one = two = owed_error_seen (&o);
  CU_ASSERT_FALSE (owed_error_tell (&o, &one));
  owed_error_raise (&o, NULL);
  CU_ASSERT_TRUE (owed_error_tell (&o, &one));
  CU_ASSERT_FALSE (owed_error_tell (&o, &one));
  owed_error_raise (&o, NULL);
  owed_error_raise (&o, NULL);
  CU_ASSERT_TRUE (owed_error_tell (&o, &two));
  CU_ASSERT_FALSE (owed_error_tell (&o, &two));
  CU_ASSERT_TRUE (owed_error_tell (&o, &one));
  CU_ASSERT_EQUAL (owed_error_count (&o), 3);
  owed_error_destroy (&o);
}

/* One that begins later is told only of what nobody was told of. */
static void
test_later (void)
{
  uint64_t first, second, third;

  begin (false);
  owed_error_raise (&o, NULL);
  first = owed_error_seen (&o);
  second = owed_error_seen (&o);
  CU_ASSERT_TRUE (owed_error_tell (&o, &first));
  third = owed_error_seen (&o);
  CU_ASSERT_TRUE (owed_error_tell (&o, &third)); /* the first one may be gone */
  owed_error_heard (&o, first);
  third = owed_error_seen (&o);
  CU_ASSERT_FALSE (owed_error_tell (&o, &third));
  CU_ASSERT_TRUE (owed_error_tell (&o, &second)); /* it was there before */
  owed_error_destroy (&o);
}

/* The error of a flush tells its own connection, if that has missed nothing. */
static void
test_own_flush (void)
{
  uint64_t one, two, behind, later;

  begin (false);
  one = two = behind = owed_error_seen (&o);
  owed_error_raise (&o, &one);
  CU_ASSERT_FALSE (owed_error_tell (&o, &one));
  CU_ASSERT_TRUE (owed_error_tell (&o, &two));
  later = owed_error_seen (&o);
  CU_ASSERT_TRUE (owed_error_tell (&o, &later));
  owed_error_heard (&o, one);
  later = owed_error_seen (&o);
  CU_ASSERT_FALSE (owed_error_tell (&o, &later));
  settled (false, 0);
  owed_error_raise (&o, &behind);
  CU_ASSERT_TRUE (owed_error_tell (&o, &behind));
  owed_error_raise (&o, NULL);
  later = owed_error_seen (&o);
  CU_ASSERT_TRUE (owed_error_tell (&o, &later));
  owed_error_destroy (&o);
}

static void
test_kept (void)
{
  uint64_t seen;

  begin (false);
  settled (false, 0);
  owed_error_raise (&o, NULL);
  CU_ASSERT_FALSE (kept);
  settled (true, 1);
  settled (true, 1);
  owed_error_raise (&o, NULL);
  settled (true, 1);
  seen = owed_error_seen (&o);
  CU_ASSERT_TRUE (owed_error_tell (&o, &seen));
  settled (true, 1); /* to one that may be gone */
  owed_error_heard (&o, seen);
  owed_error_heard (&o, seen - 1);
  CU_ASSERT_TRUE (kept); /* the answer has not been sent yet */
  result = -1;
  settled (true, 2);
  result = 0;
  settled (false, 3);
  owed_error_destroy (&o);

  /* The next process. */
  begin (true);
  settled (true, 0);
  seen = owed_error_seen (&o);
  CU_ASSERT_TRUE (owed_error_tell (&o, &seen));
  owed_error_heard (&o, seen);
  seen = owed_error_seen (&o);
  CU_ASSERT_FALSE (owed_error_tell (&o, &seen));
  settled (false, 1);
  owed_error_destroy (&o);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "connections", test_connections },
    { "later ones", test_later },
    { "its own flush", test_own_flush },
    { "kept", test_kept },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("owed-error", tests);
}
