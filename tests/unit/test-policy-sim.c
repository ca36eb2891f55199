/* SPDX-License-Identifier: BSD-3-Clause */
/* Whole migrations in virtual time: what the policy comes to with guests of all
 * kinds (policy-sim.h).  TRACE=1 prints each decision.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy-sim.h"

#define MINUTES(n) ((uint64_t)(n)*60000)
#define MAX_PAUSE_MS 300
#define FLOOR SIM_MiB

static uint64_t seed;

/* ---- what is expected -------------------------------------------------- */

/* Of the measures. */
enum {
  TRACKS = 1,    /* no more than that */
  MIRRORS = 2,   /* must */
  THROTTLES = 4, /* must */
  MAY_MIRROR = 8,
};

struct expected {
  enum policy_action end;
  unsigned measures;
  uint64_t within_ms; /* of the end of the bulk */
  unsigned
    sent_percent; /* of the disk and what was written; 0: not looked at */
};

static struct sim_setup
plain (const char *name)
{
  return (struct sim_setup){
    .name = name,
    .disk_mib = 1024,
    .request_kib = 4,
    .span = 1000,
    .copy_mib = 400,
    .latency_ms = 2,
    .overhead_ms = 3,
    .jitter_percent = 5,
    .user = { .max_pause_ms = MAX_PAUSE_MS,
              .converge = CONVERGE_AUTO,
              .patience_ms = POLICY_PATIENCE_DEFAULT_MS,
              .throttle_floor = FLOOR },
  };
}

static void
check_limits (const struct sim_setup *u, const struct sim_result *r)
{
  const uint64_t most = u->user.max_pause_late_ms > u->user.max_pause_ms
                          ? u->user.max_pause_late_ms
                          : u->user.max_pause_ms;

  CU_ASSERT_TRUE (r->longest_hold_ms <= most);
  if (r->end == POLICY_PAUSE)
    CU_ASSERT_TRUE (r->pause_ms <= r->limit_ms);
  if (r->throttle_min != UINT64_MAX)
    CU_ASSERT_TRUE (r->throttle_min >= u->user.throttle_floor);
}

static void
check_measures (const struct sim_result *r, unsigned measures)
{
  const bool throttled = r->throttle_min != UINT64_MAX;
  const bool mirrored = r->mirror_begins > 0;

  CU_ASSERT_EQUAL (throttled, (measures & THROTTLES) != 0);
  if (!(measures & MAY_MIRROR))
    CU_ASSERT_EQUAL (mirrored, (measures & MIRRORS) != 0);
}

static struct sim_result
check (const struct sim_setup *u, const struct expected *e)
{
  const struct sim_result r = sim_run (u, &seed, MINUTES (60));
  const uint64_t sent = r.sent * 100 / (u->disk_mib * SIM_MiB + r.written);

  printf ("\n    %-28s %-8s %6.1f s after %5.1f s, pause %3" PRIu64
          " ms, %u rounds, sent %3" PRIu64 " %%, mirror %u (%u), throttle %s",
          u->name, policy_action_name (r.end),
          (double)(r.ms - r.bulk_ms) / 1000, (double)r.bulk_ms / 1000,
          r.pause_ms, r.rounds, sent, r.mirror_begins, r.demotions,
          r.throttle_min == UINT64_MAX ? "no" : "yes");
  CU_ASSERT_EQUAL (r.end, e->end);
  CU_ASSERT_TRUE (r.ms - r.bulk_ms <= e->within_ms);
  check_measures (&r, e->measures);
  check_limits (u, &r);
  if (e->sent_percent > 0)
    CU_ASSERT_TRUE (sent <= e->sent_percent);
  return r;
}

/* ---- traces ------------------------------------------------------------ */

/* 16 KiB of each chunk that is touched are written where nothing else is said:
 * 400 MiB/s of copying are 100 MiB/s of writing then.
 */

static void
test_tracking_suffices (void)
{
  const struct expected e = { POLICY_PAUSE, TRACKS, 20000, 0 };
  /* A moment of it, before the pause. */
  const struct expected shorter = { POLICY_PAUSE, MAY_MIRROR, 20000, 0 };
  struct sim_setup u = plain ("idle");
  struct sim_result r;

  check (&u, &e);
  u = plain ("steady, a fifth");
  u.write_mib = 5;
  check (&u, &e);
  u = plain ("steady, a half");
  u.write_mib = 12;
  check (&u, &shorter);
  u = plain ("steady, two thirds");
  u.write_mib = 17, u.disk_mib = 2048;
  check (&u, &shorter);
  u = plain ("hot spot of 1 %, unlimited");
  u.write_mib = 400, u.span = 10;
  r = check (&u, &shorter);
  CU_ASSERT_TRUE (r.mirrored_ms < 1000);
  CU_ASSERT_TRUE (r.pause_ms < 10);
  u = plain ("sequential, a half");
  u.write_mib = 200, u.request_kib = 256, u.pattern = SIM_SEQUENTIAL;
  check (&u, &shorter);
  u = plain ("a burst while the bulk runs");
  u.write_mib = 60, u.on_ms = 2000, u.off_ms = 1000000;
  check (&u, &shorter);
  u = plain ("a slow way, a third");
  u.disk_mib = 312, u.copy_mib = 25, u.overhead_ms = 50;
  u.write_mib = 7, u.request_kib = 512, u.pattern = SIM_SEQUENTIAL;
  u.span = 280;
  r = check (&u, &shorter);
  CU_ASSERT_TRUE (r.mirrored_ms < 3000);
}

static void
test_mirror_suffices (void)
{
  const struct expected e = { POLICY_PAUSE, MIRRORS, 20000, 200 };
  struct sim_setup u = plain ("steady, twice as fast");

  u.write_mib = 50;
  check (&u, &e);
  u = plain ("unlimited");
  u.write_mib = 1000;
  check (&u, &e);
  u = plain ("hot spot of 20 %, unlimited");
  u.write_mib = 400, u.span = 200;
  check (&u, &e);
  u = plain ("sequential, unlimited");
  u.write_mib = 1000, u.request_kib = 256, u.pattern = SIM_SEQUENTIAL;
  check (&u, &e);
  u = plain ("growing");
  u.write_mib = 20, u.growth_mib = 4;
  check (&u, &e);
}

static void
test_bursts (void)
{
  const struct expected e = { POLICY_PAUSE, MAY_MIRROR, 60000, 0 };
  struct sim_setup u = plain ("bursts");

  u.write_mib = 40, u.on_ms = 2000, u.off_ms = 3000;
  check (&u, &e);
  u = plain ("long bursts");
  u.write_mib = 100, u.on_ms = 20000, u.off_ms = 20000;
  check (&u, &e);
  u = plain ("short bursts");
  u.write_mib = 40, u.on_ms = 100, u.off_ms = 400;
  check (&u, &e);
}

/* On the same host, and the mirror would take much from the guest: in the bulk
 * it is tried at most, and comes after it.
 */
static void
test_dear (void)
{
  const struct expected e = { POLICY_PAUSE, MIRRORS, 20000, 200 };
  struct sim_setup u = plain ("near, and the mirror is dear");
  struct sim_result r;

  u.latency_ms = 1, u.write_mib = 1.5, u.disk_mib = 2048;
  u.user.background = 50, u.kept_percent = 50;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.mirrored_bulk_ms > 0 &&
                  r.mirrored_bulk_ms <= 2 * SIM_BEAT_MS);
  u.name = "near, and it is cheap";
  u.kept_percent = 90;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.mirrored_bulk_ms > 2 * SIM_BEAT_MS);
  u.name = "near, dear, and rounds are hopeless";
  u.kept_percent = 50, u.write_mib = 100;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.mirrored_bulk_ms > 2 * SIM_BEAT_MS);
}

/* Where it cannot be mirrored. */
static void
test_throttle (void)
{
  const struct expected e = { POLICY_PAUSE, THROTTLES | MAY_MIRROR, 60000, 0 };
  const struct expected none = { POLICY_PAUSE, THROTTLES, 60000, 0 };
  const struct expected slow = { POLICY_PAUSE, THROTTLES, MINUTES (2), 0 };
  struct sim_setup u = plain ("throttle, twice as fast");

  u.write_mib = 50, u.user.converge = CONVERGE_THROTTLE;
  check (&u, &none);
  u = plain ("throttle, unlimited");
  u.write_mib = 1000, u.user.converge = CONVERGE_THROTTLE;
  check (&u, &none);
  u = plain ("throttle, sequential");
  u.write_mib = 1000, u.request_kib = 256, u.pattern = SIM_SEQUENTIAL;
  u.user.converge = CONVERGE_THROTTLE;
  check (&u, &none);
  u = plain ("the mirror is refused");
  u.write_mib = 50, u.no_mirror = true;
  check (&u, &e);
  u = plain ("a slow destination");
  u.write_mib = 50, u.latency_ms = 80;
  check (&u, &slow);
}

static void
test_stalls (void)
{
  const struct expected e = { POLICY_PAUSE, MIRRORS, 40000, 0 };
  struct sim_setup u = plain ("the destination stalls");
  struct sim_result r;

  u.write_mib = 1000, u.stall_ms[0] = 3500, u.stall_ms[1] = 5500;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.demotions > 0);
}

/* In bounded time, and it says what it would have needed. */
static void
test_off (void)
{
  const struct expected e = { POLICY_GIVE_UP, TRACKS, 60000, 0 };
  const struct expected done = { POLICY_PAUSE, TRACKS, 60000, 0 };
  struct sim_setup u = plain ("off, twice as fast");
  struct sim_result r;

  u.write_mib = 50, u.user.converge = CONVERGE_OFF;
  r = check (&u, &e);
  CU_ASSERT_PTR_NOT_NULL (strstr (r.last, "would have been needed"));
  u = plain ("off, unlimited");
  u.write_mib = 1000, u.user.converge = CONVERGE_OFF;
  check (&u, &e);
  u = plain ("off, a pause in the load");
  u.write_mib = 50, u.quiet_ms[0] = 6000, u.quiet_ms[1] = 12000;
  u.user.converge = CONVERGE_OFF;
  check (&u, &done);
  u = plain ("off, half");
  u.write_mib = 12, u.user.converge = CONVERGE_OFF;
  check (&u, &done);
}

/* Where nothing helps it ends as well. */
static void
test_nothing_helps (void)
{
  const struct expected e = { POLICY_GIVE_UP, THROTTLES | MAY_MIRROR,
                              MINUTES (10), 0 };
  const struct expected flush = { POLICY_GIVE_UP, TRACKS, MINUTES (1), 0 };
  struct sim_setup u = plain ("a floor that is too high");

  u.write_mib = 1000, u.no_mirror = true, u.user.throttle_floor = 100 * SIM_MiB;
  check (&u, &e);
  u = plain ("a flush that is too long");
  u.write_mib = 50, u.overhead_ms = 400;
  check (&u, &flush);
}

/* --max-pause-late is used after --patience only. */
static void
test_late_limit (void)
{
  const struct expected e = { POLICY_PAUSE, TRACKS, 60000, 0 };
  struct sim_setup u = plain ("a longer pause, late");
  struct sim_result r;

  u.write_mib = 400, u.span = 200; /* 512 ms */
  u.user.converge = CONVERGE_OFF;
  u.user.max_pause_late_ms = 900, u.user.patience_ms = 10000;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.pause_ms > MAX_PAUSE_MS);
  CU_ASSERT_EQUAL (r.limit_ms, 900);
  CU_ASSERT_TRUE (r.ms - r.bulk_ms >= 10000);
  u = plain ("a longer pause, not needed");
  u.write_mib = 12, u.user.converge = CONVERGE_OFF;
  u.user.max_pause_late_ms = 900, u.user.patience_ms = 10000;
  r = check (&u, &e);
  CU_ASSERT_EQUAL (r.limit_ms, MAX_PAUSE_MS);
}

/* Nobody asks for the end: mirrored, so that it is in sync, but not
 * throttled; then as ever.
 */
static void
test_wait (void)
{
  const struct expected e = { POLICY_PAUSE, MIRRORS, 70000, 0 };
  struct sim_setup u = plain ("in sync, unlimited");
  struct sim_result r;

  u.write_mib = 1000, u.user.wait = true, u.finish_ms = 60000;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.ready_ms > 0 && r.ready_ms < 20000);
  CU_ASSERT_TRUE (r.ms >= 60000);
  u = plain ("in sync, hot spot");
  u.write_mib = 100, u.span = 5, u.user.wait = true, u.finish_ms = 60000;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.hot_ms > 0);
  CU_ASSERT_TRUE (r.mirrored_ms < 1000); /* for a shorter pause, at the end */
  CU_ASSERT_TRUE (r.sent < 2 * u.disk_mib * SIM_MiB);
  u = plain ("in sync, then calm");
  u.write_mib = 1000, u.on_ms = 8000, u.off_ms = 1000000;
  u.user.wait = true, u.finish_ms = 60000;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.mirrored_ms < 45000);
}

/* It says what it would do, and does what it does without. */
static void
test_explain (void)
{
  const struct expected e = { POLICY_GIVE_UP, TRACKS, 60000, 0 };
  struct sim_setup u = plain ("explained only");
  struct sim_result r;

  u.write_mib = 50, u.user.explain = true;
  r = check (&u, &e);
  CU_ASSERT_TRUE (r.would > 0);
  CU_ASSERT_EQUAL (r.told, 0);
}

/* ---- random ------------------------------------------------------------ */

static double
random_between (double low, double high)
{
  return low + (high - low) * (double)unit_random (&seed, 1001) / 1000;
}

static struct sim_setup
random_setup (void)
{
  struct sim_setup u = plain ("random");

  u.disk_mib = 64 + unit_random (&seed, 512);
  u.copy_mib = random_between (20, 800);
  u.write_mib = random_between (0, 1) * random_between (0, 1) * 500;
  u.request_kib = 4U << unit_random (&seed, 8);
  u.pattern = unit_random (&seed, 2) ? SIM_RANDOM : SIM_SEQUENTIAL;
  u.span = 1 + (unsigned)unit_random (&seed, 1000);
  if (unit_random (&seed, 3) == 0) {
    u.on_ms = 1 + (unsigned)unit_random (&seed, 5000);
    u.off_ms = (unsigned)unit_random (&seed, 5000);
  }
  if (unit_random (&seed, 4) == 0)
    u.growth_mib = random_between (0, 10);
  if (unit_random (&seed, 4) == 0) {
    u.stall_ms[0] = (unsigned)unit_random (&seed, 20000);
    u.stall_ms[1] = u.stall_ms[0] + (unsigned)unit_random (&seed, 8000);
  }
  u.latency_ms = 1 + (unsigned)unit_random (&seed, 5);
  if (unit_random (&seed, 4) == 0)
    u.latency_ms = 80;
  u.no_mirror = unit_random (&seed, 4) == 0;
  if (unit_random (&seed, 3) > 0)
    u.kept_percent = 5 + (unsigned)unit_random (&seed, 96);
  u.user.background = (unsigned)unit_random (&seed, 101);
  u.overhead_ms = 1 + (unsigned)unit_random (&seed, 60);
  u.jitter_percent = (unsigned)unit_random (&seed, 25);
  if (unit_random (&seed, 4) == 0)
    u.user.rate =
      (uint64_t)(u.copy_mib * random_between (0.1, 1) * (double)SIM_MiB);
  return u;
}

/* A guest at the floor leaves the copy enough, whatever it writes. */
static bool
is_possible (const struct sim_setup *u)
{
  const double request = u->request_kib < 64 ? 64 : u->request_kib + 64;
  const double worst = request / u->request_kib;
  double speed = u->copy_mib * (double)SIM_MiB;

  if (u->user.rate > 0 && (double)u->user.rate < speed)
    speed = (double)u->user.rate;
  return (double)u->user.throttle_floor * worst < speed / 3;
}

/* Where the mirror can be had, guests are not throttled; where they touch far
 * less than is copied, nothing is done to them but for a moment before the
 * pause; or also in the bulk where the destination is near.
 */
static void
check_gentle (const struct sim_setup *u, const struct sim_result *r)
{
  const double least = u->request_kib < 64 ? 128.0 : u->request_kib + 64.0;
  const double touch = (u->write_mib + u->growth_mib * (double)r->ms / 1000) *
                       least / u->request_kib;
  const double rate = (double)u->user.rate / (double)SIM_MiB;
  const double speed = rate > 0 && rate < u->copy_mib ? rate : u->copy_mib;
  const bool smooth = u->latency_ms <= 5 && u->stall_ms[1] == 0;

  if (smooth && !u->no_mirror)
    CU_ASSERT_EQUAL (r->throttle_min, UINT64_MAX);
  if (smooth && touch < speed / 2 && u->latency_ms > 1) {
    CU_ASSERT_TRUE (r->mirror_begins <= 1 && r->mirrored_ms <= 3000);
    CU_ASSERT_EQUAL (r->throttle_min, UINT64_MAX);
  }
}

static void
test_random (void)
{
  unsigned i, done = 0, given_up = 0;

  seed = unit_seed ();
  for (i = 0; i < 400; ++i) {
    const uint64_t before = seed;
    const struct sim_setup u = random_setup ();
    const struct sim_result r = sim_run (&u, &seed, MINUTES (60));
    const bool wrong =
      r.end == POLICY_ROUND || (r.end == POLICY_GIVE_UP && is_possible (&u));

    check_limits (&u, &r);
    check_gentle (&u, &r);
    done += r.end == POLICY_PAUSE;
    given_up += r.end == POLICY_GIVE_UP;
    if (wrong)
      printf ("\n    SEED=%" PRIu64 ": %s after %.1f s ", before,
              policy_action_name (r.end), (double)r.ms / 1000);
    CU_ASSERT_FALSE (wrong);
  }
  printf ("%u done, %u given up ", done, given_up);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "tracking suffices", test_tracking_suffices },
    { "the mirror suffices", test_mirror_suffices },
    { "a mirror that is dear", test_dear },
    { "bursts", test_bursts },
    { "the throttle", test_throttle },
    { "a destination that stalls", test_stalls },
    { "off", test_off },
    { "where nothing helps", test_nothing_helps },
    { "a longer pause, late", test_late_limit },
    { "in sync until asked", test_wait },
    { "explained only", test_explain },
    { "random guests", test_random },
    CU_TEST_INFO_NULL,
  };

  seed = unit_seed ();
  return unit_main ("policy-sim", tests);
}
