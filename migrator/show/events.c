/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "show/events.h"
#include "run/migration.h"
#include "run/pass.h"
#include "show/progress.h"
#include "base/say.h"

/* All that a double is sure of: 0.741, not 0.74099999999999999.  Of the time
 * since the epoch that leaves this much of a second.
 */
#define DIGITS 15
#define PER_SECOND 1e5

static bool enabled;

void
events_enable (bool enable)
{
  enabled = enable;
}

double
event_now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_REALTIME, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Print the event; 'members' is stolen. */
static void
emit (const char *event, json_t *members)
{
  CLEANUP_JSON json_t *line = NULL;
  CLEANUP_FREE char *text = NULL;

  line = json_pack ("{s:s, s:f}", "event", event, "time", event_now ());
  if (line != NULL && members != NULL)
    json_object_update (line, members);
  json_decref (members);
  text = line ? json_dumps (line, JSON_COMPACT | JSON_REAL_PRECISION (DIGITS))
              : NULL;
  if (text == NULL)
    return;
  if (printf ("%s\n", text) >= 0 && fflush (stdout) == 0)
    return;
  /* Whoever reads them is gone: that is no reason to stop a migration. */
  say_error ("writing JSON events to stdout: %s; no more will be written",
             strerror (errno));
  enabled = false;
}

static json_t *
disks_json (const struct migration *m)
{
  json_t *disks = json_array ();
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    json_array_append_new (
      disks, json_pack ("{s:s, s:s, s:I, s:I, s:b}", "source", d->pair->source,
                        "destination", d->pair->destination, "disk_bytes",
                        (json_int_t)d->disk_bytes, "chunk_bytes",
                        (json_int_t)d->chunk_bytes, "resumed", d->resumed));
    if (d->owner != NULL)
      json_object_set_new (json_array_get (disks, i), "owner",
                           json_string (d->owner));
    if (d->sampled_over != NULL)
      json_object_set_new (
        json_array_get (disks, i), "sample",
        json_pack ("{s:i, s:I, s:s}", "places", (int)d->sampled_places, "bytes",
                   (json_int_t)d->sampled_bytes, "over", d->sampled_over));
    if (d->digest[0])
      json_object_set_new (json_array_get (disks, i), "sha256",
                           json_string (d->digest));
  }
  return disks;
}

static uint64_t
disk_bytes (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    bytes += m->disks.v[i].disk_bytes;
  return bytes;
}

void
event_started (const struct migration *m)
{
  if (enabled)
    emit ("started",
          json_pack ("{s:o, s:I, s:s, s:I, s:I}", "disks", disks_json (m),
                     "disk_bytes", (json_int_t)disk_bytes (m), "finish",
                     finish_name (m->disks.finish), "max_pause_ms",
                     (json_int_t)m->disks.max_pause_ms, "rate",
                     (json_int_t)m->disks.bucket.rate));
}

void
event_phase (const struct migration *m)
{
  if (enabled)
    emit ("phase", json_pack ("{s:s, s:i, s:I}", "phase", phase_name (m->phase),
                              "pass", (int)m->passes + 1, "remaining_bytes",
                              (json_int_t)pass_remaining (m)));
}

void
event_progress (const struct migration *m, json_t *progress)
{
  (void)m;
  if (enabled)
    emit ("progress", json_incref (progress));
}

void
event_policy (const char *decision, const char *reason)
{
  if (enabled)
    emit ("policy",
          json_pack ("{s:s, s:s}", "decision", decision, "reason", reason));
}

/* The pause lies between these times, also when they are rounded. */
void
event_pause (const struct migration *m, double begin_time, bool committed)
{
  if (enabled)
    emit ("pause",
          json_pack ("{s:f, s:f, s:f, s:s}", "begin_time",
                     floor (begin_time * PER_SECOND) / PER_SECOND, "end_time",
                     ceil (event_now () * PER_SECOND) / PER_SECOND, "pause_ms",
                     m->pause_ms, "result",
                     committed ? "committed" : "expired"));
}

/* What both ends of a migration tell. */
static json_t *
summary (const struct migration *m)
{
  struct copier_stats s, sum = { 0 };
  uint64_t marked_bytes = 0;
  bool resumed = false;
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    resumed |= d->resumed;
    marked_bytes += d->marked_bytes;
    if (d->copier == NULL)
      continue;
    copier_get_stats (d->copier, &s);
    sum.copied_bytes += s.copied_bytes;
    sum.zeroed_bytes += s.zeroed_bytes;
    sum.skipped_bytes += s.skipped_bytes;
    sum.compared_bytes += s.compared_bytes;
    sum.sampled_bytes += s.sampled_bytes;
  }
  return json_pack (
    "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:I, s:s, s:b}",
    "disks", disks_json (m), "disk_bytes", (json_int_t)disk_bytes (m),
    "copied_bytes", (json_int_t)sum.copied_bytes, "zeroed_bytes",
    (json_int_t)sum.zeroed_bytes, "skipped_bytes",
    (json_int_t)sum.skipped_bytes, "compared_bytes",
    (json_int_t)sum.compared_bytes, "sampled_bytes",
    (json_int_t)sum.sampled_bytes, "sample_seed",
    (json_int_t)m->disks.sample_seed, "marked_bytes", (json_int_t)marked_bytes,
    "passes", (int)m->passes, "pause_ms", m->pause_ms, "duration_ms",
    (json_int_t)((loop_now_us () - m->started_us) / 1000), "finish",
    finish_name (m->disks.finish), "resumed", resumed);
}

void
event_completed (const struct migration *m)
{
  if (enabled)
    emit ("completed", summary (m));
}

void
event_failed (const struct migration *m, int status)
{
  json_t *members;

  if (!enabled)
    return;
  members = summary (m);
  json_object_set_new (members, "status", json_integer (status));
  json_object_set_new (members, "error",
                       m->disks.failure.why ? json_string (m->disks.failure.why)
                                            : json_null ());
  emit ("failed", members);
}
