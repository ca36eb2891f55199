/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <string.h>

#include "policy/measures.h"
#include "policy/policy.h"
#include "units.h"

_Static_assert(POLICY_SETTLE_ROUNDS <= POLICY_WINDOW,
               "looking for a minimum is the longer way");

const char *
policy_action_name (enum policy_action action)
{
  static const char *const names[] = {
    [POLICY_ROUND] = "round",     [POLICY_LATE] = "late-writes",
    [POLICY_VERIFY] = "verify",   [POLICY_READY] = "ready",
    [POLICY_PREPARE] = "prepare", [POLICY_PAUSE] = "pause",
    [POLICY_GIVE_UP] = "give-up",
  };

  return names[action];
}

static const char *const converge_names[] = {
  [CONVERGE_OFF] = "off",
  [CONVERGE_AUTO] = "auto",
  [CONVERGE_MIRROR] = "mirror",
  [CONVERGE_THROTTLE] = "throttle",
};
#define NR_CONVERGE (sizeof converge_names / sizeof converge_names[0])

const char *
policy_converge_name (enum policy_converge converge)
{
  return converge_names[converge];
}

int
policy_converge_parse (const char *text, enum policy_converge *converge)
{
  size_t i;

  for (i = 0; i < NR_CONVERGE; ++i)
    if (strcmp (text, converge_names[i]) == 0) {
      *converge = (enum policy_converge)i;
      return 0;
    }
  return -1;
}

void
policy_init (struct policy *p)
{
  *p = (struct policy){ .stage = POLICY_MEASURED };
  forecast_init (&p->forecast);
}

void
policy_forget_misses (struct policy *p)
{
  p->missed = 0;
}

void
policy_forget_forecast (struct policy *p)
{
  forecast_init (&p->forecast);
  p->outrun_since_us = 0;
  p->outrun_said = false;
}

void
policy_forget_rounds (struct policy *p)
{
  p->course = (struct policy_course){ 0 };
  p->left_bytes = 0;
  p->diverges_since_us = 0;
  p->nr_measured = 0;
}

void
policy_was_away (struct policy *p, int64_t us)
{
  if (p->asked_since_us != 0)
    p->asked_since_us += us;
}

void
policy_forget_failures (struct policy *p)
{
  p->mirror.failures = 0;
  p->mirror.not_before_us = 0;
  p->share.failures = 0;
  p->slow_rounds = 0;
}

static uint64_t
expected_ms (const struct policy *p, const struct policy_snapshot *s)
{
  return measures_expected (p, s, s->predicted_ms);
}

static bool
fits (const struct policy *p, const struct policy_snapshot *s)
{
  return expected_ms (p, s) <= measures_max_pause_ms (p, s);
}

static void
note_pause (struct policy *p, uint64_t predicted_ms)
{
  p->window[p->nr_measured++ % POLICY_WINDOW] = predicted_ms;
}

static uint64_t
shortest_of_late (const struct policy *p)
{
  const unsigned n =
    p->nr_measured < POLICY_WINDOW ? p->nr_measured : POLICY_WINDOW;
  uint64_t ms = FORECAST_NEVER;
  unsigned i;

  for (i = 0; i < n; ++i)
    if (p->window[i] < ms)
      ms = p->window[i];
  return ms;
}

/* No round of late would have made a better one. */
static bool
is_minimum (const struct policy *p, const struct policy_snapshot *s)
{
  const uint64_t ms = shortest_of_late (p);
  const uint64_t near = ms / 100 * POLICY_NEAR_PERCENT + POLICY_NEAR_MS;

  return s->predicted_ms <= (ms < FORECAST_NEVER - near ? ms + near : ms);
}

static void
enter (struct policy *p, enum policy_stage stage)
{
  p->stage = stage;
  p->rounds = 0;
}

static bool
decide (struct policy_decision *d, enum policy_action action,
        const char *reason)
{
  d->action = action;
  snprintf (d->reason, sizeof d->reason, "%s", reason);
  return true;
}

/* ---- the stages -------------------------------------------------------- */

/* Each returns whether it has decided; if not, it has entered another one. */

/* What the guest wrote since the last round while it was ready need not wait
 * for the pause, unless a rate limits all but that.
 */
static bool
is_settled (const struct policy_snapshot *s)
{
  return s->ready && (!s->finish_wished || s->rate != 0);
}

static void
judge (struct policy *p, const struct policy_snapshot *s)
{
  enter (p, fits (p, s) && !is_settled (s) ? POLICY_SETTLES : POLICY_DECIDES);
}

/* No copying would make the part of the pause shorter that reads back. */
static bool
measured (struct policy *p, const struct policy_snapshot *s)
{
  if (!fits (p, s) && p->verified && s->unverified_bytes > 0)
    enter (p, POLICY_VERIFIES_AGAIN);
  else
    judge (p, s);
  return false;
}

/* A pause that fits can often be made much shorter for little: go on while each
 * round halves what remains, and then for a while until it is about the
 * shortest that rounds lead to.
 */
static bool
settle (struct policy *p, const struct policy_snapshot *s,
        struct policy_decision *d)
{
  const bool halved =
    p->rounds == 0 || s->remaining_bytes <= p->remaining_before / 2;
  const bool shrinks = halved && p->rounds < POLICY_SETTLE_ROUNDS;
  const bool minimum =
    is_minimum (p, s) || p->rounds >= POLICY_SETTLE_ROUNDS + POLICY_WINDOW;

  if (!shrinks && p->rounds < POLICY_SETTLE_ROUNDS + POLICY_WINDOW &&
      measures_shorten (p, s, d)) {
    p->remaining_before = s->remaining_bytes;
    p->rounds++;
    return decide (d, POLICY_ROUND,
                   "the pause fits, and is shorter with the mirror");
  }
  if (s->remaining_bytes == 0 || (!shrinks && minimum)) {
    enter (p, POLICY_READS_BACK);
    return false;
  }
  p->remaining_before = s->remaining_bytes;
  p->rounds++;
  if (shrinks)
    return decide (d, POLICY_ROUND,
                   "the pause fits, and a round may make it shorter");
  return decide (d, POLICY_ROUND,
                 "the pause fits, and was shorter a few rounds ago");
}

static bool
read_back (struct policy *p, const struct policy_snapshot *s,
           struct policy_decision *d)
{
  enter (p, POLICY_VERIFIES);
  if (s->late)
    return decide (d, POLICY_LATE,
                   "a write that was not answered may still be done");
  if (s->quarantined_bytes > 0)
    return decide (d, POLICY_LATE,
                   "what may have been written late is read back");
  return false;
}

/* Until only what the guest keeps writing is left; that is read back in the
 * pause.
 */
static bool
verify (struct policy *p, const struct policy_snapshot *s,
        struct policy_decision *d)
{
  p->verified |= s->verify;
  if (!s->verify || s->unverified_bytes == 0 ||
      p->rounds == POLICY_SETTLE_ROUNDS) {
    if (p->stage == POLICY_VERIFIES_AGAIN)
      judge (p, s);
    else
      enter (p, POLICY_DECIDES);
    return false;
  }
  p->rounds++;
  return decide (d, POLICY_VERIFY, "what was copied is to be read back");
}

/* It does not fit.  As long as there is something left to try, what was does
 * not count.  If that is only since pauses before it missed their deadline,
 * and nothing makes it shorter, it is better to try than to give up.
 */
static bool
go_on (struct policy *p, const struct policy_snapshot *s,
       struct policy_decision *d)
{
  const uint64_t limit_ms = measures_max_pause_ms (p, s);
  const bool more = measures_round (p, s, d) && !s->explain;

  if (s->wait || more)
    forecast_restart (&p->forecast);
  if (s->wait || forecast_note (&p->forecast, expected_ms (p, s), limit_ms))
    return decide (d, POLICY_ROUND, "the pause would be too long");
  if (s->predicted_ms > limit_ms)
    return decide (d, POLICY_GIVE_UP, "five passes brought it hardly nearer");
  if ((s->late || s->quarantined_bytes > 0) && !p->late_awaited) {
    p->late_awaited = true;
    return decide (d, POLICY_LATE,
                   "what may have been written late is not for such a pause");
  }
  enter (p, POLICY_TRIED);
  return decide (d, POLICY_PAUSE,
                 "the pause may fit, and nothing makes it shorter");
}

/* What was before says nothing of now, once it fits. */
static bool
choose (struct policy *p, const struct policy_snapshot *s,
        struct policy_decision *d)
{
  if (s->finish_wished) /* and then decide with what is in force */
    return decide (d, POLICY_PREPARE, "somebody asks for the end");
  enter (p, POLICY_MEASURED);
  if (!fits (p, s))
    return go_on (p, s, d);
  forecast_init (&p->forecast);
  measures_fit (p, s, d);
  if (s->wait)
    return decide (d, POLICY_READY, "the pause fits, and nobody asks for it");
  enter (p, POLICY_TRIED);
  return decide (d, POLICY_PAUSE, "the pause fits");
}

static bool
tried (struct policy *p, const struct policy_snapshot *s,
       struct policy_decision *d)
{
  bool more = false;

  enter (p, POLICY_MEASURED);
  p->late_awaited = false;
  if (s->missed) {
    p->missed++;
    more = measures_missed (p, s, d);
  }
  if (p->missed >= FORECAST_MISSES && (!more || p->missed >= POLICY_MISSES_MAX))
    return decide (d, POLICY_GIVE_UP,
                   more ? "forty pauses in a row missed their deadline"
                        : "ten pauses in a row missed their deadline");
  return decide (d, POLICY_ROUND,
                 s->missed ? "the pause missed its deadline"
                           : "the pause was called off");
}

/* Until one of the stages has decided. */
static void
go_through (struct policy *p, const struct policy_snapshot *s,
            struct policy_decision *d)
{
  bool decided = false;

  while (!decided)
    switch (p->stage) {
    case POLICY_MEASURED:
      decided = measured (p, s);
      break;
    case POLICY_SETTLES:
      decided = settle (p, s, d);
      break;
    case POLICY_READS_BACK:
      decided = read_back (p, s, d);
      break;
    case POLICY_VERIFIES:
    case POLICY_VERIFIES_AGAIN:
      decided = verify (p, s, d);
      break;
    case POLICY_DECIDES:
      decided = choose (p, s, d);
      break;
    case POLICY_TRIED:
      decided = tried (p, s, d);
      break;
    }
}

/* What is only explained is not in force. */
static struct policy_measures
in_force (const struct policy *p, const struct policy_snapshot *s)
{
  return s->explain
           ? (struct policy_measures){ .max_pause_ms = s->max_pause_ms }
           : p->measures;
}

struct policy_decision
policy_step (struct policy *p, const struct policy_snapshot *s)
{
  struct policy_decision d = { .action = POLICY_ROUND };

  measures_beat (p, s, &d, true);
  note_pause (p, s->predicted_ms);
  go_through (p, s, &d);
  d.measures = in_force (p, s);
  return d;
}

struct policy_decision
policy_beat (struct policy *p, const struct policy_snapshot *s)
{
  struct policy_decision d = { .action = POLICY_ROUND };

  measures_beat (p, s, &d, false);
  d.measures = in_force (p, s);
  return d;
}

uint64_t
policy_max_pause_ms (const struct policy *p, const struct policy_snapshot *s)
{
  return measures_max_pause_ms (p, s);
}

/* ---- outlook ----------------------------------------------------------- */

struct forecast_outlook
policy_outlook (const struct policy_snapshot *s)
{
  return forecast_outlook (&(struct forecast_load){
    .remaining_bytes = s->remaining_bytes,
    .disk_bytes = s->disk_bytes,
    .pause_rate = s->copy_rate,
    .copy_rate = measures_copy_rate (s),
    .dirty_rate = s->dirty_rate,
    .redirty_rate = s->redirty_rate,
    .touch_rate = s->touch_rate,
    .guest_bytes = s->guest_bytes,
    .overhead_us = s->overhead_us,
    .max_pause_ms = s->max_pause_ms,
    .bulk = s->bulk_end_us == 0,
  });
}

const char *
policy_needed (const struct policy *p, const struct policy_snapshot *s,
               char text[POLICY_REASON_MAX])
{
  const uint64_t limit_ms = measures_max_pause_ms (p, s);
  char pause[UNITS_TEXT_MAX] = "an unknown time", limit[UNITS_TEXT_MAX];
  char dirty[UNITS_TEXT_MAX], speed[UNITS_TEXT_MAX];
  const uint64_t now = expected_ms (p, s);
  const uint64_t best = p->forecast.best_ms < now ? p->forecast.best_ms : now;

  if (best != FORECAST_NEVER)
    units_format_ms (pause, best > limit_ms ? best : 2 * limit_ms);
  snprintf (text, POLICY_REASON_MAX,
            "a pause of about %s would have been needed, %s is %s; "
            "%s/s become dirty anew, the copy runs at %s/s",
            pause,
            limit_ms > s->max_pause_ms ? "--max-pause-late" : "--max-pause",
            units_format_ms (limit, limit_ms),
            units_format_bytes (dirty, s->dirty_rate),
            units_format_bytes (speed, measures_copy_rate (s)));
  return text;
}

/* ---- a guest that is too fast ------------------------------------------ */

bool
policy_is_outrun (struct policy *p, const struct policy_speed *s,
                  int64_t now_us)
{
  if (p->outrun_said)
    return false;
  if (!forecast_is_outrun (s->dirty_rate, s->copy_rate) ||
      s->pause_ms <= s->max_pause_ms)
    p->outrun_since_us = 0;
  else if (p->outrun_since_us == 0)
    p->outrun_since_us = now_us;
  else
    p->outrun_said = now_us - p->outrun_since_us >= POLICY_OUTRUN_US;
  return p->outrun_said;
}
