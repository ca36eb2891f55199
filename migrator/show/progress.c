/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "show/progress-text.h"
#include "show/progress.h"
#include "base/output.h"
#include "base/say.h"

#define COLUMNS 80

/* A line that wraps cannot be redrawn or cleared: room for the cursor, and for
 * the "^C" of a terminal.
 */
#define MARGIN 3

static bool bar_shown;
static int lines_fd = -1;
static int last_percent = -1;

void
progress_init (bool bar, int fd)
{
  bar_shown = bar;
  lines_fd = fd >= 0 && output_open (fd) == 0 ? fd : -1;
}

/* ---- as JSON ----------------------------------------------------------- */

static json_t *
or_null (uint64_t ms)
{
  return ms == SNAPSHOT_UNKNOWN ? json_null () : json_integer ((json_int_t)ms);
}

json_t *
limits_json (const struct snapshot_limits *l)
{
  return json_pack ("{s:i, s:i, s:I}", "connections", (int)l->connections,
                    "depth", (int)l->depth, "request_bytes",
                    (json_int_t)l->request_bytes);
}

/* Added to a progress object. */
static json_t *
add_late (json_t *progress, const struct snapshot *s)
{
  json_object_set_new (progress, "late_bytes",
                       json_integer ((json_int_t)s->late_bytes));
  json_object_set_new (progress, "late_connections",
                       json_integer ((json_int_t)s->late_connections));
  json_object_set_new (progress, "late_ms",
                       json_integer ((json_int_t)s->late_ms));
  return progress;
}

static json_t *
add_away (json_t *progress, const struct snapshot *s)
{
  const struct loss *l = &s->away;
  json_t *o =
    s->nr_away == 0
      ? json_null ()
      : json_pack ("{s:s, s:s, s:i, s:I, s:I, s:i, s:s?, s:s?, s:I}", "source",
                   l->source, "destination", l->destination, "destinations",
                   (int)s->nr_away, "away_ms", (json_int_t)l->away_ms,
                   "reconnect_ms", (json_int_t)l->limit_ms, "attempts",
                   (int)l->attempts, "reason", l->why, "attempt_reason",
                   l->attempt_why, "dirty_again_bytes",
                   (json_int_t)l->again_bytes);

  json_object_set_new (progress, "reconnecting", o);
  return progress;
}

static json_t *
add_shared_memory (json_t *progress, const struct snapshot *s)
{
  json_object_set_new (progress, "shared_memory",
                       json_boolean (s->shared_memory));
  json_object_set_new (progress, "shared_memory_why",
                       s->not_shared_memory ? json_string (s->not_shared_memory)
                                            : json_null ());
  return progress;
}

static json_t *
add_limits (json_t *progress, const struct snapshot *s)
{
  json_object_set_new (progress, "reads", limits_json (&s->reads));
  json_object_set_new (progress, "writes", limits_json (&s->writes));
  return progress;
}

static json_t *
add_guests (json_t *progress, const struct snapshot *s)
{
  json_object_set_new (progress, "background",
                       json_integer ((json_int_t)s->background));
  json_object_set_new (progress, "background_rate",
                       json_integer ((json_int_t)s->background_rate));
  json_object_set_new (progress, "converge", json_string (s->converge));
  json_object_set_new (progress, "explained_only",
                       json_boolean (s->explained_only));
  json_object_set_new (progress, "mirror", json_string (s->mirror));
  json_object_set_new (progress, "throttle",
                       json_integer ((json_int_t)s->throttle));
  json_object_set_new (progress, "outlook", json_string (s->outlook));
  json_object_set_new (progress, "elapsed_ms",
                       json_integer ((json_int_t)s->elapsed_ms));
  json_object_set_new (progress, "total_eta_ms", or_null (s->total_eta_ms));
  json_object_set_new (progress, "finish_at",
                       s->finish_at ? json_integer (s->finish_at)
                                    : json_null ());
  json_object_set_new (progress, "paused", json_boolean (s->paused));
  json_object_set_new (progress, "most_pause_ms",
                       json_integer ((json_int_t)s->most_pause_ms));
  return progress;
}

static json_t *
add_latency (json_t *progress, const struct snapshot *s)
{
  const struct snapshot_latency *r = &s->guest_reads, *w = &s->guest_writes;

  json_object_set_new (
    progress, "guest_latency",
    json_pack ("{s:I, s:I, s:I, s:I, s:I, s:I}", "reads",
               (json_int_t)r->requests, "reads_us", (json_int_t)r->mean_us,
               "reads_99_us", (json_int_t)r->most_us, "writes",
               (json_int_t)w->requests, "writes_us", (json_int_t)w->mean_us,
               "writes_99_us", (json_int_t)w->most_us));
  return progress;
}

static json_t *
progress_without_losses (const struct snapshot *s)
{
  return add_guests (
    add_limits (
      add_shared_memory (
        add_late (
          json_pack (
            "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s, "
            "s:b, s:I, "
            "s:I, s:I, s:s?, s:I}",
            "phase", s->phase, "pass", (int)s->pass, "percent", (int)s->percent,
            "pass_bytes", (json_int_t)s->pass_bytes, "pass_total_bytes",
            (json_int_t)s->pass_total_bytes, "copied_bytes",
            (json_int_t)s->copied_bytes, "bytes_per_second",
            (json_int_t)s->bytes_per_second, "dirty_bytes_per_second",
            (json_int_t)s->dirty_bytes_per_second, "remaining_bytes",
            (json_int_t)s->remaining_bytes, "predicted_pause_ms",
            or_null (s->predicted_pause_ms), "eta_ms", or_null (s->eta_ms),
            "finish", s->finish, "wait", (int)s->wait, "max_pause_ms",
            (json_int_t)s->max_pause_ms, "rate", (json_int_t)s->rate,
            "disk_count", (json_int_t)s->nr_disks, "silent", s->silent,
            "silent_ms", (json_int_t)s->silent_ms),
          s),
        s),
      s),
    s);
}

json_t *
progress_json (const struct snapshot *s)
{
  return add_latency (add_away (progress_without_losses (s), s), s);
}

/* ---- shown ------------------------------------------------------------- */

/* The caller frees it. */
static char *
line_text (const struct snapshot *s)
{
  CLEANUP_JSON json_t *p = progress_json (s);
  const unsigned terminal = progress_columns (STDERR_FILENO);
  const unsigned wide = terminal > 0 ? terminal : COLUMNS;
  const unsigned columns = wide > MARGIN ? wide - MARGIN : 1;
  char *text = progress_text (p, true, columns);

  if (text != NULL && strlen (text) > columns)
    text[columns] = '\0';
  return text;
}

static void
draw_line (const struct snapshot *s)
{
  CLEANUP_FREE char *text = line_text (s);

  if (text != NULL)
    say_line (text);
}

/* A program reads these lines: they never run backwards, so later passes print
 * nothing below what the bulk pass reached.  Whoever reads them may be gone:
 * that is no reason to stop copying.
 */
static void
print_percent (int percent, enum output_kind kind)
{
  char *text;

  if (percent <= last_percent)
    return;
  last_percent = percent;
  if (asprintf (&text, "%d/100\n", percent) == -1)
    return;
  if (output_put (lines_fd, kind, text) == -1)
    lines_fd = -1;
}

void
progress_show (const struct snapshot *s)
{
  if (!s->shown)
    return;
  if (bar_shown)
    draw_line (s);
  if (lines_fd >= 0)
    print_percent ((int)s->pass_percent, OUTPUT_FRAME);
}

void
progress_end (const struct snapshot *s, bool completed)
{
  CLEANUP_FREE char *text = completed && bar_shown ? line_text (s) : NULL;

  say_last_line (text);
  if (completed && lines_fd >= 0)
    print_percent (100, OUTPUT_LINE);
}
