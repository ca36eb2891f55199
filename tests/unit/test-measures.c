/* SPDX-License-Identifier: BSD-3-Clause */
/* The throttle's loop and the mirror's waits, by themselves. */

#include "policy/mirror.h"
#include "policy/throttle.h"
#include "unit.h"

#define MiB (UINT64_C (1024) * 1024)
#define STEP_US (INT64_C (500) * 1000)

/* ---- the throttle ------------------------------------------------------ */

/* A guest that would write so much and makes 'ratio' times as much dirty, after
 * so many heartbeats.
 */
static void
run (struct throttle *t, struct throttle_input *in, uint64_t wish,
     unsigned ratio, unsigned beats)
{
  unsigned i;

  for (i = 0; i < beats; ++i) {
    const uint64_t before = t->bytes_per_second;

    in->write_rate = before > 0 && before < wish ? before : wish;
    in->dirty_rate = in->write_rate * ratio;
    in->now_us += STEP_US;
    throttle_step (t, in);
    if (t->bytes_per_second > 0 && before > t->bytes_per_second)
      CU_ASSERT_TRUE (t->bytes_per_second >=
                      before / 100 * THROTTLE_DOWN_PERCENT);
    if (t->bytes_per_second > 0)
      CU_ASSERT_TRUE (t->bytes_per_second >= in->floor);
  }
}

static const struct throttle_input plain = { .copy_rate = 400 * MiB,
                                             .floor = MiB,
                                             .needed = true };

/* Softly, and no further than it has to. */
static void
test_throttles (void)
{
  struct throttle_input in = plain;
  struct throttle t = { 0 };

  run (&t, &in, 500 * MiB, 2, 1);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 400);
  run (&t, &in, 500 * MiB, 2, 20);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 100); /* 200 become dirty */
  run (&t, &in, 500 * MiB, 2, 20);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 100);
}

static void
test_floor (void)
{
  struct throttle_input in = plain;
  struct throttle t = { 0 };

  in.copy_rate = MiB;
  run (&t, &in, 500 * MiB, 16, 40);
  CU_ASSERT_EQUAL (t.bytes_per_second, in.floor);
  CU_ASSERT_TRUE (throttle_is_spent (&t, in.floor));
  in.floor = 4 * MiB; /* somebody has raised it */
  run (&t, &in, 500 * MiB, 16, 1);
  CU_ASSERT_EQUAL (t.bytes_per_second, in.floor);
}

static void
test_not_needed (void)
{
  struct throttle_input in = plain;
  struct throttle t = { 0 };

  in.needed = false;
  run (&t, &in, 500 * MiB, 2, 5);
  CU_ASSERT_EQUAL (t.bytes_per_second, 0);
  in.needed = true;
  run (&t, &in, 50 * MiB, 2, 5); /* it leaves the copy enough */
  CU_ASSERT_EQUAL (t.bytes_per_second, 0);
  run (&t, &in, 500 * MiB, 2, 20);
  CU_ASSERT_TRUE (t.bytes_per_second > 0);
  in.needed = false;
  run (&t, &in, 500 * MiB, 2, 4);
  CU_ASSERT_TRUE (t.bytes_per_second > 0); /* softly, too */
  run (&t, &in, 500 * MiB, 2, 20);
  CU_ASSERT_EQUAL (t.bytes_per_second, 0);
}

/* Up at the end of a round only, in which it was never needed, and not for a
 * guest that does not use what it has.
 */
static void
test_eases (void)
{
  struct throttle_input in = plain;
  struct throttle t = { 0 };

  run (&t, &in, 500 * MiB, 4, 30);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 50);
  run (&t, &in, 500 * MiB, 1, 10);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 50);
  in.round_end = true;
  run (&t, &in, 500 * MiB, 1, 1); /* more became dirty in this round */
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 50);
  run (&t, &in, MiB, 1, 5);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 50);
  run (&t, &in, 500 * MiB, 1, 1);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 62);
  run (&t, &in, 500 * MiB, 1, 20);
  CU_ASSERT_TRUE (t.bytes_per_second >=
                  200 * MiB / 100 * THROTTLE_SLACK_PERCENT);
  CU_ASSERT_TRUE (t.bytes_per_second <= 200 * MiB);
}

static void
test_stricter (void)
{
  struct throttle_input in = plain;
  struct throttle t = { 0 };
  unsigned i;

  run (&t, &in, 500 * MiB, 2, 20);
  throttle_stricter (&t);
  run (&t, &in, 500 * MiB, 2, 20);
  CU_ASSERT_EQUAL (t.bytes_per_second / MiB, 50);
  CU_ASSERT_FALSE (throttle_is_spent (&t, in.floor));
  for (i = 0; i < 100; ++i)
    throttle_stricter (&t);
  CU_ASSERT_TRUE (throttle_is_spent (&t, in.floor));
}

/* Two steps need the time in which the first has an effect. */
static void
test_in_time (void)
{
  struct throttle_input in = plain;
  struct throttle t = { 0 };

  run (&t, &in, 500 * MiB, 2, 2);
  in.now_us += THROTTLE_STEP_US - 1;
  CU_ASSERT_FALSE (throttle_step (&t, &in));
  in.now_us += 1;
  CU_ASSERT_TRUE (throttle_step (&t, &in));
}

/* ---- the mirror -------------------------------------------------------- */

static void
test_wait_ms (void)
{
  CU_ASSERT_EQUAL (mirror_wait_ms (150), 50);
  CU_ASSERT_EQUAL (mirror_wait_ms (MIRROR_WAIT_MIN_MS + 1), MIRROR_WAIT_MIN_MS);
  CU_ASSERT_EQUAL (mirror_wait_ms (1), 1); /* migrate-max-gate may be that */
  CU_ASSERT_EQUAL (mirror_wait_ms (60000), MIRROR_WAIT_MAX_MS);
}

/* Each demotion makes the wait longer; after the last there is none. */
static void
test_demotions (void)
{
  struct mirror_input in = { .max_pause_ms = 300, .now_us = 1 };
  int64_t wait_us = MIRROR_AGAIN_US;
  struct mirror m = { 0 };
  unsigned i;

  for (i = 0; i < MIRROR_DEMOTIONS_MAX; ++i) {
    CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_MAY);
    mirror_begin (&m, in.now_us);
    in.state = MIRROR_ON;
    in.now_us += MIRROR_START_US * 2;
    CU_ASSERT_FALSE (mirror_note (&m, &in));
    CU_ASSERT_TRUE (m.wanted);
    in.state = MIRROR_OFF;
    in.demotions += 2; /* of two disks at once */
    CU_ASSERT_TRUE (mirror_note (&m, &in));
    CU_ASSERT_FALSE (m.wanted);
    CU_ASSERT_FALSE (mirror_note (&m, &in));
    if (i == MIRROR_DEMOTIONS_MAX - 1)
      break;
    in.now_us += wait_us - 1;
    CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_LATER);
    in.now_us += 1;
    wait_us *= MIRROR_AGAIN_FACTOR;
  }
  in.now_us += wait_us * 100;
  CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_CANNOT);
}

/* A demotion is one whatever is so by now; one of a mirror that was given up is
 * not the next one's.
 */
static void
test_demotions_seen (void)
{
  struct mirror_input in = { .max_pause_ms = 300, .now_us = 1 };
  struct mirror m = { 0 };

  mirror_begin (&m, in.now_us);
  in.state = MIRROR_ON;
  CU_ASSERT_FALSE (mirror_note (&m, &in));
  in.demotions++; /* and another disk's is on */
  CU_ASSERT_TRUE (mirror_note (&m, &in));
  in.now_us += MIRROR_AGAIN_US;
  mirror_begin (&m, in.now_us);
  mirror_end (&m);
  in.demotions++;
  CU_ASSERT_FALSE (mirror_note (&m, &in));
  mirror_begin (&m, in.now_us);
  CU_ASSERT_FALSE (mirror_note (&m, &in));
  CU_ASSERT_EQUAL (m.failures, 1);
}

/* Failures count together only if they come together. */
static void
test_good_again (void)
{
  struct mirror_input in = { .max_pause_ms = 300, .now_us = 1 };
  struct mirror m = { 0 };
  unsigned i;

  for (i = 0; i < 2 * MIRROR_DEMOTIONS_MAX; ++i) {
    mirror_begin (&m, in.now_us);
    in.state = MIRROR_ON;
    CU_ASSERT_FALSE (mirror_note (&m, &in));
    in.now_us += MIRROR_GOOD_US;
    CU_ASSERT_FALSE (mirror_note (&m, &in));
    in.state = MIRROR_OFF;
    in.demotions++;
    CU_ASSERT_TRUE (mirror_note (&m, &in));
    in.now_us += MIRROR_AGAIN_US;
    CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_MAY);
  }
  in.state = MIRROR_ON; /* not for what it was on before */
  mirror_begin (&m, in.now_us);
  CU_ASSERT_FALSE (mirror_note (&m, &in));
  in.now_us += MIRROR_GOOD_US - 1;
  CU_ASSERT_FALSE (mirror_note (&m, &in));
  CU_ASSERT_EQUAL (m.failures, 1);
}

static void
test_no_start (void)
{
  struct mirror_input in = { .max_pause_ms = 300, .now_us = 1 };
  struct mirror m = { 0 };

  mirror_begin (&m, in.now_us);
  in.state = MIRROR_STARTING;
  in.now_us += MIRROR_START_US - 1;
  CU_ASSERT_FALSE (mirror_note (&m, &in));
  in.now_us += 1;
  CU_ASSERT_TRUE (mirror_note (&m, &in));
  CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_LATER);
}

static void
test_cannot (void)
{
  struct mirror_input in = { .max_pause_ms = 300, .now_us = 1 };
  struct mirror m = { 0 };

  in.destination_us = 50000; /* half of what is waited for */
  CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_MAY);
  in.destination_us = 50001;
  CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_SLOW);
  in.destination_us = 0;
  mirror_begin (&m, in.now_us);
  in.refused = true;
  CU_ASSERT_TRUE (mirror_note (&m, &in));
  in.refused = false;
  in.now_us += INT64_C (1) << 40;
  CU_ASSERT_EQUAL (mirror_judge (&m, &in), MIRROR_CANNOT);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "throttle: no further than needed", test_throttles },
    { "throttle: the floor", test_floor },
    { "throttle: not needed", test_not_needed },
    { "throttle: up again", test_eases },
    { "throttle: stricter", test_stricter },
    { "throttle: a step at a time", test_in_time },
    { "mirror: how long it is waited", test_wait_ms },
    { "mirror: demotions", test_demotions },
    { "mirror: demotions that are seen late", test_demotions_seen },
    { "mirror: good again", test_good_again },
    { "mirror: it does not start", test_no_start },
    { "mirror: it cannot be had", test_cannot },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("measures", tests);
}
