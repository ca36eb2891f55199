/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate's state machine, on a clock of its own (R8, R10). */

#include "tracker/gate.h"
#include "unit.h"

/* A new gate, shut from 1000 to 2000.  Returns the token. */
static uint64_t
shut (struct gate *g)
{
  gate_init (g);
  return gate_close (g, 1000, 2000);
}

/* As a commit does that is recorded, or is not. */
static void
commit (struct gate *g, int64_t patience_us, bool recorded)
{
  gate_commit (g, patience_us);
  gate_committed (g, recorded);
}

static void
test_open (void)
{
  struct gate g;

  gate_init (&g);
  CU_ASSERT_EQUAL (g.state, GATE_OPEN);
  CU_ASSERT_FALSE (gate_expire (&g, INT64_MAX));
  CU_ASSERT_FALSE (gate_valid (&g, 0));
  CU_ASSERT_FALSE (gate_valid (&g, 1));
  gate_open (&g, 5); /* no harm */
  CU_ASSERT_EQUAL (g.state, GATE_OPEN);
  CU_ASSERT_EQUAL (g.last_pause_us, 0);
}

static void
test_close_and_open (void)
{
  struct gate g;
  const uint64_t first = shut (&g);

  CU_ASSERT_NOT_EQUAL (first, 0);
  CU_ASSERT_EQUAL (g.state, GATE_CLOSED);
  CU_ASSERT (gate_valid (&g, first));
  CU_ASSERT_FALSE (gate_valid (&g, first + 1));
  CU_ASSERT_FALSE (gate_valid (&g, 0));
  CU_ASSERT_EQUAL (gate_close (&g, 1001, 3000), 0); /* closed already */
  CU_ASSERT_EQUAL (g.deadline_us, 2000);
  gate_open (&g, 1234);
  CU_ASSERT_EQUAL (g.state, GATE_OPEN);
  CU_ASSERT_EQUAL (g.last_pause_us, 234);
  CU_ASSERT_FALSE (gate_valid (&g, first));

  const uint64_t second = gate_close (&g, 5000, 6000);

  CU_ASSERT_NOT_EQUAL (second, first);
  CU_ASSERT_FALSE (gate_valid (&g, first)); /* of an earlier hold */
  CU_ASSERT (gate_valid (&g, second));
}

static void
test_deadline (void)
{
  struct gate g;
  const uint64_t token = shut (&g);

  CU_ASSERT_FALSE (gate_expire (&g, 1999));
  CU_ASSERT (gate_valid (&g, token));
  CU_ASSERT (gate_expire (&g, 9000));
  CU_ASSERT_EQUAL (g.state, GATE_OPEN);
  CU_ASSERT_EQUAL (g.last_pause_us, 1000); /* it ended at the deadline */
  CU_ASSERT_FALSE (gate_valid (&g, token));
  CU_ASSERT_FALSE (gate_expire (&g, 9001));

  gate_close (&g, 10000, 10000);
  CU_ASSERT (gate_expire (&g, 10000));
  CU_ASSERT_EQUAL (g.last_pause_us, 0);
}

static void
test_commit (void)
{
  struct gate g;
  const uint64_t token = shut (&g);

  gate_commit (&g, 0);
  CU_ASSERT_EQUAL (g.state, GATE_COMMITTING);
  CU_ASSERT_FALSE (gate_expire (&g, 5000)); /* R10 */
  CU_ASSERT (gate_valid (&g, token));
  CU_ASSERT_EQUAL (gate_close (&g, 5000, 6000), 0);
  gate_committed (&g, true);
  CU_ASSERT_EQUAL (g.state, GATE_COMMITTED);
  CU_ASSERT (gate_valid (&g, token));
  gate_open (&g, 5500);
  CU_ASSERT_EQUAL (g.state, GATE_OPEN);
  CU_ASSERT_EQUAL (g.last_pause_us, 4500);
}

static void
test_committed_deadline (void)
{
  struct gate g;

  shut (&g);
  commit (&g, 0, true);
  CU_ASSERT_FALSE (gate_expire (&g, 1500));
  CU_ASSERT (gate_expire (&g, 2000)); /* it counts again */
  CU_ASSERT_EQUAL (g.state, GATE_OPEN);
}

/* R10: with other disks to wait for, it stays shut longer once it is recorded,
 * and only then.
 */
static void
test_patience (void)
{
  struct gate g;
  const uint64_t token = shut (&g);

  gate_commit (&g, 500);
  CU_ASSERT_EQUAL (gate_deadline_us (&g), 2000);
  gate_committed (&g, true);
  CU_ASSERT_EQUAL (gate_deadline_us (&g), 2500);
  CU_ASSERT_FALSE (gate_expire (&g, 2499));
  CU_ASSERT (gate_valid (&g, token));
  CU_ASSERT (gate_expire (&g, 3000));
  CU_ASSERT_EQUAL (g.last_pause_us, 1500);
  CU_ASSERT_FALSE (gate_valid (&g, token));

  /* Taken back, the deadline is what it was. */
  gate_close (&g, 4000, 5000);
  commit (&g, 500, true);
  gate_uncommit (&g);
  gate_committed (&g, false);
  CU_ASSERT_EQUAL (gate_deadline_us (&g), 5000);
  CU_ASSERT (gate_expire (&g, 5000));

  /* It was for that commit only. */
  gate_close (&g, 6000, 7000);
  commit (&g, 0, true);
  CU_ASSERT (gate_expire (&g, 7000));
}

static void
test_not_recorded (void)
{
  struct gate g;
  const uint64_t token = shut (&g);

  commit (&g, 0, false);
  CU_ASSERT_EQUAL (g.state, GATE_CLOSED);
  CU_ASSERT (gate_valid (&g, token));
  commit (&g, 0, false); /* once more */
  CU_ASSERT (gate_expire (&g, 2000));
}

static void
test_rollback (void)
{
  struct gate g;
  const uint64_t token = shut (&g);

  commit (&g, 0, true);
  gate_uncommit (&g);
  CU_ASSERT_EQUAL (g.state, GATE_COMMITTING);
  CU_ASSERT_FALSE (gate_expire (&g, 3000)); /* R10: the old record first */
  gate_committed (&g, false);
  CU_ASSERT_EQUAL (g.state, GATE_CLOSED);
  CU_ASSERT (gate_valid (&g, token));
}

/* Never a token twice, valid exactly while that hold lasts. */
static void
test_random (void)
{
  uint64_t rnd = unit_seed (), last = 0, token = 0;
  int64_t now = 0;
  unsigned wrong = 0;
  struct gate g;

  gate_init (&g);
  for (unsigned i = 0; i < 100000; i++) {
    const enum gate_state before = g.state;

    now += unit_random (&rnd, 10);
    switch (unit_random (&rnd, 5)) {
    case 0:
      token = gate_close (&g, now, now + unit_random (&rnd, 30));
      wrong += (token != 0) != (before == GATE_OPEN);
      wrong += token != 0 && token <= last;
      if (token != 0)
        last = token;
      break;
    case 1:
      if (before == GATE_CLOSED)
        gate_commit (&g, unit_random (&rnd, 2) * 20);
      else if (before == GATE_COMMITTED)
        gate_uncommit (&g);
      break;
    case 2:
      if (before == GATE_COMMITTING)
        gate_committed (&g, unit_random (&rnd, 2));
      break;
    case 3:
      if (before != GATE_COMMITTING)
        gate_open (&g, now);
      break;
    default:
      wrong +=
        gate_expire (&g, now) !=
        ((before == GATE_CLOSED && now >= g.deadline_us) ||
         (before == GATE_COMMITTED && now >= g.deadline_us + g.patience_us));
    }
    wrong += gate_valid (&g, last) != (g.state != GATE_OPEN);
  }
  CU_ASSERT_EQUAL (wrong, 0);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "open", test_open },
    { "close and open", test_close_and_open },
    { "deadline", test_deadline },
    { "commit", test_commit },
    { "deadline of a committed hold", test_committed_deadline },
    { "commit with other disks to wait for", test_patience },
    { "commit that is not recorded", test_not_recorded },
    { "rollback", test_rollback },
    { "random steps", test_random },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("gate", tests);
}
