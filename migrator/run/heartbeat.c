/* SPDX-License-Identifier: BSD-3-Clause */

#include "cleanup.h"
#include "run/converge.h"
#include "run/background.h"
#include "run/heartbeat.h"
#include "run/measure.h"
#include "run/migration.h"
#include "run/pass.h"
#include "run/paused.h"
#include "run/snapshot.h"
#include "show/events.h"
#include "show/metrics.h"
#include "show/notify.h"
#include "show/progress.h"
#include "protocol.h"
#include "base/say.h"
#include "units.h"

/* A session is ended after 10 s of silence (R7). */
#define HEARTBEAT_US 500000

/* ---- wishes ------------------------------------------------------------ */

static void
wish_finish (struct migration *m, const char *mode)
{
  enum finish finish;

  if (mode == NULL || finish_parse (mode, &finish) == -1)
    return; /* the filter lets only the three names pass */
  m->finish_wish = finish;
  m->finish_wished = true;
  say_info ("asked to finish by %s", finish_name (finish));
}

/* --max-pause-late may hold already, and still be longer. */
static void
wish_max_pause (struct migration *m, uint64_t max_pause_ms)
{
  char text[UNITS_TEXT_MAX], late[UNITS_TEXT_MAX];
  struct policy_snapshot s;

  m->max_pause_ms = max_pause_ms;
  policy_forget_misses (&m->policy);
  s = converge_measured (m);
  m->disks.max_pause_ms = policy_max_pause_ms (&m->policy, &s);
  units_format_ms (text, max_pause_ms);
  if (m->disks.max_pause_ms == max_pause_ms)
    say_info ("the pause may now be %s long", text);
  else
    say_info ("--max-pause is now %s, but the pause may still be %s long: "
              "--max-pause-late holds already",
              text, units_format_ms (late, m->disks.max_pause_ms));
}

/* 'set' has looked before; who else leaves a wish may not have. */
static bool
may_be_paused_for (const struct migration *m, uint64_t max_pause_ms)
{
  char text[UNITS_TEXT_MAX];
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (max_pause_ms > m->disks.v[i].max_gate_ms) {
      say_error ("a pause of %s is above what the proxy of %s allows, so it "
                 "stays as it was",
                 units_format_ms (text, max_pause_ms),
                 m->disks.v[i].pair->source);
      return false;
    }
  return max_pause_ms > 0;
}

static void
wish_converge (struct migration *m, const char *name)
{
  if (name == NULL || policy_converge_parse (name, &m->converge) == -1)
    return; /* the filter lets only these names pass */
  policy_forget_forecast (&m->policy);
  policy_forget_failures (&m->policy);
  say_info ("against a guest that is too fast: converge=%s", name);
}

static void
wish_background (struct migration *m, uint64_t background)
{
  background_wish (m, (unsigned)background);
  say_info ("how much the guest comes first: background=%u%s",
            (unsigned)background,
            m->bulk_end_us == 0
              ? ""
              : "; all was copied once, so that makes no difference now");
}

static void
wish_rate (struct migration *m, uint64_t rate)
{
  char text[UNITS_TEXT_MAX];

  bucket_set_rate (&m->disks.bucket, rate, loop_now_us ());
  policy_forget_forecast (&m->policy); /* it may converge now */
  if (rate == 0)
    say_info ("the rate is now unlimited");
  else
    say_info ("the rate is now %s/s", units_format_bytes (text, rate));
}

static void
take_wishes (struct migration *m, json_t *wishes)
{
  uint64_t value;

  if (json_object_size (wishes) > 0 &&
      (m->committing || m->phase == PHASE_DONE)) {
    say_info ("a request to change or end the migration came too late: it is "
              "being cut over, or was");
    return;
  }
  if (protocol_get_u64 (wishes, "rate", &value) == 1)
    wish_rate (m, value);
  if (protocol_get_u64 (wishes, "background", &value) == 1)
    wish_background (m, value);
  if (protocol_get_u64 (wishes, "max_pause_ms", &value) == 1 &&
      may_be_paused_for (m, value))
    wish_max_pause (m, value);
  if (json_is_boolean (json_object_get (wishes, "pause")))
    paused_wish (m, json_is_true (json_object_get (wishes, "pause")));
  wish_converge (m, json_string_value (json_object_get (wishes, "converge")));
  wish_finish (m, json_string_value (json_object_get (wishes, "finish")));
  if (json_is_true (json_object_get (wishes, "cancel")) &&
      failure_cancel (&m->disks.failure)) {
    m->forget = true;
    say_info ("cancelled by request");
  }
}

/* ---- beats ------------------------------------------------------------- */

static void
published (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct migration *m = migration_of (d->disks);

  m->publishing--;
  if (a->value != NULL)
    take_wishes (m, json_object_get (a->value, "wishes"));
  else if (!m->forget) /* 'cancel' may have ended it in the end */
    failure_note (&d->disks->failure, "the control connection of %s: %s",
                  d->pair->source, a->desc);
}

/* What is dirty and not of this pass, as of now: what the filter says and how
 * far the pass is belong together.
 */
static void
note_behind (struct migration *m)
{
  const uint64_t remaining = pass_remaining (m);
  uint64_t left;

  measure (m);
  left = meter_pass_total (&m->meter, remaining) - meter_pass_bytes (&m->meter);
  m->behind_bytes = remaining > left ? remaining - left : 0;
}

static bool
is_status_pending (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].status_pending)
      return true;
  return false;
}

/* What is decided is decided by what the last of the disks has told just now.
 */
static void
got_status (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->status_pending = false;
  if (a->value == NULL)
    return; /* the heartbeat says so, too */
  disk_note_status (d, a->value);
  note_behind (migration_of (d->disks));
  if (!is_status_pending (migration_of (d->disks)))
    converge_beat (migration_of (d->disks));
}

static void
show_metrics (struct migration *m, const struct snapshot *s)
{
  if (metrics_are_due (s)) {
    CLEANUP_ACCOUNT struct account a = account_of (m);

    metrics_show (s, &a);
  }
}

static void
heartbeat (struct migration *m)
{
  const bool late = is_status_pending (m);
  const struct snapshot s = snapshot_of (m);
  CLEANUP_JSON json_t *progress = progress_json (&s);
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    struct disk *d = &m->disks.v[i];

    if (!d->begun)
      continue;
    m->publishing++;
    control_send (d->control, "publish",
                  json_pack ("{s:O}", "progress", progress), NULL, 0, published,
                  d);
    if (!d->status_pending) {
      d->status_pending = true;
      disk_ask_status (d);
      control_send (d->control, "status", CONTROL_NO_ARGUMENTS, NULL, 0,
                    got_status, d);
    }
  }
  if (m->phase != PHASE_CONNECT) /* not before 'started' */
    event_progress (progress);
  notify_progress (progress);
  show_metrics (m, &s);
  if (late) /* one does not answer: then without it */
    converge_beat (m);
}

void
heartbeat_run (struct migration *m, int64_t now_us)
{
  if (now_us < m->next_heartbeat_us)
    return;
  m->next_heartbeat_us = now_us + HEARTBEAT_US;
  heartbeat (m);
}

void
heartbeat_fetch_wishes (struct migration *m)
{
  heartbeat (m);
  while (m->publishing > 0 && m->disks.failure.stop == STOP_NO)
    drive (&m->disks, 100);
}
