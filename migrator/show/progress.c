/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "show/progress-text.h"
#include "show/progress.h"
#include "base/say.h"

#define COLUMNS 80

/* A line that wraps cannot be redrawn or cleared: room for the cursor, and for
 * the "^C" of a terminal.
 */
#define MARGIN 3

static bool bar_shown, line_open;
static int lines_fd = -1;
static int last_percent = -1;

static void
clear_line (void)
{
  if (line_open)
    fputs ("\r\033[K", stderr);
  line_open = false;
}

void
progress_init (bool bar, int fd)
{
  bar_shown = bar;
  lines_fd = fd;
  say_set_clear (clear_line);
}

/* ---- as JSON ----------------------------------------------------------- */

static json_t *
or_null (uint64_t ms)
{
  return ms == SNAPSHOT_UNKNOWN ? json_null () : json_integer ((json_int_t)ms);
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

json_t *
progress_json (const struct snapshot *s)
{
  return add_late (
    json_pack (
      "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:b, s:I, "
      "s:I, s:I, s:s?, s:I}",
      "phase", s->phase, "pass", (int)s->pass, "percent", (int)s->percent,
      "pass_bytes", (json_int_t)s->pass_bytes, "pass_total_bytes",
      (json_int_t)s->pass_total_bytes, "copied_bytes",
      (json_int_t)s->copied_bytes, "bytes_per_second",
      (json_int_t)s->bytes_per_second, "dirty_bytes_per_second",
      (json_int_t)s->dirty_bytes_per_second, "remaining_bytes",
      (json_int_t)s->remaining_bytes, "predicted_pause_ms",
      or_null (s->predicted_pause_ms), "eta_ms", or_null (s->eta_ms), "finish",
      s->finish, "wait", (int)s->wait, "max_pause_ms",
      (json_int_t)s->max_pause_ms, "rate", (json_int_t)s->rate, "disk_count",
      (json_int_t)s->nr_disks, "silent", s->silent, "silent_ms",
      (json_int_t)s->silent_ms),
    s);
}

/* ---- shown ------------------------------------------------------------- */

static void
draw_line (const struct snapshot *s)
{
  CLEANUP_JSON json_t *p = progress_json (s);
  const unsigned terminal = progress_columns (STDERR_FILENO);
  const unsigned wide = terminal > 0 ? terminal : COLUMNS;
  const unsigned columns = wide > MARGIN ? wide - MARGIN : 1;
  CLEANUP_FREE char *text = progress_text (p, true, columns);

  if (text == NULL)
    return;
  if (strlen (text) > columns)
    text[columns] = '\0';
  fprintf (stderr, "\r%s\033[K", text);
  fflush (stderr);
  line_open = true;
}

/* A program reads these lines: they never run backwards, so later passes print
 * nothing below what the bulk pass reached.  Whoever reads them may be gone:
 * that is no reason to stop copying.
 */
static void
print_percent (int percent)
{
  if (percent <= last_percent)
    return;
  last_percent = percent;
  if (dprintf (lines_fd, "%d/100\n", percent) < 0)
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
    print_percent ((int)s->pass_percent);
}

void
progress_end (const struct snapshot *s, bool completed)
{
  if (completed && bar_shown) {
    draw_line (s);
    fputc ('\n', stderr);
    line_open = false;
  }
  else
    clear_line ();
  if (completed && lines_fd >= 0)
    print_percent (100);
}
