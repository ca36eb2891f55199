/* SPDX-License-Identifier: BSD-3-Clause */
/* The cut-over: hold, final pass, flush, commit, release (R8 to R11).
 *
 * All disks together: every gate is shut before anything is final, every
 * owner is recorded before any gate opens.  The filters enforce the deadline;
 * this side only notices that it passed.  Until the first commit was asked
 * for, giving up is harmless: the gates open and the guests go on.  After that,
 * what is recorded is taken back while it waits for the other disks.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "show/events.h"
#include "run/migration.h"
#include "run/pass.h"
#include "run/cut-over.h"
#include "run/outcome.h"
#include "disks/gates.h"
#include "protocol.h"
#include "base/say.h"

/* ---- commit ------------------------------------------------------------ */

/* R10: of several disks, one that is recorded keeps its gate shut until it is
 * told what became of the others, also past the deadline.
 */
static json_t *
commit_arguments (struct disk *d)
{
  return json_pack ("{s:s, s:s, s:b}", "token", d->token, "finish",
                    finish_name (d->disks->finish), "together",
                    d->disks->n > 1);
}

/* The commit has put an end to what was done about the guest: it is asked for
 * anew.
 */
static void
rolled_back (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->reports_pending--;
  d->load.mirror_asked_ms = 0;
  d->load.throttle_asked = 0;
  if (a->value != NULL)
    d->outcome = OUTCOME_REFUSED;
  else
    failure_note (&d->disks->failure, "taking back the cut-over of %s: %s",
                  d->pair->source, a->desc);
}

static void
roll_back_all (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    struct disk *d = &m->disks.v[i];

    if (d->outcome != OUTCOME_COMMITTED)
      continue;
    d->reports_pending++;
    control_send (d->control, "rollback",
                  json_pack ("{s:s}", "token", d->token), NULL, 0, rolled_back,
                  d);
  }
  for (i = 0; i < m->disks.n; ++i)
    while (m->disks.v[i].reports_pending > 0)
      drive (&m->disks, 100);
}

/* What the disk answered to the commit. */
static enum outcome
answered (const struct disk *d)
{
  if (d->answer.value != NULL)
    return OUTCOME_COMMITTED;
  if (drive_refused_with (d, CONTROL_LOST))
    return OUTCOME_LOST;
  return drive_refused_with (d, "OwnerUnknown") ? OUTCOME_UNKNOWN
                                                : OUTCOME_REFUSED;
}

/* Whether all have committed, or may have, or what kept one from it. */
static enum cut_over
judge_commits (struct migration *m)
{
  enum cut_over result = CUT_DONE;
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];
    const bool lost = drive_refused_with (d, CONTROL_LOST);

    if (d->outcome == OUTCOME_COMMITTED)
      continue;
    if (drive_refused_with (d, "Wished")) {
      if (result == CUT_DONE || result == CUT_MISSED)
        result = CUT_WISHED;
      continue;
    }
    if (drive_refused_with (d, "GateExpired") ||
        drive_refused_with (d, "NotClean")) {
      if (result == CUT_DONE)
        result = CUT_MISSED;
      continue;
    }
    failure_note (&m->disks.failure, "cutting over %s: %s%s%s", d->pair->source,
                  lost ? "the answer was lost (" : "", d->answer.desc,
                  lost ? ")" : "");
    if (d->outcome != OUTCOME_LOST)
      result = CUT_FAILED;
  }
  return result;
}

static bool
any_ended_as (const struct migration *m, enum outcome outcome)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].outcome == outcome)
      return true;
  return false;
}

static enum cut_over
commit_all (struct migration *m)
{
  enum cut_over result;
  size_t i;

  m->committing = m->may_be_done = true;
  drive_ask_all (&m->disks, "commit", commit_arguments);
  for (i = 0; i < m->disks.n; ++i)
    m->disks.v[i].outcome = answered (&m->disks.v[i]);
  outcome_ask_lost (&m->disks);
  result = judge_commits (m);
  if (result != CUT_DONE)
    roll_back_all (m); /* R10: all or none */
  m->committing = result == CUT_DONE;
  if (any_ended_as (m, OUTCOME_LOST) || any_ended_as (m, OUTCOME_UNKNOWN) ||
      (result != CUT_DONE && any_ended_as (m, OUTCOME_COMMITTED)))
    return CUT_UNKNOWN;
  return result;
}

/* The disks may have ended on different sides: what every proxy that can be
 * asked says now, when nothing is under way any more, is the outcome.
 */
static enum cut_over
settle (struct migration *m)
{
  outcome_ask_all (&m->disks);
  if (any_ended_as (m, OUTCOME_LOST) || any_ended_as (m, OUTCOME_UNKNOWN))
    return CUT_UNKNOWN;
  if (!any_ended_as (m, OUTCOME_REFUSED))
    return CUT_DONE;
  return any_ended_as (m, OUTCOME_COMMITTED) ? CUT_UNKNOWN : CUT_FAILED;
}

/* ---- in the pause ------------------------------------------------------ */

static void
begin_pause (struct migration *m)
{
  m->pause = (struct pause){ .begin_time = event_now () };
  m->pause_begun_us = m->step_begun_us = loop_now_us ();
}

/* What was done since the last step counts for this one. */
static void
end_step (struct migration *m, enum pause_step step)
{
  const int64_t now_us = loop_now_us ();

  m->pause.steps_ms[step] += (double)(now_us - m->step_begun_us) / 1000;
  m->step_begun_us = now_us;
}

static void
end_pause (struct migration *m)
{
  end_step (m, PAUSE_RELEASE);
  m->pause.ms = (double)(m->step_begun_us - m->pause_begun_us) / 1000;
}

/* What somebody wished in the pause counts, as it was accepted.  An answer with
 * wishes may be under way; what the filters have then they tell when they are
 * asked to commit.
 */
static enum cut_over
look_at_wishes (struct migration *m)
{
  while (m->publishing > 0 && m->disks.failure.stop == STOP_NO)
    drive (&m->disks, 100);
  if (m->disks.failure.stop != STOP_NO)
    return m->disks.failure.stop == STOP_FAILED ? CUT_FAILED : CUT_MISSED;
  if (m->finish_wished && m->finish_wish != m->disks.finish)
    return CUT_WISHED;
  return m->paused ? CUT_WISHED : CUT_DONE;
}

static enum cut_over
interrupted (const struct migration *m)
{
  return m->disks.failure.stop == STOP_FAILED ? CUT_FAILED : CUT_MISSED;
}

/* What may have been written late, and with --verify what was not read back
 * yet.
 */
static enum cut_over
check_rest (struct migration *m, int64_t deadline_us)
{
  if (pass_quarantined (m) > 0) {
    if (!pass_run (m, PASS_QUARANTINE, deadline_us))
      return interrupted (m);
    if (pass_flush (m) == -1 || pass_refresh (m) == -1)
      return CUT_FAILED;
    if (pass_remaining (m) > 0 || pass_quarantined (m) > 0)
      return CUT_MISSED;
  }
  if (pass_unverified (m) > 0 && !pass_run (m, PASS_VERIFY, deadline_us))
    return interrupted (m);
  return m->disks.failure.stop == STOP_CANCELLED ? CUT_MISSED : CUT_DONE;
}

/* Everything that the destinations lack, with the gates shut. */
static enum cut_over
copy_rest (struct migration *m, int64_t deadline_us)
{
  const bool copied = pass_run (m, PASS_COPY, deadline_us);
  int flushed;

  end_step (m, PAUSE_COPY);
  if (!copied)
    return interrupted (m);
  flushed = pass_flush (m);
  end_step (m, PAUSE_FLUSH);
  return flushed == -1 ? CUT_FAILED : check_rest (m, deadline_us);
}

static void
obey_rate (struct migration *m, bool obey)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    copier_obey_rate (m->disks.v[i].copier, obey);
}

/* While an owner is recorded no deadline opens the gate (R10), so there must be
 * time for that.  One that comes between two commits costs taking back those
 * that were recorded, and a guest that waits for that: rather not begin.
 */
static bool
is_too_late (const struct migration *m, int64_t deadline_us)
{
  const int64_t between_us =
    m->disks.n > 1 ? (int64_t)m->disks.max_pause_ms * 1000 / 10 : 0;
  const int64_t commit_us = (int64_t)gates_commit_us (&m->disks);

  return loop_now_us () >= deadline_us - between_us - commit_us;
}

static enum cut_over
shut (struct migration *m)
{
  switch (gates_shut (&m->disks)) {
  case GATES_SHUT:
    return CUT_DONE;
  case GATES_MISSED:
    return CUT_MISSED;
  case GATES_FAILED:
    return CUT_FAILED;
  }
  abort ();
}

/* With the gates shut. */
static enum cut_over
cut_over_shut (struct migration *m, int64_t deadline_us)
{
  enum cut_over result;

  obey_rate (m, false);
  result = copy_rest (m, deadline_us);
  if (result == CUT_DONE)
    result = look_at_wishes (m);
  if (result == CUT_DONE && is_too_late (m, deadline_us))
    result = CUT_MISSED;
  end_step (m, PAUSE_CHECK);
  if (result == CUT_DONE)
    result = commit_all (m);
  end_step (m, PAUSE_COMMIT);
  obey_rate (m, true);
  return result;
}

static enum cut_over
cut_over_together (struct migration *m)
{
  const int64_t deadline_us =
    loop_now_us () + (int64_t)m->disks.max_pause_ms * 1000;
  enum cut_over result;

  m->phase = PHASE_FINAL;
  m->disks.in_pause = true;
  begin_pause (m);
  result = shut (m);
  end_step (m, PAUSE_HOLD);
  m->pause.remaining_bytes = pass_remaining (m);
  if (result == CUT_DONE)
    result = cut_over_shut (m, deadline_us);
  gates_open (&m->disks);
  end_pause (m);
  if (result == CUT_UNKNOWN)
    result = settle (m);
  m->may_be_done = result == CUT_DONE || result == CUT_UNKNOWN;
  m->disks.in_pause = false;
  m->pause.committed = result == CUT_DONE;
  event_pause (&m->pause);
  return result;
}

#ifndef PLANT_BUG_hold_one_by_one
enum cut_over
cut_over (struct migration *m)
{
  return cut_over_together (m);
}
#else
/* Wrong on purpose: each disk is brought up to date and has a pause of its own,
 * one after the other.
 */
enum cut_over
cut_over (struct migration *m)
{
  struct disk *const v = m->disks.v;
  const size_t n = m->disks.n;
  enum cut_over result = CUT_DONE;

  m->disks.n = 1;
  for (; m->disks.v < v + n && result == CUT_DONE; m->disks.v++)
    if (pass_run (m, PASS_COPY, 0))
      result = cut_over_together (m);
  m->disks.v = v;
  m->disks.n = n;
  return result;
}
#endif
