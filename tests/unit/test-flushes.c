/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes that are under way together, and what one of them may have lost (R13,
 * R14).
 */

#include <assert.h>
#include <pthread.h>
#include <sched.h>

#include "export/flushes.h"
#include "unit.h"

static struct flushes f;
static struct flush_entry guest, own, other;

static void
begin (void)
{
  flushes_init (&f);
}

static void
end (void)
{
  CU_ASSERT_PTR_NULL (f.under_way);
  flushes_destroy (&f);
}

/* One that is alone: what 'answered' says, and what comes of it. */
static bool
flush (enum flush_kind kind, int answer)
{
  struct flush_entry e;
  bool lost;

  flushes_enter (&f, &e, kind);
  lost = flushes_answered (&f, &e, answer);
  CU_ASSERT_EQUAL (flushes_leave (&f, &e), answer);
  return lost;
}

/* ---- What may be lost --------------------------------------------------- */

static void
test_nothing_written (void)
{
  begin ();
  CU_ASSERT_FALSE (flush (FLUSH_OWN, 0));
  CU_ASSERT_FALSE (flush (FLUSH_OWN, -1));
  CU_ASSERT_FALSE (flushes_have_failed (&f));
  flushes_wrote (&f);
  CU_ASSERT_FALSE (flush (FLUSH_GUEST, 0));
  CU_ASSERT_FALSE (flush (FLUSH_OWN, -1));
  CU_ASSERT_FALSE (flushes_have_failed (&f));
  CU_ASSERT_FALSE (flushes_lose (&f));
  end ();
}

static void
test_written (void)
{
  begin ();
  flushes_wrote (&f);
  CU_ASSERT_TRUE (flush (FLUSH_OWN, -1));
  CU_ASSERT_TRUE (flushes_have_failed (&f));
  CU_ASSERT_FALSE (flush (FLUSH_OWN, -1)); /* that is owed already */
  CU_ASSERT_FALSE (flush (FLUSH_OWN, 0));
  CU_ASSERT_TRUE (flushes_have_failed (&f)); /* what was lost is lost */
  end ();
}

/* A write that is under way when the flush begins, and before it fails. */
static void
test_beside_a_write (void)
{
  begin ();
  flushes_enter (&f, &own, FLUSH_OWN);
  flushes_wrote (&f);
  CU_ASSERT_TRUE (flushes_answered (&f, &own, -1));
  CU_ASSERT_EQUAL (flushes_leave (&f, &own), -1);
  end ();
}

static void
test_guest_fails (void)
{
  begin ();
  CU_ASSERT_FALSE (flush (FLUSH_GUEST, -1)); /* it has heard of it itself */
  CU_ASSERT_TRUE (flushes_have_failed (&f));
  CU_ASSERT_FALSE (flushes_lose (&f));
  flushes_wrote (&f);
  CU_ASSERT_FALSE (flush (FLUSH_GUEST, -1));
  CU_ASSERT_TRUE (flushes_lose (&f));
  CU_ASSERT_FALSE (flushes_lose (&f));
  end ();
}

/* The server goes while a guest's flush is under way. */
static void
test_lose (void)
{
  begin ();
  flushes_wrote (&f);
  flushes_enter (&f, &guest, FLUSH_GUEST);
  CU_ASSERT_TRUE (flushes_lose (&f));
  flushes_answered (&f, &guest, 0);
  CU_ASSERT_FALSE (flushes_lose (&f));
  CU_ASSERT_EQUAL (flushes_leave (&f, &guest), 0);
  end ();
}

static void
test_fua (void)
{
  begin ();
  flushes_wrote (&f);
  CU_ASSERT_FALSE (flush (FLUSH_FUA, 0));
  CU_ASSERT_TRUE (flushes_lose (&f)); /* it was about its own bytes only */
  flushes_enter (&f, &guest, FLUSH_FUA);
  CU_ASSERT_TRUE (flush (FLUSH_OWN, -1));
  flushes_answered (&f, &guest, 0);
  CU_ASSERT_EQUAL (flushes_leave (&f, &guest), -1);
  end ();
}

/* ---- Together ----------------------------------------------------------- */

static int left;

static void *
leave (void *opaque)
{
  left = flushes_leave (&f, opaque);
  return NULL;
}

static bool
is_waiting (const struct flush_entry *e)
{
  bool r;

  pthread_mutex_lock (&f.lock);
  r = e->waits;
  pthread_mutex_unlock (&f.lock);
  return r;
}

/* 'first' has succeeded and waits for 'second', which answers that. */
static int
leave_beside (struct flush_entry *first, struct flush_entry *second, int answer)
{
  pthread_t thread;

  assert (pthread_create (&thread, NULL, leave, first) == 0);
  while (!is_waiting (first))
    sched_yield ();
  flushes_answered (&f, second, answer);
  pthread_mutex_lock (&f.lock);
  CU_ASSERT_PTR_NOT_NULL (f.under_way->next); /* both are there still */
  pthread_mutex_unlock (&f.lock);
  flushes_leave (&f, second);
  pthread_join (thread, NULL);
  return left;
}

static int
together (enum flush_kind first, enum flush_kind second, int answer)
{
  flushes_wrote (&f);
  flushes_enter (&f, &guest, first);
  flushes_enter (&f, &own, second);
  flushes_answered (&f, &guest, 0);
  return leave_beside (&guest, &own, answer);
}

static void
test_waits (void)
{
  begin ();
  CU_ASSERT_EQUAL (together (FLUSH_GUEST, FLUSH_OWN, 0), 0);
  CU_ASSERT_EQUAL (together (FLUSH_OWN, FLUSH_GUEST, 0), 0);
  CU_ASSERT_EQUAL (together (FLUSH_FUA, FLUSH_OWN, 0), 0);
  CU_ASSERT_FALSE (flushes_have_failed (&f));
  CU_ASSERT_EQUAL (together (FLUSH_GUEST, FLUSH_OWN, -1), -1);
  CU_ASSERT_EQUAL (together (FLUSH_FUA, FLUSH_OWN, -1), -1);
  CU_ASSERT_EQUAL (together (FLUSH_OWN, FLUSH_OWN, -1), -1);
  /* The guest was told; the filter's looks whether one has failed. */
  CU_ASSERT_EQUAL (together (FLUSH_OWN, FLUSH_GUEST, -1), 0);
  CU_ASSERT_TRUE (flushes_have_failed (&f));
  end ();
}

/* The server quits while one waits, and before another one would. */
static void
test_stop (void)
{
  pthread_t thread;

  begin ();
  flushes_enter (&f, &own, FLUSH_OWN);
  flushes_enter (&f, &guest, FLUSH_GUEST);
  flushes_answered (&f, &guest, 0);
  assert (pthread_create (&thread, NULL, leave, &guest) == 0);
  while (!is_waiting (&guest))
    sched_yield ();
  flushes_stop (&f);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (left, -1);
  CU_ASSERT_TRUE (guest.stopped);
  flushes_enter (&f, &other, FLUSH_FUA); /* it waits no more */
  flushes_answered (&f, &other, 0);
  CU_ASSERT_EQUAL (flushes_leave (&f, &other), -1);
  flushes_answered (&f, &own, 0);
  CU_ASSERT_EQUAL (flushes_leave (&f, &own), 0);
  CU_ASSERT_FALSE (own.stopped);
  end ();
}

/* What a guest's flush that is under way took is owed, if it was lost to one of
 * the filter's.
 */
static void
test_taken (void)
{
  begin ();
  flushes_wrote (&f);
  flushes_enter (&f, &guest, FLUSH_GUEST);
  flushes_enter (&f, &own, FLUSH_OWN);
  CU_ASSERT_TRUE (flushes_answered (&f, &own, -1));
  flushes_drop (&f, &own);
  flushes_answered (&f, &guest, 0);
  CU_ASSERT_EQUAL (flushes_leave (&f, &guest), -1);
  end ();
}

/* Nobody waits for what began later, a guest's for a guest's, or one that is
 * dropped.
 */
static void
test_waits_not (void)
{
  begin ();
  flushes_enter (&f, &guest, FLUSH_GUEST);
  flushes_enter (&f, &other, FLUSH_FUA);
  flushes_answered (&f, &guest, 0);
  CU_ASSERT_EQUAL (flushes_leave (&f, &guest), 0);
  flushes_enter (&f, &own, FLUSH_OWN);
  flushes_answered (&f, &own, 0);
  flushes_drop (&f, &own);
  flushes_answered (&f, &other, 0);
  CU_ASSERT_EQUAL (flushes_leave (&f, &other), 0);
  end ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "nothing was written", test_nothing_written },
    { "something was", test_written },
    { "beside a write", test_beside_a_write },
    { "a guest's fails", test_guest_fails },
    { "the server goes", test_lose },
    { "with FUA", test_fua },
    { "one waits for another", test_waits },
    { "what a guest's took", test_taken },
    { "one waits for no other", test_waits_not },
    { "the server quits", test_stop },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("flushes", tests);
}
