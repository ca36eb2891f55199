/* SPDX-License-Identifier: BSD-3-Clause */
/* Passes over all disks, and the flush of the destinations. */

#include <stdlib.h>

#include "run/migration.h"
#include "run/measure.h"
#include "run/pass.h"
#include "show/events.h"
#include "protocol.h"
#include "base/say.h"
#include "units.h"

#define ROUND_MS 100
#define DRAIN_US (INT64_C (5) * 1000000)

/* Each connection over which a round has written is flushed in the pause that
 * comes after it.  So little, 64 chunks of 4 KiB, is written as soon over one.
 */
#define NARROW_BYTES (UINT64_C (256) * 1024)

uint64_t
pass_remaining (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    bytes += disk_remaining_bytes (&m->disks.v[i]);
  return bytes;
}

uint64_t
pass_dirty_rate (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    bytes += m->disks.v[i].dirty_rate;
  return bytes;
}

uint64_t
pass_quarantined (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    bytes += m->disks.v[i].quarantined_bytes;
  return bytes;
}

uint64_t
pass_unverified (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    bytes += disk_unverified_bytes (&m->disks.v[i]);
  return bytes;
}

bool
pass_is_running (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (disk_pass_running (&m->disks.v[i]))
      return true;
  return false;
}

/* What was asked for in this pass must not be answered in the next. */
void
pass_stop_taking (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    disk_stop_taking (&m->disks.v[i]);
    while (m->disks.v[i].take_pending)
      drive (&m->disks, ROUND_MS);
  }
}

void
pass_break_off (struct migration *m)
{
  size_t i;

  pass_stop_taking (m);
  for (i = 0; i < m->disks.n; ++i)
    copier_drop_queue (m->disks.v[i].copier);
}

/* ---- a guest that is too fast ------------------------------------------ */

/* How fast the present pass can go: zeroes cost little, and what was measured
 * while something was under way knows nothing of the rate.
 */
static uint64_t
copy_rate (const struct migration *m)
{
  const uint64_t pace = meter_pace (&m->meter);
  uint64_t limit = meter_bandwidth (&m->meter);

  if (m->disks.bucket.rate > 0 && m->disks.bucket.rate < limit)
    limit = m->disks.bucket.rate;
  return pace > limit ? pace : limit;
}

/* What was said then is no more so. */
static bool
is_seen_to (const struct migration *m)
{
  return m->measures.mirror || m->measures.throttle > 0;
}

void
pass_watch_guest (struct migration *m)
{
  char dirty[UNITS_TEXT_MAX], speed[UNITS_TEXT_MAX];
  const struct forecast_input rest = {
    .remaining_bytes = pass_remaining (m),
    .bytes_per_second = meter_bandwidth (&m->meter),
    .flush_us = m->flush_us,
  };
  const struct policy_speed now = {
    .dirty_rate = is_seen_to (m) ? 0 : pass_dirty_rate (m),
    .copy_rate = copy_rate (m),
    .pause_ms = forecast_pause_ms (&rest),
    .max_pause_ms = m->disks.max_pause_ms,
  };

  if (m->phase == PHASE_FINAL || m->phase == PHASE_RECONNECT || m->paused ||
      !policy_is_outrun (&m->policy, &now, loop_now_us ()))
    return;
  event_policy ("warn", "the guest writes too fast for the copy");
  say_info ("the guest writes too fast for the copy (%s/s become dirty, "
            "%s/s are copied): at this rate it does not converge%s",
            units_format_bytes (dirty, now.dirty_rate),
            units_format_bytes (speed, now.copy_rate),
            m->disks.bucket.rate > 0
              ? "; 'nbdmigrate set' with rate=SIZE can raise the limit"
              : "");
}

/* ---- passes ------------------------------------------------------------ */

static bool
is_narrow (const struct migration *m, enum pass_kind kind)
{
  if (kind != PASS_COPY || m->bulk_end_us == 0)
    return false;
  return (m->narrow && !m->disks.in_pause) ||
         pass_remaining (m) <= NARROW_BYTES;
}

void
pass_begin (struct migration *m, enum pass_kind kind, bool checkpoints)
{
  const bool narrow = is_narrow (m, kind);
  size_t i;

  measure (m);
  if (m->phase == PHASE_VERIFY) /* nothing that went before tells its pace */
    meter_forget_pace (&m->meter);
  meter_start_pass (&m->meter, kind == PASS_COPY     ? pass_remaining (m)
                               : kind == PASS_VERIFY ? pass_unverified (m)
                                                     : pass_quarantined (m));
  m->behind_bytes = 0;
  for (i = 0; i < m->disks.n; ++i) {
    m->disks.v[i].not_hot = m->measures.hot_last && !m->disks.in_pause;
    if (m->disks.v[i].copier != NULL)
      copier_set_narrow (m->disks.v[i].copier, narrow);
    disk_start_pass (&m->disks.v[i], kind, checkpoints, m->bulk_end_us == 0);
  }
}

bool
pass_run (struct migration *m, enum pass_kind kind, int64_t deadline_us)
{
  pass_begin (m, kind, false);
  while (m->disks.failure.stop == STOP_NO && pass_is_running (m)) {
    drive (&m->disks, ROUND_MS);
    pass_watch_guest (m);
    if (deadline_us != 0 && loop_now_us () >= deadline_us) {
      pass_stop_taking (m);
      return false;
    }
  }
  return m->disks.failure.stop == STOP_NO;
}

/* ---- the end of copying ------------------------------------------------ */

/* Chunks whose copying did not begin go back at once.  What is in flight gets
 * five seconds; after that the session's end deals with it (R7).
 */
bool
pass_drain (struct migration *m)
{
  const int64_t deadline = loop_now_us () + DRAIN_US;
  size_t i;

  m->rounds.on = false;
  for (i = 0; i < m->disks.n; ++i) {
    struct disk *d = &m->disks.v[i];

    disk_stop_taking (d);
    if (d->copier != NULL)
      copier_drop_queue (d->copier);
  }
  for (i = 0; i < m->disks.n; ++i) {
    struct disk *d = &m->disks.v[i];

    while (d->begun && control_broken (d->control) == NULL &&
           disk_pass_running (d) && loop_now_us () < deadline) {
      /* An answer to a take may still bring ranges. */
      copier_drop_queue (d->copier);
      drive (&m->disks, ROUND_MS);
    }
  }
  return !pass_is_running (m);
}

/* ---- flush ------------------------------------------------------------- */

static bool
flushing (const struct migration *m, bool *ok)
{
  bool busy = false, disk_ok;
  size_t i;

  *ok = true;
  for (i = 0; i < m->disks.n; ++i) {
    busy |= copier_flushing (m->disks.v[i].copier, &disk_ok);
    *ok &= disk_ok;
  }
  return busy;
}

static json_t *
flush_end_arguments (struct disk *d)
{
  bool ok;

  copier_flushing (d->copier, &ok);
  return json_pack ("{s:b, s:I}", "success", ok, "epoch", (json_int_t)d->epoch);
}

int
pass_flush (struct migration *m)
{
  const int64_t begin = loop_now_us ();
  bool ok;
  size_t i;

  if (drive_ask_all (&m->disks, "flush-begin", NULL) == -1) {
    drive_fail_refused (&m->disks, "beginning a flush of the destination of");
    return -1;
  }
  for (i = 0; i < m->disks.n; ++i)
    copier_flush (m->disks.v[i].copier);
  while (flushing (m, &ok))
    drive (&m->disks, ROUND_MS);
  if (drive_ask_all (&m->disks, "flush-end", flush_end_arguments) == -1) {
    drive_fail_refused (&m->disks, "ending a flush of the destination of");
    return -1;
  }
  m->flush_us = (uint64_t)(loop_now_us () - begin);
  for (i = 0; ok && i < m->disks.n; ++i)
    reconnect_note_flush (&m->disks.v[i]);
  if (!ok)
    failure_note (&m->disks.failure,
                  "flushing the destinations failed; the first error was lost "
                  "for lack of memory");
  return m->disks.failure.stop == STOP_FAILED ? -1 : 0;
}

/* ---- what remains ------------------------------------------------------ */

int
pass_refresh (struct migration *m)
{
  if (drive_refresh (&m->disks) == -1)
    return -1;
  measure (m);
  return m->disks.failure.stop == STOP_FAILED ? -1 : 0;
}
