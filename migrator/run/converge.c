/* SPDX-License-Identifier: BSD-3-Clause */
/* What the policy decides (policy/policy.h), carried out: measure, ask it, do
 * it, until one cut-over succeeds or it gives up.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "show/events.h"
#include "run/approach.h"
#include "run/guests.h"
#include "run/liveness.h"
#include "run/measure.h"
#include "run/migration.h"
#include "run/heartbeat.h"
#include "run/hook.h"
#include "run/pass.h"
#include "run/paused.h"
#include "run/recover.h"
#include "run/schedule.h"
#include "run/cut-over.h"
#include "run/converge.h"
#include "disks/gates.h"
#include "trust/evidence.h"
#include "base/say.h"
#include "units.h"

/* A cut-over needs about this many questions and answers in a row. */
#define ROUND_TRIPS 8

#define UNMEASURED_BYTES_PER_SECOND (UINT64_C (32) * 1024 * 1024)

/* Of a disk, besides those of a mirror: one, and one for which it waited. */
#define MANY_CONNECTIONS 2

/* A shorter wait for late writes is not worth a message. */
#define LATE_MS 3000

/* How long to try to read back what the guest keeps dirty before the pause has
 * to.
 */
#define QUARANTINE_US (INT64_C (5) * 1000000)

/* A hook that fails is tried so often, and not at once again: it may freeze a
 * guest each time.
 */
#define HOOK_TRIES 10
#define HOOK_REST_US (INT64_C (1) * 1000000)

/* ---- forecast ---------------------------------------------------------- */

/* Bytes to be moved in the pause.  With --verify what is copied is read back,
 * too, once most of it has been.
 */
static uint64_t
in_the_pause (const struct migration *m)
{
  uint64_t bytes = pass_remaining (m);

  if (m->disks.options->verify)
    bytes *= 2;
  if (m->policy.verified)
    bytes += pass_unverified (m);
  return bytes;
}

/* A disk that held nothing but zeroes so far has shown no bandwidth.  The
 * gate's deadline bounds what a wrong guess can cost.
 */
static uint64_t
bandwidth (const struct migration *m)
{
  const uint64_t measured = meter_bandwidth (&m->meter);

  return measured > 0 ? measured : UNMEASURED_BYTES_PER_SECOND;
}

int
converge_predict (struct migration *m)
{
  const int64_t begin = loop_now_us ();
  struct forecast_input in;
  uint64_t trip_us;

  if (pass_refresh (m) == -1)
    return -1;
  trip_us = forecast_trip (&m->trips, (uint64_t)(loop_now_us () - begin));
  in = (struct forecast_input){
    .remaining_bytes = in_the_pause (m),
    .bytes_per_second = bandwidth (m),
    .flush_us = m->flush_us + gates_commit_us (&m->disks),
    .round_trips_us = trip_us * ROUND_TRIPS,
  };
  m->predicted_ms = forecast_pause_ms (&in);
  m->overhead_us = in.flush_us + in.round_trips_us;
  return 0;
}

static bool
fits (const struct migration *m)
{
  return m->predicted_ms <= m->disks.max_pause_ms;
}

/* Measured is at the end of a round, with the copying going on. */
static int
next_round (struct migration *m)
{
  rounds_go (m);
  return rounds_wait_next (m) ? converge_predict (m) : -1;
}

static int
dirty_round (struct migration *m)
{
  migrate_enter (m, PHASE_DIRTY);
  return next_round (m);
}

/* ---- late writes (R17) ------------------------------------------------- */

/* Where the disk is now, its proxy has sent a write that may still be done.  A
 * disk that stays can wait for that later.
 */
static bool
waits_to_leave (const struct disk *d)
{
  const struct migration *m = migration_of (d->disks);

  return d->source_late_ms > 0 &&
         (m->finish_wished ? m->finish_wish : m->disks.finish) != FINISH_DETACH;
}

static const struct disk *
find_late (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (disk_waits_for_late_writes (&m->disks.v[i]) ||
        waits_to_leave (&m->disks.v[i]))
      return &m->disks.v[i];
  return NULL;
}

static void
say_late (const struct disk *d)
{
  char bytes[UNITS_TEXT_MAX], ms[UNITS_TEXT_MAX];

  units_format_bytes (bytes, d->quarantined_bytes);
  if (!disk_waits_for_late_writes (d))
    say_info ("a write that the proxy has sent to where %s is now, and that "
              "was not answered, may still be done there: the disk stays "
              "until it cannot be any more, for %s at least",
              d->pair->source, units_format_ms (ms, d->source_late_ms));
  else if (d->old_connections > 0)
    say_info ("what an earlier run has sent to %s may still be written (%s): "
              "there is a write that has not been answered for %s on a "
              "connection that is not closed; waiting until it is, which a "
              "restart of that server brings about",
              d->pair->destination, bytes,
              units_format_ms (ms, d->unanswered_ms));
  else
    say_info ("what an earlier run has sent may still be written to %s (%s): "
              "it is read back in %s (after 2 s, or twice as long as a write "
              "of this disk ever was unanswered)",
              d->pair->destination, bytes,
              units_format_ms (ms, d->quarantine_ms));
}

static void
enter_late (struct migration *m)
{
  if (m->phase != PHASE_LATE)
    migrate_enter (m, PHASE_LATE);
}

/* Nothing is cut over as long as a write may land late.  What the guest writes
 * meanwhile is copied, so that it does not pile up.
 */
static int
wait_for_late_writes (struct migration *m)
{
  const struct disk *d, *said = NULL;

  while ((d = find_late (m)) != NULL) {
    enter_late (m);
    if (d != said && (d->old_connections > 0 || d->quarantine_ms >= LATE_MS ||
                      waits_to_leave (d))) {
      say_late (d);
      said = d;
    }
    if (next_round (m) == -1)
      return -1;
  }
  return 0;
}

/* Chunks whose last write may still land late are read back once their grace
 * is over, and where something did they are copied once more; those the guest
 * keeps dirty have to wait for the pause.
 */
static int
lift_quarantine (struct migration *m)
{
  int64_t deadline;

  if (wait_for_late_writes (m) == -1)
    return -1;
  if (pass_quarantined (m) == 0)
    return 0;
  deadline = loop_now_us () + QUARANTINE_US;
  for (;;) {
    enter_late (m);
    if (!rounds_stop (m) || !pass_run (m, PASS_QUARANTINE, 0) ||
        pass_flush (m) == -1 || converge_predict (m) == -1)
      return -1;
    if (pass_remaining (m) > 0 && dirty_round (m) == -1)
      return -1;
    if (pass_quarantined (m) == 0 || loop_now_us () >= deadline)
      break;
    drive (&m->disks, 100);
  }
  return m->disks.failure.stop == STOP_NO ? 0 : -1;
}

/* ---- ends -------------------------------------------------------------- */

static json_t *
prepare_arguments (struct disk *d)
{
  return json_pack ("{s:s, s:s}", "destination", d->pair->destination, "finish",
                    finish_name (d->disks->finish));
}

int
converge_prepare (struct migration *m)
{
  return drive_ask_all (&m->disks, "prepare", prepare_arguments);
}

/* 'nbdmigrate finish' may choose another end; one that the filters refuse
 * leaves everything as it was.
 */
static void
obey_finish_wish (struct migration *m)
{
  const enum finish before = m->disks.finish;
  const bool waited = m->wait, by_hand = m->finish_by_hand;
  const struct disk *d;

  if (!m->finish_wished)
    return;
  m->finish_wished = m->wait = m->sampled = false;
  m->disks.finish = m->finish_wish;
  m->finish_by_hand = true;
  if (converge_prepare (m) == 0)
    return;
  d = drive_refused (&m->disks);
  say_error ("cannot finish %s by %s: %s", d->pair->source,
             finish_name (m->disks.finish), d->answer.desc);
  m->disks.finish = before;
  m->wait = waited;
  m->finish_by_hand = by_hand;
  m->schedule_told = false;
}

/* ---- convergence ------------------------------------------------------- */

/* No copying makes the pause shorter than that. */
static bool
is_flush_too_long (const struct migration *m)
{
  return (m->flush_us + gates_commit_us (&m->disks)) / 1000 >
         m->disks.max_pause_ms;
}

/* Nothing else would tell why it goes on and on. */
static void
note_long_flush (struct migration *m)
{
  char flush[UNITS_TEXT_MAX], record[UNITS_TEXT_MAX], limit[UNITS_TEXT_MAX];

  if (fits (m))
    m->long_flush_said = false;
  if (!m->wait || m->long_flush_said || fits (m) || !is_flush_too_long (m))
    return;
  m->long_flush_said = true;
  event_policy ("warn", "a flush of the destination and recording the owner "
                        "take longer than the pause may");
  say_info ("not ready: a flush of the destination takes %s, recording the "
            "owner %s, and --max-pause is %s; 'nbdmigrate set' with "
            "max-pause=TIME can raise that",
            units_format_ms (flush, m->flush_us / 1000),
            units_format_ms (record, gates_commit_us (&m->disks) / 1000),
            units_format_ms (limit, m->disks.max_pause_ms));
}

/* Where nothing else was allowed. */
static const char *
mirror_hint (const struct migration *m)
{
  if (m->converge != CONVERGE_MIRROR)
    return "";
  if (!guests_can_be_mirrored (m))
    return "; guests' writes cannot be mirrored to a destination that does not "
           "announce multi-conn";
  if (guests_are_refused (m))
    return "; guests' writes cannot be mirrored here, as was said";
  return "";
}

/* Nothing else would tell why they are not slowed down any further. */
static const char *
floor_hint (const struct migration *m, char hint[POLICY_REASON_MAX])
{
  const uint64_t floor = m->disks.options->throttle_floor;
  char text[UNITS_TEXT_MAX];

  if (m->measures.throttle == 0 || m->measures.throttle > floor)
    return "";
  snprintf (hint, POLICY_REASON_MAX,
            "; guests may always write %s/s (--throttle-floor), which is too "
            "much here",
            units_format_bytes (text, floor));
  return hint;
}

static void
say_not_converged (struct migration *m, const struct policy_snapshot *s,
                   const char *what)
{
  char needed[POLICY_REASON_MAX], flush[UNITS_TEXT_MAX], record[UNITS_TEXT_MAX];
  char hint[POLICY_REASON_MAX];
  CLEANUP_FREE char *reason = NULL;

  if (asprintf (
        &reason,
        "%s: %s, a flush of the destination takes %s, recording the owner %s",
        what, policy_needed (&m->policy, s, needed),
        units_format_ms (flush, m->flush_us / 1000),
        units_format_ms (record, gates_commit_us (&m->disks) / 1000)) == -1)
    reason = NULL;
  event_policy ("give-up", reason ? reason : what);
  failure_note (&m->disks.failure, "it does not converge; %s%s%s",
                reason ? reason : what, mirror_hint (m), floor_hint (m, hint));
}

/* Before the pause, which has no time for it; once, as long as nobody waits
 * between.
 */
static bool
was_copied (struct migration *m)
{
  if (!m->sampled)
    m->sampled = evidence_copied (&m->disks) == 0;
  return m->sampled;
}

/* Where nothing else is done.  With a rate a whole round may take long. */
static int
last_rounds (struct migration *m)
{
  if (m->disks.bucket.rate == 0 && next_round (m) == -1)
    return -1;
  return rounds_stop (m) ? approach (m) : -1;
}

static bool
have_many_written (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (copier_unflushed (m->disks.v[i].copier) > MANY_CONNECTIONS)
      return true;
  return false;
}

/* Each connection that has written since is flushed in the pause, and some
 * servers do that for one after the other.  Where these are many, they are
 * flushed once more beside the copying, which goes over few of them then.
 */
static int
make_ready (struct migration *m)
{
  int r = last_rounds (m);

  if (r == -1 || m->disks.bucket.rate != 0 || !have_many_written (m))
    return r;
  m->narrow = true;
  r = last_rounds (m);
  m->narrow = false;
  return r;
}

static bool
time_is_over (const struct migration *m)
{
  if (!schedule_is_shut (m))
    return false;
  say_info ("the time to cut over is over: the pause is called off");
  return true;
}

/* What is leased in the pause could not be taken there (R4), and the guest may
 * have written to it since: so nothing is.
 */
static enum cut_over
attempt_now (struct migration *m)
{
  migrate_enter (m, PHASE_FINAL);
  if (make_ready (m) == -1)
    return CUT_FAILED;
  if (time_is_over (m))
    return CUT_WISHED;
  if (m->hook_late || !fits (m))
    return CUT_MISSED; /* counted: it may be so again and again */
  return cut_over (m);
}

/* R11 also for what has become of a destination while the hook ran. */
static enum cut_over
attempt_hooked (struct migration *m)
{
  if (m->hook_owed && !liveness_prove_soon (m))
    return m->disks.failure.stop == STOP_NO ? CUT_WISHED : CUT_FAILED;
  return attempt_now (m);
}

/* What the hook makes guests write is copied before the pause. */
static enum cut_over
attempt (struct migration *m)
{
  enum cut_over result = CUT_MISSED;

  if (!liveness_prove (m) || !was_copied (m))
    return m->disks.failure.stop == STOP_NO ? CUT_WISHED : CUT_FAILED;
  if (m->paused || time_is_over (m)) /* meanwhile */
    return CUT_WISHED;
  m->hook_failed = !hook_before (m);
  m->hook_failures = m->hook_failed ? m->hook_failures + 1 : 0;
  if (!m->hook_failed)
    result = attempt_hooked (m);
  hook_after (m);
  if (m->disks.failure.stop == STOP_FAILED && result == CUT_MISSED)
    result = CUT_FAILED;
  return result;
}

/* No pause was too long, and guests need not write less for it: not counted as
 * missed.  -1 to go on.
 */
static int
after_failed_hook (struct migration *m)
{
  const int64_t until_us = loop_now_us () + HOOK_REST_US;

  if (m->hook_failures >= HOOK_TRIES) {
    say_error ("the hook %s has failed ten times in a row",
               m->disks.options->hook);
    return EXIT_NOT_CONVERGED;
  }
  say_info ("the pause is called off for that; it will be tried again");
  while (m->disks.failure.stop == STOP_NO && loop_now_us () < until_us)
    if (next_round (m) == -1)
      break;
  return -1;
}

/* One attempt.  -1: nothing was cut over, and all is as it was. */
static int
try_cut_over (struct migration *m)
{
  switch (attempt (m)) {
  case CUT_DONE:
    m->passes++;
    return EXIT_DONE;
  case CUT_FAILED:
    return EXIT_FAILED;
  case CUT_UNKNOWN:
    return EXIT_UNKNOWN;
  case CUT_WISHED:
    heartbeat_fetch_wishes (m);
    return -1;
  case CUT_MISSED:
    if (m->hook_failed)
      return after_failed_hook (m);
    m->missed = true;
    return -1;
  }
  abort ();
}

/* --wait: stay in sync.  -1 with m->disks.failure. */
static int
stay_ready (struct migration *m)
{
  if (m->phase != PHASE_READY)
    migrate_enter (m, PHASE_READY);
  m->sampled = false; /* it may be hours until the end */
  return next_round (m);
}

/* ---- decisions --------------------------------------------------------- */

struct policy_snapshot
converge_measured (const struct migration *m)
{
  const struct options *o = m->disks.options;
  struct policy_snapshot s = {
    .predicted_ms = m->predicted_ms,
    .max_pause_ms = m->max_pause_ms,
    .remaining_bytes = pass_remaining (m),
    .unverified_bytes = pass_unverified (m),
    .quarantined_bytes = pass_quarantined (m),
    .rate = m->disks.bucket.rate,
    .late = find_late (m) != NULL,
    .wait = m->wait,
    .finish_wished = m->finish_wished,
    .ready = m->phase == PHASE_READY,
    .verify = o->verify,
    .missed = m->missed,
    .converge = m->converge,
    .explain = o->explain,
    .background = m->background.wished,
    .quiet_known = background_knows_quiet (&m->background),
    .kept_beside = background_kept_beside (&m->background),
    .kept_mirrored = background_kept_mirrored (&m->background),
    .max_pause_late_ms = o->max_pause_late_ms,
    .patience_ms = o->patience_ms,
    .throttle_floor = o->throttle_floor,
    .now_us = loop_now_us (),
    .bulk_end_us = m->bulk_end_us,
    .overhead_us = m->overhead_us,
    .flush_us = m->flush_us + gates_commit_us (&m->disks),
    .copy_rate = meter_bandwidth (&m->meter),
    .pace = meter_pace (&m->meter),
  };

  guests_measure (m, &s);
  return s;
}

void
converge_beat (struct migration *m)
{
  struct policy_snapshot s;
  struct policy_decision d;

  if (!m->rounds.on || m->paused || m->disks.failure.stop != STOP_NO ||
      m->phase == PHASE_RECONNECT)
    return;
  s = converge_measured (m);
  d = policy_beat (&m->policy, &s);
  guests_apply (m, &d);
}

/* While it stays in sync it decides so again and again. */
static void
tell (const struct migration *m, const struct policy_decision *d,
      const struct policy_snapshot *s)
{
  if (d->action == POLICY_GIVE_UP ||
      (d->action == POLICY_READY && m->phase == PHASE_READY))
    return;
  if (m->disks.options->verbose)
    say_info ("next: %s (%s)", policy_action_name (d->action), d->reason);
  event_decision (policy_action_name (d->action), d->reason, s->predicted_ms,
                  d->measures.max_pause_ms, s->remaining_bytes);
}

static int
read_back (struct migration *m)
{
  if (!rounds_stop (m) || pass_flush (m) == -1)
    return -1;
  migrate_enter (m, PHASE_VERIFY);
  return pass_run (m, PASS_VERIFY, 0) ? dirty_round (m) : -1;
}

/* -1 to go on, otherwise the exit status. */
static int
carry_out (struct migration *m, const struct policy_decision *d,
           const struct policy_snapshot *s)
{
  int result = 0;

  m->missed = false;
  switch (d->action) {
  case POLICY_ROUND:
    result = dirty_round (m);
    break;
  case POLICY_LATE:
    result = lift_quarantine (m);
    break;
  case POLICY_VERIFY:
    result = read_back (m);
    break;
  case POLICY_READY:
    result = stay_ready (m);
    break;
  case POLICY_PREPARE:
    obey_finish_wish (m);
    break;
  case POLICY_PAUSE:
    return try_cut_over (m);
  case POLICY_GIVE_UP:
    say_not_converged (m, s, d->reason);
    return EXIT_NOT_CONVERGED;
  }
  return result == -1 ? EXIT_FAILED : -1;
}

/* Up to where there is something to decide. */
static int
copy_first (struct migration *m)
{
  rounds_go (m);
  if (!rounds_wait_first (m))
    return -1;
  m->bulk_end_us = loop_now_us ();
  measure (m); /* all of the bulk */
  meter_end_bulk (&m->meter);
  return dirty_round (m);
}

/* Until it is cut over, or stops. */
static int
decide (struct migration *m)
{
  int status = -1;

  while (status == -1 && paused_wait (m)) {
    const struct policy_snapshot s = converge_measured (m);
    const struct policy_decision d = policy_step (&m->policy, &s);

    guests_apply (m, &d);
    tell (m, &d, &s);
    note_long_flush (m);
    status = carry_out (m, &d, &s);
  }
  return status == -1 ? EXIT_FAILED : status;
}

/* After a loss all goes on from where it was. */
static int
go_on (struct migration *m)
{
  if (m->bulk_end_us != 0)
    return dirty_round (m) == -1 ? EXIT_FAILED : decide (m);
  migrate_enter (m, PHASE_BULK);
  return copy_first (m) == -1 ? EXIT_FAILED : decide (m);
}

int
converge (struct migration *m)
{
  int status = copy_first (m) == -1 ? EXIT_FAILED : decide (m);

  while (status == EXIT_FAILED && recover_may (m))
    if (recover (m) == 0)
      status = go_on (m);
  return status;
}
