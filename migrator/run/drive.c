/* SPDX-License-Identifier: BSD-3-Clause */
/* One round of the migration's event loop, and questions to all filters. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "show/events.h"
#include "run/liveness.h"
#include "run/migration.h"
#include "show/progress.h"
#include "protocol.h"
#include "base/say.h"
#include "units.h"

/* A session is ended after 10 s of silence (R7). */
#define HEARTBEAT_US 500000
#define SHOW_US 100000

/* A proxy that does not answer for so long counts as lost; longer than the
 * longest gate it may have to wait for.  Who interrupts a migration, or sees it
 * fail, need not wait as long, unless for a commit.
 */
#define ANSWER_TIMEOUT_US (INT64_C (60) * 1000000)
#define INTERRUPTED_TIMEOUT_US (INT64_C (10) * 1000000)

/* ---- heartbeat --------------------------------------------------------- */

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

/* 'set' knows the limit of one proxy only. */
static void
wish_max_pause (struct migration *m, uint64_t max_pause_ms)
{
  char text[UNITS_TEXT_MAX];
  size_t i;

  units_format_ms (text, max_pause_ms);
  for (i = 0; i < m->nr_disks; ++i)
    if (max_pause_ms > m->disks[i].max_gate_ms) {
      say_error ("a pause of %s is above what the proxy of %s allows, so it "
                 "stays as it was",
                 text, m->disks[i].pair->source);
      return;
    }
  if (max_pause_ms == 0)
    return;
  m->max_pause_ms = max_pause_ms;
  m->missed_gates = 0;
  say_info ("the pause may now be %s long", text);
}

static void
take_wishes (struct migration *m, json_t *wishes)
{
  char text[UNITS_TEXT_MAX];
  uint64_t value;

  if (json_object_size (wishes) > 0 &&
      (m->committing || m->phase == PHASE_DONE)) {
    say_info ("a request to change or end the migration came too late: it is "
              "being cut over, or was");
    return;
  }
  if (protocol_get_u64 (wishes, "rate", &value) == 1) {
    bucket_set_rate (&m->bucket, value, loop_now_us ());
    forecast_init (&m->forecast); /* it may converge now */
    m->outrun_since_us = 0;
    m->outrun_said = false;
    if (value == 0)
      say_info ("the rate is now unlimited");
    else
      say_info ("the rate is now %s/s", units_format_bytes (text, value));
  }
  if (protocol_get_u64 (wishes, "max_pause_ms", &value) == 1)
    wish_max_pause (m, value);
  wish_finish (m, json_string_value (json_object_get (wishes, "finish")));
  if (json_is_true (json_object_get (wishes, "cancel")) &&
      m->failure.stop == STOP_NO) {
    m->failure.stop = STOP_CANCELLED;
    m->forget = true;
    say_info ("cancelled by request");
  }
}

static void
published (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->m->publishing--;
  if (a->value != NULL)
    take_wishes (d->m, json_object_get (a->value, "wishes"));
  else
    failure_note (&d->m->failure, "the control connection of %s: %s",
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

  drive_measure (m);
  left = meter_pass_total (&m->meter, remaining) - meter_pass_bytes (&m->meter);
  m->behind_bytes = remaining > left ? remaining - left : 0;
}

static void
got_status (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->status_pending = false;
  if (a->value == NULL)
    return; /* the heartbeat says so, too */
  disk_note_status (d, a->value);
  note_behind (d->m);
}

static void
heartbeat (struct migration *m)
{
  CLEANUP_JSON json_t *progress = progress_json (m);
  size_t i;

  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];

    if (!d->begun)
      continue;
    m->publishing++;
    control_send (d->control, "publish",
                  json_pack ("{s:O}", "progress", progress), NULL, 0, published,
                  d);
    if (!d->status_pending) {
      d->status_pending = true;
      control_send (d->control, "status", NULL, NULL, 0, got_status, d);
    }
  }
  if (m->phase != PHASE_CONNECT) /* not before 'started' */
    event_progress (m, progress);
}

/* ---- a round ----------------------------------------------------------- */

void
drive_measure (struct migration *m)
{
  uint64_t copied = 0, compared = 0, moved = 0;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];
    struct copier_stats s;

    moved += d->digested_bytes;
    if (d->copier == NULL)
      continue;
    copier_get_stats (d->copier, &s);
    copied += s.copied_bytes;
    compared += s.compared_bytes;
    moved += s.moved_bytes;
    meter_busy (&m->meter, s.busy_us - d->busy_us);
    d->busy_us = s.busy_us;
  }
  meter_update (&m->meter, copied, compared, moved, loop_now_us ());
}

static int64_t
answer_timeout_us (const struct migration *m)
{
  return m->failure.stop != STOP_NO && m->phase != PHASE_FINAL
           ? INTERRUPTED_TIMEOUT_US
           : ANSWER_TIMEOUT_US;
}

static void
run_disk (struct disk *d, int64_t now)
{
  const char *error;

  if (!d->begun)
    return;
  disk_feed (d);
  copier_run (d->copier);
  error = copier_error (d->copier);
  if (error != NULL)
    failure_note (&d->m->failure, "%s", error);
  disk_report (d);
  checkpoint_run (d, now);
}

/* In turns: who got something of what the rate allows comes last.  (Changing
 * turns in every round is not enough: one disk can always be the first when the
 * bucket has filled.)
 */
static void
run_disks (struct migration *m, int64_t now)
{
  const size_t first = m->turn;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i) {
    const size_t turn = (first + i) % m->nr_disks;
    const uint64_t takes = m->bucket.takes;

    run_disk (&m->disks[turn], now);
    if (m->bucket.takes != takes)
      m->turn = (turn + 1) % m->nr_disks;
  }
}

static int
wait_ms (struct migration *m, int timeout_ms, int64_t now)
{
  int ms = bucket_wait_ms (&m->bucket, now);

  if (ms > 0 && ms < timeout_ms)
    timeout_ms = ms;
  return timeout_ms < SHOW_US / 1000 ? timeout_ms : SHOW_US / 1000;
}

/* A server that is slow is waited for; that it is shall be known. */
static void
watch_silence (struct endpoint *e, const char *what, int64_t now)
{
  const int64_t us = endpoint_silent_us (e, now);

  if (us >= ENDPOINT_SILENT_US && !e->silence_said) {
    e->silence_said = true;
    say_info ("the %s %s has answered nothing for %d s: waiting for it", what,
              e->uri, (int)(us / 1000000));
  }
  else if (us < ENDPOINT_SILENT_US && e->silence_said) {
    e->silence_said = false;
    say_info ("the %s %s answers again", what, e->uri);
  }
}

static void
check_disk (struct disk *d, int64_t now)
{
  const struct {
    struct endpoint *e;
    const char *what;
  } sides[] = {
    { d->source, "source" },
    { d->destination, "destination" },
    { d->reader, "destination" },
    { d->base, "shared base" },
  };
  size_t i;

  if (d->control != NULL)
    control_check_timeout (d->control, now, answer_timeout_us (d->m));
  for (i = 0; i < sizeof sides / sizeof sides[0]; ++i)
    if (sides[i].e != NULL) {
      endpoint_check (sides[i].e, now, d->m->stopped_us);
      watch_silence (sides[i].e, sides[i].what, now);
    }
}

/* Only after the sockets were read: an answer that is there has come in time,
 * however long we were stopped ourselves.
 */
static void
check_disks (struct migration *m, int64_t now)
{
  size_t i;

  if (m->failure.stop != STOP_NO && m->stopped_us == 0)
    m->stopped_us = now;
  for (i = 0; i < m->nr_disks; ++i)
    check_disk (&m->disks[i], now);
}

void
drive (struct migration *m, int timeout_ms)
{
  int64_t now = loop_now_us ();

  liveness_run (m, now);
  run_disks (m, now);
  if (loop_run_once (&m->loop, wait_ms (m, timeout_ms, now)) == -1)
    failure_note (&m->failure, "poll: %s", strerror (errno));
  now = loop_now_us ();
  check_disks (m, now);
  if (now >= m->next_show_us) {
    m->next_show_us = now + SHOW_US;
    drive_measure (m);
    progress_show (m);
  }
  if (now >= m->next_heartbeat_us) {
    m->next_heartbeat_us = now + HEARTBEAT_US;
    heartbeat (m);
  }
}

void
drive_fetch_wishes (struct migration *m)
{
  heartbeat (m);
  while (m->publishing > 0 && m->failure.stop == STOP_NO)
    drive (m, 100);
}

/* ---- questions --------------------------------------------------------- */

static bool
all_answered (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    if (!m->disks[i].answer.done)
      return false;
  return true;
}

int
drive_ask_all (struct migration *m, const char *command,
               drive_arguments *arguments)
{
  size_t i;

  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];

    control_answer_clear (&d->answer);
    control_ask (d->control, command, arguments ? arguments (d) : NULL,
                 &d->answer);
  }
  while (!all_answered (m))
    drive (m, 1000);
  return drive_refused (m) == NULL ? 0 : -1;
}

int
drive_ask (struct disk *d, const char *command, json_t *arguments)
{
  control_answer_clear (&d->answer);
  control_ask (d->control, command, arguments, &d->answer);
  while (!d->answer.done)
    drive (d->m, 1000);
  return d->answer.value != NULL ? 0 : -1;
}

struct disk *
drive_refused (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    if (m->disks[i].answer.done && m->disks[i].answer.value == NULL)
      return &m->disks[i];
  return NULL;
}

void
drive_fail_refused (struct migration *m, const char *doing)
{
  const struct disk *d = drive_refused (m);

  if (d != NULL)
    failure_note (&m->failure, "%s %s: %s", doing, d->pair->source,
                  d->answer.desc);
}
