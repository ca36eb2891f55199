/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/policy.h"

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

static bool
fits (const struct policy_snapshot *s)
{
  return s->predicted_ms <= s->max_pause_ms;
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
  *d = (struct policy_decision){ action, reason };
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
  enter (p, fits (s) && !is_settled (s) ? POLICY_SETTLES : POLICY_DECIDES);
}

/* No copying would make the part of the pause shorter that reads back. */
static bool
measured (struct policy *p, const struct policy_snapshot *s)
{
  if (!fits (s) && p->verified && s->unverified_bytes > 0)
    enter (p, POLICY_VERIFIES_AGAIN);
  else
    judge (p, s);
  return false;
}

/* A pause that fits can often be made much shorter for little: go on while each
 * round halves what remains.
 */
static bool
settle (struct policy *p, const struct policy_snapshot *s,
        struct policy_decision *d)
{
  const bool halved =
    p->rounds == 0 || s->remaining_bytes <= p->remaining_before / 2;

  if (s->remaining_bytes == 0 || p->rounds == POLICY_SETTLE_ROUNDS || !halved) {
    enter (p, POLICY_READS_BACK);
    return false;
  }
  p->remaining_before = s->remaining_bytes;
  p->rounds++;
  return decide (d, POLICY_ROUND,
                 "the pause fits, and a round may make it shorter");
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

/* What was before says nothing of now, once it fits or if there is no hurry. */
static bool
choose (struct policy *p, const struct policy_snapshot *s,
        struct policy_decision *d)
{
  if (s->finish_wished) /* and then decide with what is in force */
    return decide (d, POLICY_PREPARE, "somebody asks for the end");
  enter (p, POLICY_MEASURED);
  if (fits (s) || s->wait)
    forecast_init (&p->forecast);
  if (fits (s) && s->wait)
    return decide (d, POLICY_READY, "the pause fits, and nobody asks for it");
  if (fits (s)) {
    enter (p, POLICY_TRIED);
    return decide (d, POLICY_PAUSE, "the pause fits");
  }
  if (s->wait)
    return decide (d, POLICY_ROUND, "the pause would be too long");
  if (!forecast_note (&p->forecast, s->predicted_ms, s->max_pause_ms))
    return decide (d, POLICY_GIVE_UP, "five passes brought it hardly nearer");
  return decide (d, POLICY_ROUND, "the pause would be too long");
}

static bool
tried (struct policy *p, const struct policy_snapshot *s,
       struct policy_decision *d)
{
  enter (p, POLICY_MEASURED);
  if (s->missed && ++p->missed == FORECAST_MISSES)
    return decide (d, POLICY_GIVE_UP,
                   "ten pauses in a row missed their deadline");
  return decide (d, POLICY_ROUND,
                 s->missed ? "the pause missed its deadline"
                           : "something else is wished");
}

struct policy_decision
policy_step (struct policy *p, const struct policy_snapshot *s)
{
  struct policy_decision d = { POLICY_ROUND, "" };
  bool decided = false;

  while (!decided)
    switch (p->stage) {
    case POLICY_MEASURED:
      decided = measured (p, s);
      break;
    case POLICY_SETTLES:
      decided = settle (p, s, &d);
      break;
    case POLICY_READS_BACK:
      decided = read_back (p, s, &d);
      break;
    case POLICY_VERIFIES:
    case POLICY_VERIFIES_AGAIN:
      decided = verify (p, s, &d);
      break;
    case POLICY_DECIDES:
      decided = choose (p, s, &d);
      break;
    case POLICY_TRIED:
      decided = tried (p, s, &d);
      break;
    }
  return d;
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
