/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "show/events.h"
#include "base/output.h"
#include "base/say.h"
#include "show/progress.h"

/* All that a double is sure of: 0.741, not 0.74099999999999999.  Of the time
 * since the epoch that leaves this much of a second.
 */
#define DIGITS 15
#define PER_SECOND 1e5

/* How many were left out, each reader for itself. */
#define DROPPED "dropped_events"

/* Where they are written, each at its own pace. */
static struct sink {
  const char *name;
  int fd;
  bool broken;
} sinks[2];
static size_t nr_sinks;
static size_t nr_broken;

void
events_to (int fd, const char *name)
{
  sinks[nr_sinks++] = (struct sink){ .name = name, .fd = fd };
}

/* Nobody else writes to it.  A file system that has no such locks is no reason
 * not to begin.
 */
static int
take (int fd)
{
  struct stat st;

  if (flock (fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK) {
    errno = EBUSY;
    return -1;
  }
  if (fstat (fd, &st) == 0 && S_ISREG (st.st_mode))
    return ftruncate (fd, 0);
  return 0;
}

int
events_open (const char *path, char **why)
{
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY |
                    O_NONBLOCK; /* a FIFO that nobody reads */
  const int fd = open (path, flags, 0666);

  if (fd >= 0 && take (fd) == 0)
    return fd;
  if (asprintf (why, "opening '%s' for the JSON events: %s", path,
                errno == EBUSY   ? "another nbdmigrate writes to it"
                : errno == ENXIO ? "nobody reads from this FIFO"
                                 : strerror (errno)) == -1)
    *why = NULL;
  if (fd >= 0)
    close (fd);
  return -1;
}

static bool
is_enabled (void)
{
  return nr_broken < nr_sinks;
}

double
event_now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_REALTIME, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Whoever reads them is gone, or the file system is full: that is no reason to
 * stop a migration.
 */
static void
say_not_written (struct sink *sink)
{
  say_error ("writing JSON events to %s: %s; no more will be written",
             sink->name, strerror (errno));
  sink->broken = true;
  nr_broken++;
}

static void
say_missing (const struct sink *sink, const char *event)
{
  say_error ("the event '%s' is missing on %s: %s", event, sink->name,
             strerror (ENOMEM));
}

/* What is told at the end differs. */
static char *
line_text (const struct sink *sink, json_t *line)
{
  CLEANUP_FREE char *json = NULL;
  char *text;

  if (line == NULL)
    return NULL;
  if (json_object_get (line, DROPPED) != NULL &&
      json_object_set_new (
        line, DROPPED, json_integer ((json_int_t)output_dropped (sink->fd))) ==
        -1)
    return NULL;
  json = json_dumps (line, JSON_COMPACT | JSON_REAL_PRECISION (DIGITS));
  return json != NULL && asprintf (&text, "%s\n", json) >= 0 ? text : NULL;
}

/* Write the event; 'members' is stolen. */
static void
emit (enum output_kind kind, const char *event, json_t *members)
{
  CLEANUP_JSON json_t *line = NULL;
  size_t i;

  line = json_pack ("{s:s, s:f}", "event", event, "time", event_now ());
  if (line != NULL && members != NULL &&
      json_object_update (line, members) == -1) {
    json_decref (line);
    line = NULL;
  }
  json_decref (members);
  for (i = 0; i < nr_sinks; ++i) {
    struct sink *const sink = &sinks[i];
    char *text = sink->broken ? NULL : line_text (sink, line);

    if (sink->broken)
      continue;
    if (text == NULL)
      say_missing (sink, event);
    else if (output_put (sink->fd, kind, text) == -1)
      say_not_written (sink);
  }
}

static json_t *
wire_json (const struct snapshot_wire *w)
{
  if (!w->known)
    return json_null ();
  return json_pack (
    "{s:I, s:I, s:I, s:I}", "source_sent_bytes", (json_int_t)w->source_sent,
    "source_received_bytes", (json_int_t)w->source_received,
    "destination_sent_bytes", (json_int_t)w->destination_sent,
    "destination_received_bytes", (json_int_t)w->destination_received);
}

static json_t *
disk_json (const struct account_disk *d)
{
  json_t *o = json_pack ("{s:s, s:s, s:I, s:I, s:b}", "source", d->source,
                         "destination", d->destination, "disk_bytes",
                         (json_int_t)d->disk_bytes, "chunk_bytes",
                         (json_int_t)d->chunk_bytes, "resumed", d->resumed);

  json_object_set_new (o, "shared_memory", json_boolean (d->shared_memory));
  if (d->not_shared_memory != NULL)
    json_object_set_new (o, "shared_memory_why",
                         json_string (d->not_shared_memory));
  if (d->owner != NULL)
    json_object_set_new (o, "owner", json_string (d->owner));
  if (d->sampled_over != NULL)
    json_object_set_new (
      o, "sample",
      json_pack ("{s:i, s:I, s:s}", "places", (int)d->sampled_places, "bytes",
                 (json_int_t)d->sampled_bytes, "over", d->sampled_over));
  if (d->digest != NULL)
    json_object_set_new (o, "sha256", json_string (d->digest));
  json_object_set_new (o, "reads", limits_json (&d->reads));
  json_object_set_new (o, "writes", limits_json (&d->writes));
  json_object_set_new (o, "wire", wire_json (&d->wire));
  return o;
}

static json_t *
disks_json (const struct account *a)
{
  json_t *disks = json_array ();
  size_t i;

  for (i = 0; i < a->nr_disks; ++i)
    json_array_append_new (disks, disk_json (&a->disks[i]));
  return disks;
}

void
event_started (const struct account *a)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "started",
          json_pack ("{s:o, s:I, s:s, s:I, s:I}", "disks", disks_json (a),
                     "disk_bytes", (json_int_t)a->disk_bytes, "finish",
                     a->finish, "max_pause_ms", (json_int_t)a->max_pause_ms,
                     "rate", (json_int_t)a->rate));
}

static json_t *
plan_json (const struct plan *p)
{
  json_t *disks = json_array ();
  size_t i;

  for (i = 0; i < p->nr_disks; ++i)
    json_array_append_new (
      disks,
      json_pack ("{s:s, s:s, s:I, s:I, s:s?}", "source", p->disks[i].source,
                 "destination", p->disks[i].destination, "disk_bytes",
                 (json_int_t)p->disks[i].disk_bytes, "copy_bytes",
                 (json_int_t)p->disks[i].copy_bytes, "goes_on",
                 p->disks[i].goes_on));
  return disks;
}

void
event_checked (const struct plan *p)
{
  json_t *ms = p->expected_ms == SNAPSHOT_UNKNOWN
                 ? json_null ()
                 : json_integer ((json_int_t)p->expected_ms);

  if (is_enabled ())
    emit (OUTPUT_LINE, "checked",
          json_pack ("{s:o, s:I, s:I, s:I, s:O, s:I}", "disks", plan_json (p),
                     "copy_bytes", (json_int_t)p->copy_bytes,
                     "bytes_per_second", (json_int_t)p->rate,
                     "guest_bytes_per_second", (json_int_t)p->guest_rate,
                     "expected_ms", ms, "predicted_pause_ms",
                     (json_int_t)(p->pause_us / 1000)));
  json_decref (ms);
}

void
event_phase (const char *phase, unsigned pass, uint64_t remaining_bytes)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "phase",
          json_pack ("{s:s, s:i, s:I}", "phase", phase, "pass", (int)pass,
                     "remaining_bytes", (json_int_t)remaining_bytes));
}

void
event_progress (json_t *progress)
{
  if (is_enabled ())
    emit (OUTPUT_PROGRESS, "progress", json_incref (progress));
}

void
event_hook (const char *step, double ms, bool succeeded)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "hook",
          json_pack ("{s:s, s:f, s:b}", "step", step, "hook_ms", ms,
                     "succeeded", (int)succeeded));
}

void
event_paused (bool paused)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, paused ? "paused" : "resumed", NULL);
}

void
event_policy (const char *decision, const char *reason)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "policy",
          json_pack ("{s:s, s:s, s:b}", "decision", decision, "reason", reason,
                     "explained_only", 0));
}

void
event_measure (const char *what, const char *reason, bool would)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "policy",
          json_pack ("{s:s, s:s, s:b}", "decision", what, "reason", reason,
                     "explained_only", (int)would));
}

void
event_decision (const char *decision, const char *reason,
                uint64_t predicted_pause_ms, uint64_t max_pause_ms,
                uint64_t remaining_bytes)
{
  json_t *ms = predicted_pause_ms == SNAPSHOT_UNKNOWN
                 ? json_null ()
                 : json_integer ((json_int_t)predicted_pause_ms);

  if (is_enabled ())
    emit (OUTPUT_LINE, "policy",
          json_pack ("{s:s, s:s, s:b, s:O, s:I, s:I}", "decision", decision,
                     "reason", reason, "explained_only", 0,
                     "predicted_pause_ms", ms, "max_pause_ms",
                     (json_int_t)max_pause_ms, "remaining_bytes",
                     (json_int_t)remaining_bytes));
  json_decref (ms);
}

void
event_lost (const struct loss *l)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "lost",
          json_pack ("{s:s, s:s, s:s?, s:I, s:I}", "source", l->source,
                     "destination", l->destination, "reason", l->why,
                     "dirty_again_bytes", (json_int_t)l->again_bytes,
                     "reconnect_ms", (json_int_t)l->limit_ms));
}

void
event_reconnected (const struct loss *l)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "reconnected",
          json_pack ("{s:s, s:s, s:I, s:i}", "source", l->source, "destination",
                     l->destination, "away_ms", (json_int_t)l->away_ms,
                     "attempts", (int)l->attempts));
}

static json_t *
steps_json (const struct pause *p)
{
  return json_pack (
    "{s:f, s:f, s:f, s:f, s:f, s:f}", "hold", p->steps_ms[PAUSE_HOLD], "copy",
    p->steps_ms[PAUSE_COPY], "flush", p->steps_ms[PAUSE_FLUSH], "check",
    p->steps_ms[PAUSE_CHECK], "commit", p->steps_ms[PAUSE_COMMIT], "release",
    p->steps_ms[PAUSE_RELEASE]);
}

/* The pause lies between these times, also when they are rounded. */
void
event_pause (const struct pause *p)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "pause",
          json_pack ("{s:f, s:f, s:f, s:o, s:I, s:s}", "begin_time",
                     floor (p->begin_time * PER_SECOND) / PER_SECOND,
                     "end_time", ceil (event_now () * PER_SECOND) / PER_SECOND,
                     "pause_ms", p->ms, "steps_ms", steps_json (p),
                     "remaining_bytes", (json_int_t)p->remaining_bytes,
                     "result", p->committed ? "committed" : "expired"));
}

/* What both ends of a migration tell. */
static json_t *
summary (const struct account *a)
{
  return json_pack (
    "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:I, s:s, s:I, "
    "s:I, s:b, s:I, s:i, s:i}",
    "disks", disks_json (a), "disk_bytes", (json_int_t)a->disk_bytes,
    "copied_bytes", (json_int_t)a->copied_bytes, "zeroed_bytes",
    (json_int_t)a->zeroed_bytes, "skipped_bytes", (json_int_t)a->skipped_bytes,
    "compared_bytes", (json_int_t)a->compared_bytes, "sampled_bytes",
    (json_int_t)a->sampled_bytes, "sample_seed", (json_int_t)a->sample_seed,
    "marked_bytes", (json_int_t)a->marked_bytes, "passes", (int)a->passes,
    "pause_ms", a->pause_ms, "duration_ms", (json_int_t)a->duration_ms,
    "finish", a->finish, "max_pause_ms", (json_int_t)a->max_pause_ms, "rate",
    (json_int_t)a->rate, "resumed", a->resumed, DROPPED, (json_int_t)0,
    "losses", (int)a->losses, "reconnects", (int)a->reconnects);
}

void
event_completed (const struct account *a)
{
  if (is_enabled ())
    emit (OUTPUT_LINE, "completed", summary (a));
}

void
event_failed (const struct account *a, int status, const char *why)
{
  json_t *members;

  if (!is_enabled ())
    return;
  members = summary (a);
  json_object_set_new (members, "status", json_integer (status));
  json_object_set_new (members, "error",
                       why ? json_string (why) : json_null ());
  emit (OUTPUT_LINE, "failed", members);
}

static void
end_sink (struct sink *sink)
{
  if (sink->broken ||
      output_wait (sink->fd, OUTPUT_STILL_MS, OUTPUT_END_MS) == 0)
    return;
  if (errno == ETIMEDOUT)
    say_error ("nobody reads the JSON events on %s: the last of them are "
               "not written",
               sink->name);
  else
    say_not_written (sink);
}

void
events_end (void)
{
  size_t i;

  for (i = 0; i < nr_sinks; ++i)
    end_sink (&sinks[i]);
}
