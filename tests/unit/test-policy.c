/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done next, with measured and with simulated copies. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "policy/measures.h"
#include "policy/policy.h"

#define MiB (UINT64_C (1024) * 1024)
#define MAX_PAUSE_MS 300

/* A copy whose guest has written so much since, and the decision then. */
struct moment {
  uint64_t predicted_ms, remaining_bytes;
  bool missed;
  enum policy_action expected;
};

static void
check (struct policy *p, struct policy_snapshot s, const struct moment *v,
       size_t n)
{
  size_t i;

  for (i = 0; i < n; ++i) {
    struct policy_decision d;

    s.predicted_ms = v[i].predicted_ms;
    s.remaining_bytes = v[i].remaining_bytes;
    s.missed = v[i].missed;
    d = policy_step (p, &s);
    if (d.action != v[i].expected)
      printf ("moment %zu: %s (%s) ", i, policy_action_name (d.action),
              d.reason);
    CU_ASSERT_EQUAL (d.action, v[i].expected);
    CU_ASSERT_TRUE (strlen (d.reason) > 0);
  }
}

#define CHECK(p, s, v) check (p, s, v, sizeof (v) / sizeof (v)[0])

static const struct policy_snapshot plain = { .max_pause_ms = MAX_PAUSE_MS };

/* ---- measured ---------------------------------------------------------- */

/* An idle guest. */
static void
test_idle (void)
{
  static const struct moment trace[] = { { 2, 0, false, POLICY_PAUSE } };
  struct policy p;

  policy_init (&p);
  CHECK (&p, plain, trace);
}

/* Each round leaves a tenth; what fits is made shorter as long as that halves
 * it.
 */
static void
test_converges (void)
{
  static const struct moment trace[] = {
    { 4100, 1100 * MiB, false, POLICY_ROUND },
    { 410, 110 * MiB, false, POLICY_ROUND },
    { 43, 11 * MiB, false, POLICY_ROUND }, /* fits */
    { 6, MiB, false, POLICY_ROUND },
    { 5, MiB, false, POLICY_PAUSE },
  };
  struct policy p;

  policy_init (&p);
  CHECK (&p, plain, trace);
}

static void
test_settles_three_times (void)
{
  static const struct moment trace[] = {
    { 200, 64 * MiB, false, POLICY_ROUND },
    { 100, 32 * MiB, false, POLICY_ROUND },
    { 50, 16 * MiB, false, POLICY_ROUND },
    { 25, 8 * MiB, false, POLICY_PAUSE },
  };
  struct policy p;

  policy_init (&p);
  CHECK (&p, plain, trace);
}

static void
test_gives_up (void)
{
  static const struct moment trace[] = {
    { 4000, 1100 * MiB, false, POLICY_ROUND },
    { 4100, 1100 * MiB, false, POLICY_ROUND },
    { 3900, 1100 * MiB, false, POLICY_ROUND },
    { 4000, 1100 * MiB, false, POLICY_ROUND },
    { 4000, 1100 * MiB, false, POLICY_ROUND },
    { 4000, 1100 * MiB, false, POLICY_GIVE_UP },
  };
  struct policy_snapshot s = plain;
  char text[POLICY_REASON_MAX];
  struct policy p;

  policy_init (&p);
  CHECK (&p, plain, trace);
  s.predicted_ms = 4000;
  policy_needed (&p, &s, text);
  CU_ASSERT_PTR_NOT_NULL (strstr (text, "about 3.9 s would have been needed"));
  CU_ASSERT_PTR_NOT_NULL (strstr (text, "--max-pause is 300 ms;"));
  /* The limit that was in force at the end. */
  s.max_pause_late_ms = 900;
  s.bulk_end_us = s.now_us = 1;
  policy_init (&p);
  CHECK (&p, s, trace);
  s.predicted_ms = 4000;
  policy_needed (&p, &s, text);
  CU_ASSERT_PTR_NOT_NULL (strstr (text, "--max-pause-late is 900 ms;"));
}

/* Ten in a row; a longer --max-pause counts anew. */
static void
test_misses (void)
{
  const struct moment fits = { 100, 0, true, POLICY_PAUSE };
  const struct moment missed = { 100, 0, true, POLICY_ROUND };
  const struct moment last = { 100, 0, true, POLICY_GIVE_UP };
  struct policy p;
  unsigned i;

  policy_init (&p);
  for (i = 0; i < FORECAST_MISSES + 4; ++i) {
    check (&p, plain, &fits, 1);
    if (i == 4)
      policy_forget_misses (&p);
    check (&p, plain, i < FORECAST_MISSES + 3 ? &missed : &last, 1);
  }
}

/* In sync until somebody wishes the end: then what the guest wrote since is
 * copied before the pause, unless a rate limits all but the pause.
 */
static void
test_waits (void)
{
  static const struct moment before[] = {
    { 4000, 1100 * MiB, false, POLICY_ROUND },
    { 9, MiB, false, POLICY_ROUND },
    { 8, MiB, false, POLICY_READY },
  };
  const struct moment ready = { 9, MiB, false, POLICY_READY };
  const struct moment prepare = { 9, MiB, false, POLICY_PREPARE };
  const struct moment round = { 9, MiB, false, POLICY_ROUND };
  const struct moment pause = { 9, MiB, false, POLICY_PAUSE };
  struct policy_snapshot s = plain;
  struct policy p;
  unsigned i;

  for (i = 0; i < 2; ++i) {
    s = plain;
    s.wait = true;
    s.rate = i * MiB;
    policy_init (&p);
    CHECK (&p, s, before);
    s.ready = true;
    check (&p, s, &ready, 1);
    check (&p, s, &ready, 1);
    s.finish_wished = true;
    if (s.rate == 0) {
      check (&p, s, &round, 1);
      s.ready = false;
    }
    check (&p, s, &prepare, 1);
    s.finish_wished = s.wait = false;
    check (&p, s, &pause, 1);
  }
}

static void
test_waits_for_ever (void)
{
  const struct moment round = { 4000, 1100 * MiB, false, POLICY_ROUND };
  struct policy_snapshot s = plain;
  struct policy p;
  unsigned i;

  s.wait = true;
  policy_init (&p);
  for (i = 0; i < 100; ++i)
    check (&p, s, &round, 1);
}

/* R17: before the pause, also what may land late; then --verify, three times at
 * most, and again when there is much of it after a pause that missed.
 */
static void
test_reads_back (void)
{
  const struct moment late = { 9, 0, false, POLICY_LATE };
  const struct moment verify = { 9, 0, false, POLICY_VERIFY };
  const struct moment pause = { 9, 0, false, POLICY_PAUSE };
  const struct moment missed = { 9, 0, true, POLICY_ROUND };
  const struct moment long_verify = { 900, 0, false, POLICY_VERIFY };
  struct policy_snapshot s = plain;
  struct policy p;
  unsigned i;

  s.verify = s.late = true;
  s.unverified_bytes = 100 * MiB;
  policy_init (&p);
  check (&p, s, &late, 1);
  s.late = false;
  CU_ASSERT_FALSE (p.verified);
  for (i = 0; i < POLICY_SETTLE_ROUNDS; ++i)
    check (&p, s, &verify, 1);
  CU_ASSERT_TRUE (p.verified);
  check (&p, s, &pause, 1);
  check (&p, s, &missed, 1);
  check (&p, s, &long_verify, 1);
  s.unverified_bytes = 0;
  check (&p, s, &pause, 1);
}

/* ---- simulated --------------------------------------------------------- */

/* Rounds of a guest that makes 'ratio' hundredths of the copy's speed dirty,
 * anew each time: whether the pause is tried at last.  It always ends.
 */
static bool
simulate (uint64_t *state, unsigned ratio)
{
  const uint64_t speed = 200 * MiB;
  struct policy_snapshot s = plain;
  uint64_t left = 4096 * MiB;
  struct policy p;
  unsigned i;

  policy_init (&p);
  for (i = 0; i < 1000; ++i) {
    struct policy_decision d;

    s.remaining_bytes = left;
    s.predicted_ms = left * 1000 / speed + unit_random (state, 5);
    d = policy_step (&p, &s);
    if (d.action != POLICY_ROUND)
      return d.action == POLICY_PAUSE;
    left = left * ratio / 100;
  }
  CU_FAIL ("it goes on for ever");
  return false;
}

static void
test_simulated (void)
{
  uint64_t state = unit_seed ();
  unsigned ratio;

  for (ratio = 0; ratio < 60; ++ratio)
    CU_ASSERT_TRUE (simulate (&state, ratio));
  for (ratio = 100; ratio < 200; ++ratio)
    CU_ASSERT_FALSE (simulate (&state, ratio));
}

/* ---- measures ---------------------------------------------------------- */

/* What is asked for after so many rounds that each leave as much. */
static struct policy_decision
stuck (struct policy *p, struct policy_snapshot *s, unsigned rounds)
{
  struct policy_decision d = { .action = POLICY_ROUND };
  unsigned i;

  s->predicted_ms = 4000;
  s->remaining_bytes = 200 * MiB; /* 0.8 s: not long (MEASURES_LONG_US) */
  for (i = 0; i < rounds; ++i) {
    s->now_us += 1000000;
    d = policy_step (p, s);
  }
  return d;
}

static const struct policy_snapshot automatic = {
  .max_pause_ms = MAX_PAUSE_MS,
  .converge = CONVERGE_AUTO,
  .throttle_floor = MiB,
  .now_us = 1,
  .bulk_end_us = 1,
  .disk_bytes = 4096 * MiB,
  .copy_rate = 250 * MiB,
  .write_rate = 100 * MiB,
};

/* The first round after the bulk is the one that those after it are compared
 * with; nothing else is known of the guest.
 */
static void
test_mirror_begins (void)
{
  struct policy_snapshot s = automatic;
  struct policy_decision d;
  struct policy p;

  policy_init (&p);
  d = stuck (&p, &s, 2);
  CU_ASSERT_FALSE (d.measures.mirror);
  CU_ASSERT_EQUAL (d.nr_changes, 0);
  d = stuck (&p, &s, 1);
  CU_ASSERT_TRUE (d.measures.mirror);
  CU_ASSERT_EQUAL (d.measures.throttle, 0);
  CU_ASSERT_EQUAL (d.nr_changes, 1);
  CU_ASSERT_STRING_EQUAL (d.changes[0].what, "mirror");
  CU_ASSERT_PTR_NOT_NULL (strstr (d.changes[0].reason, "200.0 MiB left"));
}

/* Where each round is long it begins with the first that does not halve what
 * the bulk, or the round before, has left.
 */
static void
test_mirror_begins_long (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  policy_init (&p);
  s.predicted_ms = 4000;
  s.remaining_bytes = 1000 * MiB;
  policy_beat (&p, &s); /* the bulk is over */
  s.remaining_bytes = 490 * MiB;
  CU_ASSERT_FALSE (policy_step (&p, &s).measures.mirror);
  s.remaining_bytes = 260 * MiB;
  CU_ASSERT_TRUE (policy_step (&p, &s).measures.mirror);
}

/* Where the outlook is bad as well, one such round is enough; where it was for
 * long, none, and it is not waited for the end of the present one.
 */
static void
test_mirror_begins_soon (void)
{
  struct policy_snapshot s = automatic;
  struct policy_decision d;
  struct policy p;

  s.touch_rate = s.dirty_rate = s.redirty_rate = 600 * MiB;
  s.guest_bytes = 4096 * MiB;
  policy_init (&p);
  CU_ASSERT_FALSE (stuck (&p, &s, 1).measures.mirror);
  CU_ASSERT_TRUE (stuck (&p, &s, 1).measures.mirror);

  s.now_us = 1;
  policy_init (&p);
  policy_beat (&p, &s);
  s.now_us += POLICY_OUTRUN_US;
  d = policy_beat (&p, &s);
  CU_ASSERT_TRUE (d.measures.mirror);
  CU_ASSERT_PTR_NOT_NULL (strstr (d.changes[0].reason, "does not get ahead"));

  s.now_us = 1;
  s.converge = CONVERGE_THROTTLE;
  policy_init (&p);
  policy_beat (&p, &s);
  s.now_us += POLICY_OUTRUN_US;
  d = policy_beat (&p, &s);
  CU_ASSERT_FALSE (d.measures.mirror);
  CU_ASSERT_EQUAL (d.measures.throttle,
                   0); /* that only at the end of a round */
}

/* A bulk with two seconds to go, to a near destination, beside a guest that
 * touches what will take rounds more than a second.
 */
static const struct policy_snapshot near_bulk = {
  .predicted_ms = FORECAST_NEVER,
  .max_pause_ms = MAX_PAUSE_MS,
  .converge = CONVERGE_AUTO,
  .throttle_floor = MiB,
  .now_us = 1,
  .disk_bytes = 2048 * MiB,
  .remaining_bytes = 1600 * MiB,
  .copy_rate = 800 * MiB,
  .pace = 800 * MiB,
  .write_rate = 60 * MiB,
  .touch_rate = 60 * MiB,
  .dirty_rate = 12 * MiB,
  .destination_us = 20,
  .quiet_known = true,
};

/* After half a second in which guests touched so much more. */
static bool
is_mirrored_then (struct policy_snapshot s, uint64_t bytes)
{
  struct policy p;

  policy_init (&p);
  CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  s.now_us += 500000;
  s.guest_bytes += bytes;
  return policy_beat (&p, &s).measures.mirror;
}

static bool
is_mirrored_in_bulk (const struct policy_snapshot *s)
{
  return is_mirrored_then (*s, 0);
}

/* In the bulk guests' writes are mirrored where that costs next to nothing and
 * saves rounds; what is far, little, or touched again and again is not.
 */
static void
test_mirror_in_bulk (void)
{
  struct policy_snapshot s = near_bulk;

  CU_ASSERT (is_mirrored_in_bulk (&s));
  s.destination_us = 100;
  CU_ASSERT (is_mirrored_in_bulk (&s));
  s.destination_us = 200; /* a guest would notice it */
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s.destination_us = 0;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s = near_bulk;
  s.touch_rate = s.write_rate = 15 * MiB;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s = near_bulk;
  s.dirty_rate = MiB; /* a hot spot, or all that was copied by now */
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  CU_ASSERT_FALSE (is_mirrored_then (s, MiB));
  CU_ASSERT (is_mirrored_then (s, 30 * MiB));
  s = near_bulk;
  s.remaining_bytes = 200 * MiB; /* the rounds will not be long */
  s.dirty_rate = 50 * MiB;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s = near_bulk;
  s.background = 50;
  CU_ASSERT (is_mirrored_in_bulk (&s));
  s.background = 51;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s.background = 50;
  s.quiet_known = false; /* what it costs could not be told */
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s = near_bulk;
  s.kept_beside = 90; /* nothing slows this one down */
  CU_ASSERT (is_mirrored_in_bulk (&s));
  s.kept_beside = 89; /* the mirror would, as long as the bulk takes */
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s.touch_rate = s.write_rate = 260 * MiB;
  s.dirty_rate = 60 * MiB;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s.touch_rate = s.write_rate = 280 * MiB; /* but rounds for far longer */
  s.dirty_rate = 70 * MiB;
  CU_ASSERT (is_mirrored_in_bulk (&s));
  s = near_bulk;
  s.rate = 200 * MiB;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
  s = near_bulk;
  s.converge = CONVERGE_THROTTLE;
  CU_ASSERT_FALSE (is_mirrored_in_bulk (&s));
}

/* A first heartbeat that comes when the copy has hardly begun: next to what
 * seems to be its speed the guest looks fast.
 */
static void
test_first_moment_of_bulk (void)
{
  struct policy_snapshot s = near_bulk;
  struct policy p;

  policy_init (&p);
  s.touch_rate = s.write_rate = 15 * MiB;
  s.copy_rate = s.pace = 100 * MiB;
  CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  s.now_us += 500000;
  s.copy_rate = s.pace = 800 * MiB;
  CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
}

/* Once: otherwise nothing might be left of the attempts for the rounds. */
static void
test_mirror_fails_in_bulk (void)
{
  struct policy_snapshot s = near_bulk;
  struct policy p;
  unsigned i;

  policy_init (&p);
  policy_beat (&p, &s);
  s.now_us += 500000;
  CU_ASSERT (policy_beat (&p, &s).measures.mirror);
  s.mirror = MIRROR_ON;
  s.demotions = 1;
  CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  s.mirror = MIRROR_OFF;
  for (i = 0; i < 60; ++i) {
    s.now_us += 1000000;
    CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  }
  CU_ASSERT_EQUAL (p.mirror.failures, 1);
}

/* Whether a mirror that was begun in the bulk goes on when this is seen of
 * guests that touched so much before it.
 */
static bool
stays_mirrored (struct policy *p, struct policy_snapshot *s, uint64_t touched,
                unsigned kept)
{
  policy_init (p);
  *s = near_bulk;
  s->background = 50;
  s->touch_rate = s->write_rate = touched;
  s->dirty_rate = touched / 5;
  policy_beat (p, s);
  s->now_us += 500000;
  CU_ASSERT (policy_beat (p, s).measures.mirror);
  s->now_us += 500000;
  s->mirror = MIRROR_ON;
  s->touch_rate = s->write_rate = touched / 3; /* it waits for both sides */
  s->kept_mirrored = kept;
  return policy_beat (p, s).measures.mirror;
}

/* In the bulk guests keep a share of what they do alone: a mirror that takes
 * much of it has its place after it, unless rounds would take much longer than
 * the bulk.
 */
static void
test_dear_mirror_in_bulk (void)
{
  struct policy_snapshot s;
  struct policy p;
  unsigned i;

  CU_ASSERT (stays_mirrored (&p, &s, 60 * MiB, 0)); /* not known */
  CU_ASSERT (stays_mirrored (&p, &s, 60 * MiB, 80));
  CU_ASSERT (stays_mirrored (&p, &s, 300 * MiB, 30));
  CU_ASSERT_FALSE (stays_mirrored (&p, &s, 250 * MiB, 30));
  CU_ASSERT (stays_mirrored (&p, &s, 300 * MiB, 30));
  s.background = 100; /* the guest is first */
  CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  CU_ASSERT (stays_mirrored (&p, &s, 60 * MiB, 95));
  s.background = 100;
  CU_ASSERT (policy_beat (&p, &s).measures.mirror);
  s.kept_mirrored = 94;
  CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  CU_ASSERT_FALSE (stays_mirrored (&p, &s, 60 * MiB, 79));
  s.mirror = MIRROR_OFF, s.kept_mirrored = 0;
  s.touch_rate = s.write_rate = 2000 * MiB, s.dirty_rate = 1000 * MiB;
  for (i = 0; i < 20; ++i) { /* not even if the outlook is bad */
    s.now_us += 500000;
    CU_ASSERT_FALSE (policy_beat (&p, &s).measures.mirror);
  }
  s.bulk_end_us = s.now_us; /* then as ever, and whatever it costs */
  s.now_us += 500000;
  CU_ASSERT (policy_beat (&p, &s).measures.mirror);
  s.mirror = MIRROR_ON, s.kept_mirrored = 10;
  CU_ASSERT (policy_beat (&p, &s).measures.mirror);
}

/* A pause that fits, and rounds that do not make it shorter. */
static const struct policy_snapshot short_of_little = {
  .predicted_ms = 40,
  .max_pause_ms = MAX_PAUSE_MS,
  .converge = CONVERGE_AUTO,
  .throttle_floor = MiB,
  .now_us = 1,
  .bulk_end_us = 1,
  .disk_bytes = 4096 * MiB,
  .copy_rate = 250 * MiB,
  .remaining_bytes = 9 * MiB, /* 36 ms */
  .overhead_us = 50000,       /* round trips beside the copying */
  .flush_us = 4000,
  .destination_us = 500,
};

static bool
is_mirrored_before_pause (struct policy_snapshot s)
{
  struct policy_decision d = { .action = POLICY_ROUND };
  struct policy p;
  bool mirrored = false;
  unsigned i;

  policy_init (&p);
  for (i = 0; i < 20 && d.action == POLICY_ROUND; ++i) {
    s.now_us += 10000;
    d = policy_step (&p, &s);
    s.mirror = d.measures.mirror ? MIRROR_ON : MIRROR_OFF;
    if (d.measures.mirror && !mirrored)
      CU_ASSERT_STRING_EQUAL (d.changes[0].what, "mirror");
    mirrored |= d.measures.mirror;
  }
  CU_ASSERT_EQUAL (d.action, POLICY_PAUSE);
  return mirrored;
}

/* Mirrored writes need not be copied in the pause; where that would save little
 * or cost much, or is not allowed, it is not done.
 */
static void
test_mirror_shortens (void)
{
  struct policy_snapshot s = short_of_little;

  CU_ASSERT (is_mirrored_before_pause (s));
  s.remaining_bytes = MiB / 2;
  CU_ASSERT_FALSE (is_mirrored_before_pause (s));
  s = short_of_little;
  s.flush_us = 50000;
  CU_ASSERT_FALSE (is_mirrored_before_pause (s));
  s = short_of_little;
  s.destination_us = 20000;
  CU_ASSERT_FALSE (is_mirrored_before_pause (s));
  s = short_of_little;
  s.rate = 100 * MiB;
  CU_ASSERT_FALSE (is_mirrored_before_pause (s));
  s = short_of_little;
  s.converge = CONVERGE_OFF;
  CU_ASSERT_FALSE (is_mirrored_before_pause (s));
  s.converge = CONVERGE_THROTTLE;
  CU_ASSERT_FALSE (is_mirrored_before_pause (s));
}

/* As long as nobody asks for the end it would be for nothing. */
static void
test_mirror_shortens_at_end (void)
{
  struct policy_snapshot s = short_of_little;
  struct policy_decision d = { .action = POLICY_ROUND };
  struct policy p;

  policy_init (&p);
  s.wait = true;
  while (d.action == POLICY_ROUND)
    d = policy_step (&p, &s);
  CU_ASSERT_EQUAL (d.action, POLICY_READY);
  CU_ASSERT_FALSE (d.measures.mirror);
  s.ready = s.finish_wished = true;
  d = policy_step (&p, &s);
  while (d.action == POLICY_ROUND && !d.measures.mirror)
    d = policy_step (&p, &s);
  CU_ASSERT_TRUE (d.measures.mirror);
}

/* A pause that is not there in time although it should fit: what is copied in
 * it is made less before it is given up.
 */
static void
test_missed_pauses (void)
{
  struct policy_snapshot s = short_of_little;
  struct policy_decision d = { .action = POLICY_ROUND };
  unsigned pauses = 0, mirrored = 0, i;
  struct policy p;

  policy_init (&p);
  s.remaining_bytes = MiB / 2;
  s.write_rate = s.touch_rate = s.dirty_rate = 50 * MiB;
  for (i = 0; i < 1000 && d.action != POLICY_GIVE_UP; ++i) {
    s.now_us += 500000;
    d = policy_step (&p, &s);
    s.missed = d.action == POLICY_PAUSE;
    pauses += s.missed;
    if (d.measures.mirror && mirrored++ == 0)
      CU_ASSERT_EQUAL (pauses, 3); /* MEASURES_MISSED */
    if (d.measures.throttle > 0)
      s.write_rate = s.touch_rate = s.dirty_rate = d.measures.throttle;
    s.mirror = d.measures.mirror ? MIRROR_ON : MIRROR_OFF;
  }
  CU_ASSERT_EQUAL (d.action, POLICY_GIVE_UP);
  CU_ASSERT_TRUE (mirrored > 0);
  CU_ASSERT_TRUE (d.measures.throttle > 0 && d.measures.throttle < 10 * MiB);
  CU_ASSERT_TRUE (pauses > FORECAST_MISSES);
}

/* To a destination that is too slow it is not begun, and that is said once as
 * long as it is so.
 */
static void
test_mirror_slow (void)
{
  struct policy_snapshot s = automatic;
  struct policy_decision d;
  struct policy p;

  s.destination_us = 51000;
  policy_init (&p);
  d = stuck (&p, &s, 3);
  CU_ASSERT_FALSE (d.measures.mirror);
  CU_ASSERT_EQUAL (d.nr_changes, 1);
  CU_ASSERT_PTR_NOT_NULL (strstr (d.changes[0].reason, "51 ms"));
  CU_ASSERT_PTR_NOT_NULL (strstr (d.changes[0].reason, "100 ms"));
  CU_ASSERT_EQUAL (stuck (&p, &s, 1).nr_changes, 0);
  policy_forget_failures (&p);
  CU_ASSERT_EQUAL (stuck (&p, &s, 1).nr_changes, 1); /* asked for again */
  s.destination_us = 49000;
  CU_ASSERT_TRUE (stuck (&p, &s, 1).measures.mirror);
}

/* Rounds count, not the heartbeats of a long one: whether it is too slow for
 * good decides whether guests are throttled.
 */
static void
test_mirror_slow_for_a_moment (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned i;

  s.destination_us = 51000;
  s.dirty_rate = s.touch_rate = s.redirty_rate = 600 * MiB;
  s.guest_bytes = 4096 * MiB;
  policy_init (&p);
  policy_beat (&p, &s);
  s.now_us += POLICY_OUTRUN_US;
  for (i = 0; i < 10; ++i) {
    s.now_us += 500000;
    CU_ASSERT_EQUAL (policy_beat (&p, &s).nr_changes, 0);
  }
  CU_ASSERT_EQUAL (p.slow_rounds, 0);
  stuck (&p, &s, 1);
  CU_ASSERT_EQUAL (p.slow_rounds, 1);
  CU_ASSERT_FALSE (p.throttle_needed);
  s.destination_us = 49000;
  CU_ASSERT_TRUE (policy_beat (&p, &s).measures.mirror);
}

/* Whether the mirror is asked for within so many rounds. */
static bool
is_mirrored_within (struct policy *p, struct policy_snapshot *s,
                    unsigned rounds)
{
  while (rounds-- > 0)
    if (stuck (p, s, 1).measures.mirror)
      return true;
  return false;
}

/* Whoever says anew what is allowed wants it to be tried anew. */
static void
test_mirror_wished_again (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned i;

  policy_init (&p);
  for (i = 0; i < MIRROR_DEMOTIONS_MAX; ++i) {
    CU_ASSERT_TRUE (is_mirrored_within (&p, &s, 60));
    s.demotions++;
    policy_beat (&p, &s);
  }
  CU_ASSERT_FALSE (is_mirrored_within (&p, &s, 60));
  policy_forget_failures (&p);
  CU_ASSERT_TRUE (is_mirrored_within (&p, &s, 3));
}

/* On, and in vain: then the throttle, too; and at last it is given up, also if
 * that has no effect at all.
 */
static void
test_mirror_in_vain (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned rounds;

  s.dirty_rate = s.touch_rate = s.redirty_rate = 600 * MiB;
  s.guest_bytes = 4096 * MiB;
  policy_init (&p);
  stuck (&p, &s, 3);
  s.mirror = MIRROR_ON;
  CU_ASSERT_EQUAL (stuck (&p, &s, 2).measures.throttle, 0);
  CU_ASSERT_TRUE (stuck (&p, &s, 3).measures.throttle > 0);
  CU_ASSERT_TRUE (p.measures.mirror);
  for (rounds = 0; rounds < 200; ++rounds)
    if (stuck (&p, &s, 1).action == POLICY_GIVE_UP)
      break;
  CU_ASSERT_TRUE (rounds < 100);
  CU_ASSERT_TRUE (p.measures.throttle >= MiB);
}

/* Whether it is still wished after so many rounds that each leave a little
 * less, whatever brings that about, with so many writes of each kind in each.
 */
static bool
is_kept (unsigned rounds, uint64_t mirrored, uint64_t not_mirrored,
         struct policy_decision *d)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  s.mirrored_writes = 100; /* of earlier, with it on */
  s.not_mirrored_writes = 100000;
  policy_init (&p);
  stuck (&p, &s, 3);
  CU_ASSERT_TRUE (p.measures.mirror);
  s.mirror = MIRROR_ON;
  s.remaining_bytes = 1000 * MiB;
  for (; rounds > 0; --rounds) {
    s.mirrored_writes += mirrored;
    s.not_mirrored_writes += not_mirrored;
    s.remaining_bytes = s.remaining_bytes / 4 * 3;
    s.now_us += 1000000;
    *d = policy_step (&p, &s);
  }
  return d->measures.mirror;
}

/* Next to nothing of what guests write is mirrored: then it is off, and told,
 * whatever makes the rounds shrink.
 */
static void
test_mirror_share (void)
{
  struct policy_decision d;

  CU_ASSERT_TRUE (is_kept (2, 9, 91, &d));
  CU_ASSERT_FALSE (is_kept (3, 9, 91, &d));
  CU_ASSERT_EQUAL (d.nr_changes, 1);
  CU_ASSERT_PTR_NOT_NULL (
    strstr (d.changes[0].reason, "of the last 100 only 9 were mirrored"));
  CU_ASSERT_TRUE (is_kept (10, 10, 90, &d));
  CU_ASSERT_TRUE (is_kept (3, 0, 63 / 3, &d)); /* too few to tell */
  CU_ASSERT_TRUE (is_kept (10, 0, 0, &d));
}

/* That it was on for long is no merit of one that mirrors nothing: rounds may
 * take so long.
 */
static void
test_mirror_share_in_long_rounds (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned rounds, beats;

  policy_init (&p);
  stuck (&p, &s, 3);
  for (rounds = 0; rounds < 100; ++rounds) {
    s.mirror = p.measures.mirror ? MIRROR_ON : MIRROR_OFF;
    s.not_mirrored_writes += p.measures.mirror ? 100 : 0;
    s.remaining_bytes =
      p.measures.mirror ? s.remaining_bytes / 4 * 3 : 1000 * MiB;
    for (beats = 0; beats < 25; ++beats) {
      s.now_us += 1000000;
      policy_beat (&p, &s);
    }
    policy_step (&p, &s);
  }
  CU_ASSERT_EQUAL (p.mirror.failures, MIRROR_DEMOTIONS_MAX);
  CU_ASSERT_FALSE (p.measures.mirror);
}

/* A destination that was lost has made much dirty again: what guests are not to
 * blame for does not call for a measure.
 */
static void
test_rounds_forgotten (void)
{
  struct policy_snapshot s = automatic;
  struct policy_decision d;
  struct policy p;
  unsigned i;

  policy_init (&p);
  policy_beat (&p, &s);
  s.predicted_ms = 4000;
  s.remaining_bytes = 10 * MiB;
  policy_step (&p, &s);
  policy_forget_rounds (&p);
  s.remaining_bytes = 4000 * MiB;
  policy_beat (&p, &s);
  for (i = 0; i < 6; ++i) {
    s.now_us += 1000000;
    s.remaining_bytes /= 2;
    d = policy_step (&p, &s);
    CU_ASSERT_EQUAL (d.action, POLICY_ROUND);
    CU_ASSERT_FALSE (d.measures.mirror);
  }
}

/* What it had in common with the rounds before it was on says nothing. */
static void
test_mirror_late (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  policy_init (&p);
  stuck (&p, &s, 3);
  s.mirror = MIRROR_STARTING;
  stuck (&p, &s, 3); /* connecting takes its time */
  s.mirror = MIRROR_ON;
  CU_ASSERT_EQUAL (stuck (&p, &s, 1).measures.throttle, 0);
  CU_ASSERT_FALSE (p.throttle_needed);
}

/* After two demotions the throttle does not wait for the mirror; and once the
 * mirror works it goes again.
 */
static void
test_throttle_and_mirror (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  s.dirty_rate = s.touch_rate = s.redirty_rate = 600 * MiB;
  s.guest_bytes = 4096 * MiB;
  policy_init (&p);
  CU_ASSERT_TRUE (is_mirrored_within (&p, &s, 3));
  s.demotions++;
  CU_ASSERT_EQUAL (stuck (&p, &s, 1).measures.throttle, 0);
  CU_ASSERT_FALSE (p.throttle_needed);
  CU_ASSERT_TRUE (is_mirrored_within (&p, &s, 10));
  CU_ASSERT_FALSE (p.throttle_needed);
  s.demotions++;
  stuck (&p, &s, 2);
  CU_ASSERT_TRUE (p.throttle_needed);
  CU_ASSERT_TRUE (is_mirrored_within (&p, &s, 10));
  s.mirror = MIRROR_ON;
  policy_beat (&p, &s);
  s.remaining_bytes = 500 * MiB; /* a round that shrinks */
  s.now_us += 1000000;
  policy_step (&p, &s);
  CU_ASSERT_FALSE (p.throttle_needed);
}

/* What is touched counts where hardly anything is clean: what becomes dirty is
 * next to nothing then.
 */
static void
test_throttle_sees_through (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  s.converge = CONVERGE_THROTTLE;
  s.disk_bytes = 200 * MiB; /* all of it is dirty */
  s.dirty_rate = 12 * MiB;
  s.touch_rate = 600 * MiB;
  policy_init (&p);
  CU_ASSERT_TRUE (stuck (&p, &s, 6).measures.throttle > 0);
}

/* A guest that does not write cannot be made slower. */
static void
test_throttle_in_vain (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned rounds;

  s.converge = CONVERGE_THROTTLE;
  s.write_rate = 0;
  s.dirty_rate = s.touch_rate = 100 * MiB;
  policy_init (&p);
  for (rounds = 0; rounds < 20; ++rounds)
    if (stuck (&p, &s, 1).action == POLICY_GIVE_UP)
      break;
  CU_ASSERT_TRUE (rounds < 20);
}

/* Hot chunks wait for the pause only as long as it does not fit, or nobody asks
 * for it, if they have room there, and not while they are mirrored.
 */
static void
test_hot_last (void)
{
  const struct {
    uint64_t hot_mib, predicted_ms;
    bool wait, mirror, last;
  } cases[] = {
    { 30, 4000, false, false, true },  { 30, 100, true, false, true },
    { 30, 100, false, false, false },  { 0, 4000, false, false, false },
    { 38, 4000, false, false, false }, /* half of 75 MiB is 37.5 */
    { 30, 4000, false, true, false },
  };
  size_t i;

  for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct policy_snapshot s = automatic;
    struct policy_decision d;
    struct policy p;
    unsigned rounds = 4; /* one that fits is settled first */

    s.hot_bytes = cases[i].hot_mib * MiB;
    s.predicted_ms = cases[i].predicted_ms;
    s.remaining_bytes = 100 * MiB;
    s.wait = cases[i].wait;
    s.converge = cases[i].mirror ? CONVERGE_MIRROR : CONVERGE_THROTTLE;
    policy_init (&p);
    if (cases[i].mirror)
      mirror_begin (&p.mirror, s.now_us);
    do
      d = policy_step (&p, &s);
    while (--rounds > 0);
    CU_ASSERT_EQUAL (d.measures.hot_last, cases[i].last);
  }
}

/* In sync, with what is hot coming and going: how often that is said. */
static unsigned
times_hot_is_said (struct policy *p, struct policy_snapshot *s, uint64_t mib,
                   unsigned rounds)
{
  unsigned said = 0;

  for (; rounds > 0; --rounds) {
    struct policy_decision d;

    s->hot_bytes = rounds % 2 == 0 ? mib * MiB : 0;
    s->now_us += 200000;
    d = policy_step (p, s);
    for (size_t i = 0; i < d.nr_changes; ++i)
      said += strcmp (d.changes[i].what, "hot-last") == 0;
  }
  return said;
}

static void
test_hot_is_said (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  s.predicted_ms = 100;
  s.remaining_bytes = 100 * MiB;
  s.wait = s.ready = true;
  s.converge = CONVERGE_THROTTLE;
  policy_init (&p);
  CU_ASSERT_EQUAL (times_hot_is_said (&p, &s, 8, 100), 1);
  CU_ASSERT_EQUAL (times_hot_is_said (&p, &s, 30, 50), 0); /* 30 s in all */
  CU_ASSERT_EQUAL (times_hot_is_said (&p, &s, 12, 1000), 0);
  CU_ASSERT_EQUAL (times_hot_is_said (&p, &s, 30, 100), 1);
  CU_ASSERT_EQUAL (times_hot_is_said (&p, &s, 8, 1000), 1);
}

/* The rate slows the rounds; zeroes, which it does not count, go beside. */
static void
test_copy_rate (void)
{
  struct policy_snapshot s = { .copy_rate = 100 * MiB };

  CU_ASSERT_EQUAL (measures_copy_rate (&s), 100 * MiB);
  s.rate = 10 * MiB;
  CU_ASSERT_EQUAL (measures_copy_rate (&s), 10 * MiB);
  s.pace = 20 * MiB;
  CU_ASSERT_EQUAL (measures_copy_rate (&s), 20 * MiB);
  s.rate = 200 * MiB;
  CU_ASSERT_EQUAL (measures_copy_rate (&s), 100 * MiB);
}

/* It begins when somebody asks for the end, and is only explained where all is.
 */
static void
test_patience (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  s.converge = CONVERGE_OFF;
  s.max_pause_late_ms = 900;
  s.patience_ms = 10000;
  s.wait = true;
  policy_init (&p);
  stuck (&p, &s, 30); /* a second each */
  s.wait = false;
  CU_ASSERT_EQUAL (policy_beat (&p, &s).measures.max_pause_ms, MAX_PAUSE_MS);
  s.now_us += 9999999;
  CU_ASSERT_EQUAL (policy_beat (&p, &s).measures.max_pause_ms, MAX_PAUSE_MS);
  s.now_us += 7000000; /* which do not count */
  policy_was_away (&p, 7000000);
  CU_ASSERT_EQUAL (policy_beat (&p, &s).measures.max_pause_ms, MAX_PAUSE_MS);
  s.now_us += 1;
  CU_ASSERT_EQUAL (measures_max_pause_ms (&p, &s), 900);
  CU_ASSERT_EQUAL (policy_beat (&p, &s).measures.max_pause_ms, 900);
  s.patience_ms = INT64_MAX; /* for ever */
  CU_ASSERT_EQUAL (measures_max_pause_ms (&p, &s), MAX_PAUSE_MS);
  s.patience_ms = 10000;
  s.explain = true;
  CU_ASSERT_EQUAL (measures_max_pause_ms (&p, &s), MAX_PAUSE_MS);
  CU_ASSERT_EQUAL (policy_beat (&p, &s).measures.max_pause_ms, MAX_PAUSE_MS);
}

/* What --converge no longer allows ends at once. */
static void
test_converge_changes (void)
{
  struct policy_snapshot s = automatic;
  struct policy_decision d;
  struct policy p;

  policy_init (&p);
  CU_ASSERT_TRUE (stuck (&p, &s, 3).measures.mirror);
  s.converge = CONVERGE_THROTTLE;
  d = policy_beat (&p, &s);
  CU_ASSERT_FALSE (d.measures.mirror);
  CU_ASSERT_EQUAL (d.nr_changes, 1);
  s.dirty_rate = s.touch_rate = 600 * MiB;
  s.wait = true; /* nobody asks for the end */
  CU_ASSERT_EQUAL (stuck (&p, &s, 6).measures.throttle, 0);
  s.wait = false;
  CU_ASSERT_TRUE (stuck (&p, &s, 6).measures.throttle > 0);
  s.converge = CONVERGE_OFF;
  d = policy_beat (&p, &s);
  CU_ASSERT_EQUAL (d.measures.throttle, 0);
  CU_ASSERT_EQUAL (d.nr_changes, 1);
}

/* Passes in vain count together only if no pause fitted between them. */
static void
test_fitted_between (void)
{
  struct policy_decision d = { .action = POLICY_ROUND };
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned i;

  s.converge = CONVERGE_OFF;
  policy_init (&p);
  CU_ASSERT_EQUAL (stuck (&p, &s, FORECAST_PASSES).action, POLICY_ROUND);
  s.predicted_ms = 100;
  for (i = 0; i < 20 && d.action == POLICY_ROUND; ++i)
    d = policy_step (&p, &s);
  CU_ASSERT_EQUAL_FATAL (d.action, POLICY_PAUSE);
  s.missed = true;
  policy_step (&p, &s);
  s.missed = false;
  CU_ASSERT_EQUAL (stuck (&p, &s, FORECAST_PASSES).action, POLICY_ROUND);
}

/* What would have been needed is more than is allowed, whatever was predicted:
 * pauses that missed their deadline were predicted too short.
 */
static void
test_needed (void)
{
  struct policy_snapshot s = automatic;
  char text[POLICY_REASON_MAX];
  struct policy p;

  policy_init (&p);
  s.predicted_ms = 200;
  policy_needed (&p, &s, text);
  CU_ASSERT_PTR_NOT_NULL (strstr (text, "600 ms would"));
  s.predicted_ms = 700;
  policy_needed (&p, &s, text);
  CU_ASSERT_PTR_NOT_NULL (strstr (text, "700 ms would"));
}

/* In the bulk, as long as next to nothing is clean, nobody can know. */
static void
test_outlook_in_bulk (void)
{
  struct policy_snapshot s = automatic;

  s.touch_rate = s.dirty_rate = 600 * MiB;
  s.remaining_bytes = s.disk_bytes;
  CU_ASSERT_EQUAL (policy_outlook (&s).verdict, FORECAST_DIVERGES);
  s.bulk_end_us = 0;
  CU_ASSERT_EQUAL (policy_outlook (&s).verdict, FORECAST_UNKNOWN);
}

/* What is dirty belongs to what guests touch, also if little of it was touched
 * in this session.
 */
static void
test_outlook_set (void)
{
  struct policy_snapshot s = automatic;

  s.touch_rate = s.dirty_rate = s.redirty_rate = 300 * MiB;
  s.guest_bytes = 100 * MiB;
  s.remaining_bytes = 1000 * MiB;
  CU_ASSERT_EQUAL (policy_outlook (&s).set_bytes, 1000 * MiB);
}

/* It is stricter only once the limit has come to where it was to come. */
static void
test_stricter_when_settled (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;
  unsigned i;

  s.converge = CONVERGE_THROTTLE;
  s.dirty_rate = s.touch_rate = 600 * MiB;
  s.guest_bytes = s.disk_bytes;
  policy_init (&p);
  stuck (&p, &s, 4);
  CU_ASSERT_TRUE (p.throttle_needed);
  s.now_us += THROTTLE_STEP_US;
  policy_beat (&p, &s);
  for (i = 0; i < 20; ++i) { /* rounds of 10 ms */
    s.now_us += 10000;
    policy_step (&p, &s);
  }
  CU_ASSERT_EQUAL (p.throttle.stricter, 0);
}

/* A pause that fits waits for a moment that is as good as any of late, but not
 * for ever.
 */
static void
test_local_minimum (void)
{
  static const struct moment swings[] = {
    { 100, 40 * MiB, false, POLICY_ROUND },
    { 250, 100 * MiB, false, POLICY_ROUND },
    { 180, 70 * MiB, false, POLICY_ROUND },
    { 104, 41 * MiB, false, POLICY_PAUSE },
  };
  static const struct moment rises[] = {
    { 100, 40 * MiB, false, POLICY_ROUND },
    { 150, 60 * MiB, false, POLICY_ROUND },
    { 160, 64 * MiB, false, POLICY_ROUND },
    { 170, 68 * MiB, false, POLICY_ROUND },
    { 180, 72 * MiB, false, POLICY_ROUND },
    { 152, 61 * MiB, false, POLICY_PAUSE }, /* the first one is forgotten */
  };
  struct policy p;

  policy_init (&p);
  CHECK (&p, plain, swings);
  policy_init (&p);
  CHECK (&p, plain, rises);
}

/* What was missed has to fit more easily. */
static void
test_missed (void)
{
  struct policy_snapshot s = automatic;
  struct policy p;

  policy_init (&p);
  p.missed = 4;
  s.predicted_ms = 210; /* 315 with a half more */
  s.remaining_bytes = MiB;
  CU_ASSERT_EQUAL (policy_step (&p, &s).action, POLICY_ROUND);
  CU_ASSERT_EQUAL (p.stage, POLICY_MEASURED); /* it does not fit */
  s.converge = CONVERGE_OFF;
  policy_step (&p, &s);
  CU_ASSERT_EQUAL (p.stage, POLICY_SETTLES);
}

/* What came of a migration that remains as it is, and whose pauses miss their
 * deadline; the last of so many does not.
 */
static enum policy_action
end_of (struct policy_snapshot s, unsigned pauses, unsigned *tried)
{
  struct policy p;
  unsigned n;

  policy_init (&p);
  *tried = 0;
  for (n = 0; n < 1000; ++n) {
    struct policy_decision d;

    s.now_us += 1000000;
    d = policy_step (&p, &s);
    *tried += d.action == POLICY_PAUSE;
    if (d.action == POLICY_GIVE_UP || *tried == pauses)
      return d.action;
    s.missed = d.action == POLICY_PAUSE;
    s.mirror = d.measures.mirror ? MIRROR_ON : MIRROR_OFF;
  }
  CU_FAIL ("it goes on for ever");
  return POLICY_ROUND;
}

/* After pauses that missed, the next one has to fit more easily.  Where nothing
 * makes it shorter it is tried all the same, until ten have missed.
 */
static void
test_missed_and_stuck (void)
{
  struct policy_snapshot stuck_with = automatic, idle = automatic;
  unsigned tried;

  stuck_with.mirror_refused = true;
  stuck_with.converge = CONVERGE_MIRROR;
  stuck_with.predicted_ms = 280; /* 315 with an eighth more */
  stuck_with.remaining_bytes = 70 * MiB;
  CU_ASSERT_EQUAL (end_of (stuck_with, 100, &tried), POLICY_GIVE_UP);
  CU_ASSERT_EQUAL (tried, FORECAST_MISSES);
  CU_ASSERT_EQUAL (end_of (stuck_with, 7, &tried), POLICY_PAUSE);
  stuck_with.converge = CONVERGE_AUTO;
  stuck_with.explain = true;
  CU_ASSERT_EQUAL (end_of (stuck_with, 100, &tried), POLICY_GIVE_UP);
  CU_ASSERT_EQUAL (tried, FORECAST_MISSES);

  idle.write_rate = 0;
  for (idle.predicted_ms = 150; idle.predicted_ms <= 300; ++idle.predicted_ms) {
    idle.remaining_bytes = idle.predicted_ms % 3 * 4096;
    idle.overhead_us = idle.predicted_ms * 1000 - idle.predicted_ms % 7 * 100;
    CU_ASSERT_EQUAL (end_of (idle, 100, &tried), POLICY_GIVE_UP);
    CU_ASSERT (tried >= FORECAST_MISSES);
    CU_ASSERT_EQUAL (end_of (idle, 8, &tried), POLICY_PAUSE);
  }
}

/* Nothing is left at the end of a round, as guests' writes are mirrored: that
 * is no reason to take back the throttle that the misses have called for, again
 * and again.
 */
static void
test_missed_and_mirrored (void)
{
  struct policy_snapshot s = automatic;
  unsigned tried;

  s.predicted_ms = 200;
  s.overhead_us = 200000;
  s.write_rate = 400 * 1024;
  s.mirrored_writes = 100;
  CU_ASSERT_EQUAL (end_of (s, 1000, &tried), POLICY_GIVE_UP);
  CU_ASSERT (tried >= FORECAST_MISSES);
  CU_ASSERT (tried <= POLICY_MISSES_MAX);
}

/* What may have been written late takes of the pause what need not be of it, so
 * it is waited for first, once for each.
 */
static void
test_missed_and_late (void)
{
  struct policy_snapshot s = automatic;
  unsigned tried = 0, waited = 0;
  struct policy p;

  policy_init (&p);
  s.mirror_refused = true;
  s.write_rate = 0;
  s.predicted_ms = 200;
  s.overhead_us = 200000;
  for (unsigned n = 0; n < 200; ++n) {
    struct policy_decision d;

    s.now_us += 1000000;
    d = policy_step (&p, &s);
    if (d.action == POLICY_GIVE_UP)
      break;
    s.quarantined_bytes = tried >= 5 ? 4096 : 0;
    waited += d.action == POLICY_LATE;
    if (d.action == POLICY_PAUSE && ++tried > 5)
      CU_ASSERT_EQUAL (waited, tried - 5);
    s.missed = d.action == POLICY_PAUSE;
  }
  CU_ASSERT_EQUAL (tried, FORECAST_MISSES);
}

static void
test_outrun (void)
{
  struct policy_speed s = { .dirty_rate = 95 * MiB,
                            .copy_rate = 100 * MiB,
                            .pause_ms = 900,
                            .max_pause_ms = MAX_PAUSE_MS };
  struct policy p;

  policy_init (&p);
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, 1000));
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, POLICY_OUTRUN_US));
  s.dirty_rate = 50 * MiB; /* a burst */
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, 2 * POLICY_OUTRUN_US));
  s.dirty_rate = 95 * MiB;
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, 3 * POLICY_OUTRUN_US));
  CU_ASSERT_TRUE (policy_is_outrun (&p, &s, 4 * POLICY_OUTRUN_US));
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, 5 * POLICY_OUTRUN_US));
  policy_forget_forecast (&p);
  s.pause_ms = MAX_PAUSE_MS; /* a small set */
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, 6 * POLICY_OUTRUN_US));
  CU_ASSERT_FALSE (policy_is_outrun (&p, &s, 8 * POLICY_OUTRUN_US));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "an idle guest", test_idle },
    { "it converges", test_converges },
    { "it settles", test_settles_three_times },
    { "it does not converge", test_gives_up },
    { "pauses that miss their deadline", test_misses },
    { "in sync until asked", test_waits },
    { "waiting is not given up", test_waits_for_ever },
    { "late writes, and reading back", test_reads_back },
    { "simulated guests", test_simulated },
    { "mirror: after rounds that do not shrink", test_mirror_begins },
    { "mirror: sooner where rounds are long", test_mirror_begins_long },
    { "mirror: sooner with a bad outlook", test_mirror_begins_soon },
    { "mirror: in the bulk", test_mirror_in_bulk },
    { "mirror: the first moment of the bulk", test_first_moment_of_bulk },
    { "mirror: fails in the bulk", test_mirror_fails_in_bulk },
    { "a mirror that costs much", test_dear_mirror_in_bulk },
    { "mirror: for a shorter pause", test_mirror_shortens },
    { "mirror: not before the end is asked for", test_mirror_shortens_at_end },
    { "missed pauses call for more", test_missed_pauses },
    { "mirror: not where it is too slow", test_mirror_slow },
    { "mirror: too slow for a moment", test_mirror_slow_for_a_moment },
    { "mirror: wished again", test_mirror_wished_again },
    { "mirror: in vain", test_mirror_in_vain },
    { "mirror: of next to nothing", test_mirror_share },
    { "mirror: of next to nothing, for long",
      test_mirror_share_in_long_rounds },
    { "mirror: not after a loss", test_rounds_forgotten },
    { "mirror: late", test_mirror_late },
    { "throttle: and the mirror", test_throttle_and_mirror },
    { "throttle: what is touched", test_throttle_sees_through },
    { "throttle: in vain", test_throttle_in_vain },
    { "hot chunks last", test_hot_last },
    { "hot chunks are spoken of seldom", test_hot_is_said },
    { "the copy's speed", test_copy_rate },
    { "patience", test_patience },
    { "what is allowed changes", test_converge_changes },
    { "what fitted between", test_fitted_between },
    { "what would have been needed", test_needed },
    { "the outlook in the bulk", test_outlook_in_bulk },
    { "the outlook, of what is dirty", test_outlook_set },
    { "stricter when it has settled", test_stricter_when_settled },
    { "a local minimum", test_local_minimum },
    { "what was missed", test_missed },
    { "missed, and nothing helps", test_missed_and_stuck },
    { "missed, and mirrored", test_missed_and_mirrored },
    { "missed, and late writes", test_missed_and_late },
    { "a guest that is too fast", test_outrun },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("policy", tests);
}
