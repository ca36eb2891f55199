/* SPDX-License-Identifier: BSD-3-Clause */
/* The line is made from the published JSON, so that 'nbdmigrate status' shows
 * exactly what the migrator's own terminal shows.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "migration.h"
#include "progress.h"
#include "say.h"
#include "units.h"

#define COLUMNS 80
#define BAR_MAX 24
#define BAR_MIN 6

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

json_t *
progress_json (struct migration *m)
{
  /* While it waits in sync, there is as little left to do as at the end. */
  const bool over = m->phase == PHASE_DONE || m->phase == PHASE_READY;
  const uint64_t pace = meter_pace (&m->meter);
  const uint64_t total =
    over ? m->meter.moved_bytes : m->meter.pass_total_bytes;
  const uint64_t done = over ? total : meter_pass_bytes (&m->meter);
  const uint64_t eta_ms = pace > 0 ? (total - done) * 1000 / pace : 0;
  uint64_t dirty_rate = 0, pause_ms;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    dirty_rate += m->disks[i].dirty_rate;
  pause_ms = m->phase == PHASE_DONE ? (uint64_t)m->pause_ms + 1
                                    : predicted_ms (m, dirty_rate, eta_ms);
  return json_pack (
    "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:I, s:I}",
    "phase", phase_name (m->phase), "pass", (int)m->passes + 1, "percent",
    over ? 100 : (int)meter_percent (&m->meter), "pass_bytes", (json_int_t)done,
    "pass_total_bytes", (json_int_t)total, "copied_bytes",
    (json_int_t)m->meter.copied_bytes, "bytes_per_second",
    (json_int_t)meter_throughput (&m->meter), "dirty_bytes_per_second",
    (json_int_t)dirty_rate, "remaining_bytes",
    (json_int_t)(m->phase == PHASE_DONE ? 0 : pass_remaining (m)),
    "predicted_pause_ms", or_null (pause_ms, pause_ms != FORECAST_NEVER),
    "eta_ms", or_null (eta_ms, pace > 0 || over), "finish",
    finish_name (m->finish), "max_pause_ms", (json_int_t)m->max_pause_ms,
    "rate", (json_int_t)m->bucket.rate);
}

/* ---- as text ----------------------------------------------------------- */

static uint64_t
number (const json_t *o, const char *name)
{
  return (uint64_t)json_integer_value (json_object_get (o, name));
}

/* Five characters at most, so that all numbers fit in a line of 80. */
static const char *
brief (char text[UNITS_TEXT_MAX], uint64_t bytes)
{
  static const char suffixes[] = "BKMGTPE";
  double value = (double)bytes;
  unsigned i = 0;

  while (value >= 999.5) {
    value /= 1024;
    i++;
  }
  snprintf (text, UNITS_TEXT_MAX, i > 0 && value < 9.95 ? "%.1f%c" : "%.0f%c",
            value, suffixes[i]);
  return text;
}

static void
brief_ms (char text[UNITS_TEXT_MAX], const json_t *p, const char *name,
          bool seconds)
{
  const uint64_t ms = number (p, name);

  if (!json_is_integer (json_object_get (p, name)))
    snprintf (text, UNITS_TEXT_MAX, "?");
  else if (!seconds && ms < 1000)
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 "ms", ms);
  else if (ms < 100 * 1000)
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 "s", (ms + 999) / 1000);
  else if (ms < 100 * 60 * 1000)
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 "min", ms / 60000);
  else
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 "h", ms / 3600000);
}

static char *
numbers (const json_t *p)
{
  char done[UNITS_TEXT_MAX], total[UNITS_TEXT_MAX], speed[UNITS_TEXT_MAX];
  char dirty[UNITS_TEXT_MAX], left[UNITS_TEXT_MAX], pause[UNITS_TEXT_MAX];
  char eta[UNITS_TEXT_MAX], *text;

  brief_ms (pause, p, "predicted_pause_ms", false);
  brief_ms (eta, p, "eta_ms", true);
  if (asprintf (&text, "%s/%s %s/s dirty %s/s left %s pause %s ETA %s",
                brief (done, number (p, "pass_bytes")),
                brief (total, number (p, "pass_total_bytes")),
                brief (speed, number (p, "bytes_per_second")),
                brief (dirty, number (p, "dirty_bytes_per_second")),
                brief (left, number (p, "remaining_bytes")), pause, eta) == -1)
    return NULL;
  return text;
}

static void
draw_bar (char bar[BAR_MAX + 4], unsigned width, unsigned percent)
{
  const unsigned filled = width * percent / 100;
  unsigned i;

  bar[0] = '[';
  for (i = 0; i < width; ++i)
    bar[i + 1] = i < filled ? '=' : i == filled ? '>' : ' ';
  strcpy (bar + width + 1, "] ");
}

char *
progress_text (const json_t *p, unsigned columns)
{
  const unsigned percent = (unsigned)number (p, "percent");
  const char *phase = json_string_value (json_object_get (p, "phase"));
  CLEANUP_FREE char *rest = numbers (p);
  char bar[BAR_MAX + 4] = "", head[32], *text;
  unsigned room;

  if (rest == NULL || phase == NULL)
    return NULL;
  if (strcmp (phase, "dirty") == 0)
    snprintf (head, sizeof head, "pass %u ", (unsigned)number (p, "pass"));
  else
    snprintf (head, sizeof head, "%s ", phase);
  room = (unsigned)(strlen (head) + 3 + 5 + strlen (rest) + 1);
  if (columns > room + BAR_MIN)
    draw_bar (bar, columns - room > BAR_MAX ? BAR_MAX : columns - room,
              percent);
  if (asprintf (&text, "%s%s%3u%% %s", head, bar, percent, rest) == -1)
    return NULL;
  return text;
}

static unsigned
terminal_columns (void)
{
  struct winsize w;

  if (ioctl (STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
    return w.ws_col;
  return COLUMNS;
}

static void
draw_line (struct migration *m)
{
  CLEANUP_JSON json_t *p = progress_json (m);
  const unsigned columns = terminal_columns ();
  CLEANUP_FREE char *text = progress_text (p, columns);

  if (text == NULL)
    return;
  /* A line that wraps cannot be redrawn. */
  if (strlen (text) >= columns)
    text[columns - 1] = '\0';
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
