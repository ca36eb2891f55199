/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "migration.h"
#include "progress-text.h"
#include "progress.h"
#include "say.h"

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
or_null (uint64_t value, bool known)
{
  return known ? json_integer ((json_int_t)value) : json_null ();
}

/* Before the first prediction: what this pass will leave behind. */
static uint64_t
predicted_ms (const struct migration *m, uint64_t dirty_rate, uint64_t eta_ms)
{
  const uint64_t bandwidth = meter_bandwidth (&m->meter);
  double ms;

  if (m->predicted_ms != FORECAST_NEVER)
    return m->predicted_ms;
  if (bandwidth == 0)
    return FORECAST_NEVER;
  ms = (double)dirty_rate * (double)eta_ms / (double)bandwidth;
  return (uint64_t)ms + m->flush_us / 1000 + 1;
}

/* Reading back sends no data. */
static uint64_t
bytes_per_second (const struct migration *m)
{
  return m->phase == PHASE_VERIFY || m->phase == PHASE_DIGEST
           ? meter_pace (&m->meter)
           : meter_throughput (&m->meter);
}

/* In all passes. */
static uint64_t
moved_bytes (const struct migration *m)
{
  uint64_t bytes = m->meter.moved_bytes;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    bytes -= m->disks[i].digested_bytes;
  return bytes;
}

/* What holds, or was wished and will be tried next. */
static enum finish
finish_in_force (const struct migration *m)
{
  return m->finish_wished ? m->finish_wish : m->finish;
}

json_t *
progress_json (struct migration *m)
{
  const bool done = m->phase == PHASE_DONE;
  const bool cut_over = done || m->phase == PHASE_DIGEST;
  /* While it waits in sync, there is as little left to do as at the end. */
  const bool over = done || m->phase == PHASE_READY;
  const uint64_t pace = meter_pace (&m->meter);
  const uint64_t total = done ? moved_bytes (m) : m->meter.pass_total_bytes;
  const uint64_t bytes = done ? total : meter_pass_bytes (&m->meter);
  const uint64_t eta_ms = over || pace == 0 ? 0 : (total - bytes) * 1000 / pace;
  uint64_t dirty_rate = 0, pause_ms;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    dirty_rate += m->disks[i].dirty_rate;
  pause_ms =
    cut_over ? (uint64_t)m->pause_ms + 1 : predicted_ms (m, dirty_rate, eta_ms);
  return json_pack (
    "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:b, s:I, "
    "s:I, s:I}",
    "phase", phase_name (m->phase), "pass", (int)m->passes + 1, "percent",
    over ? 100 : (int)meter_percent (&m->meter), "pass_bytes",
    (json_int_t)bytes, "pass_total_bytes", (json_int_t)total, "copied_bytes",
    (json_int_t)m->meter.copied_bytes, "bytes_per_second",
    (json_int_t)bytes_per_second (m), "dirty_bytes_per_second",
    (json_int_t)dirty_rate, "remaining_bytes",
    (json_int_t)(cut_over ? 0 : pass_remaining (m)), "predicted_pause_ms",
    or_null (pause_ms, pause_ms != FORECAST_NEVER), "eta_ms",
    or_null (eta_ms, pace > 0 || over), "finish",
    finish_name (finish_in_force (m)), "wait",
    (int)(m->wait && !m->finish_wished), "max_pause_ms",
    (json_int_t)m->max_pause_ms, "rate", (json_int_t)m->bucket.rate,
    "disk_count", (json_int_t)m->nr_disks);
}

/* ---- shown ------------------------------------------------------------- */

static void
draw_line (struct migration *m)
{
  CLEANUP_JSON json_t *p = progress_json (m);
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
progress_show (struct migration *m)
{
  if (m->phase == PHASE_CONNECT || m->phase == PHASE_DONE)
    return;
  if (bar_shown)
    draw_line (m);
  if (lines_fd >= 0)
    print_percent ((int)meter_percent (&m->meter));
}

void
progress_end (struct migration *m, bool completed)
{
  if (completed && bar_shown) {
    draw_line (m);
    fputc ('\n', stderr);
    line_open = false;
  }
  else
    clear_line ();
  if (completed && lines_fd >= 0)
    print_percent (100);
}
