/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "run/liveness.h"
#include "run/migration.h"
#include "run/pass.h"
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

/* ---- a server that does not answer ------------------------------------- */

struct silence {
  const char *side; /* NULL: all servers answer */
  int64_t us;
};

static void
note_silence (struct silence *s, const char *side, int64_t us)
{
  if (us >= ENDPOINT_SILENT_US && us > s->us)
    *s = (struct silence){ .side = side, .us = us };
}

static void
listen_to (struct silence *s, const char *side, const struct endpoint *e)
{
  if (e != NULL)
    note_silence (s, side, endpoint_silent_us (e, loop_now_us ()));
}

static struct silence
find_silence (const struct migration *m)
{
  struct silence s = { .side = NULL };
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    listen_to (&s, "source", m->disks.v[i].source);
    listen_to (&s, "destination", m->disks.v[i].destination);
    listen_to (&s, "base", m->disks.v[i].base);
  }
  /* The same server, most likely: only if it answers to us. */
  for (i = 0; i < m->disks.n && s.side == NULL; ++i)
    note_silence (&s, "relay",
                  liveness_relay_silent_us (&m->disks.v[i], loop_now_us ()));
  return s;
}

/* ---- what may still land (R17) ----------------------------------------- */

struct late {
  uint64_t bytes;       /* of all disks; 0: nothing */
  uint64_t connections; /* of earlier runs, that are owed an answer */
  uint64_t ms;          /* how long to wait at least */
};

static struct late
find_late (const struct migration *m)
{
  struct late late = { 0 };
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    if (m->phase == PHASE_LATE && d->source_late_ms > late.ms)
      late.ms = d->source_late_ms;
    if (!disk_waits_for_late_writes (d))
      continue;
    late.bytes += d->quarantined_bytes;
    late.connections += d->old_connections;
    if (d->quarantine_ms > late.ms)
      late.ms = d->quarantine_ms;
  }
  return late;
}

/* Added to a progress object. */
static json_t *
add_late (json_t *progress, const struct migration *m)
{
  const struct late late = find_late (m);

  json_object_set_new (progress, "late_bytes",
                       json_integer ((json_int_t)late.bytes));
  json_object_set_new (progress, "late_connections",
                       json_integer ((json_int_t)late.connections));
  json_object_set_new (progress, "late_ms", json_integer ((json_int_t)late.ms));
  return progress;
}

/* ---- as JSON ----------------------------------------------------------- */

static json_t *
or_null (uint64_t ms)
{
  return ms == FORECAST_NEVER ? json_null () : json_integer ((json_int_t)ms);
}

/* What the present pass has still to do, should it be more than expected. */
static uint64_t
left_of_pass (const struct migration *m)
{
  switch (m->phase) {
  case PHASE_VERIFY:
    return pass_unverified (m);
  case PHASE_DIGEST:
    return 0;
  default:
    return pass_remaining (m);
  }
}

/* Not if the guest has added to the pass: it may go on doing so. */
static uint64_t
eta_ms (const struct migration *m)
{
  const uint64_t pace = meter_pace (&m->meter);
  double ms;

  if (pace == 0 || meter_overran (&m->meter))
    return FORECAST_NEVER;
  ms = (double)(m->meter.pass_total_bytes - meter_pass_bytes (&m->meter));
  ms = ms * 1000 / (double)pace;
  return ms < 1e15 ? (uint64_t)ms : FORECAST_NEVER;
}

/* While a pass copies: of what it will leave behind, or, if that cannot be
 * known, of what is left now.
 */
static uint64_t
predicted_ms (const struct migration *m)
{
  const uint64_t eta = eta_ms (m), dirty_rate = pass_dirty_rate (m);
  struct forecast_input in = {
    .remaining_bytes = pass_remaining (m),
    .bytes_per_second = meter_bandwidth (&m->meter),
    .flush_us = m->flush_us,
  };

  if (m->phase != PHASE_BULK && m->phase != PHASE_DIRTY)
    return m->predicted_ms;
  if (in.bytes_per_second == 0)
    return FORECAST_NEVER;
  if (eta != FORECAST_NEVER)
    in.remaining_bytes =
      m->behind_bytes + (uint64_t)((double)dirty_rate * (double)eta / 1000);
  if (m->disks.options->verify)
    in.remaining_bytes *= 2;
  return forecast_pause_ms (&in);
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

  for (i = 0; i < m->disks.n; ++i)
    bytes -= m->disks.v[i].digested_bytes;
  return bytes;
}

/* What holds, or was wished and will be tried next. */
static enum finish
finish_in_force (const struct migration *m)
{
  return m->finish_wished ? m->finish_wish : m->disks.finish;
}

json_t *
progress_json (struct migration *m)
{
  const bool done = m->phase == PHASE_DONE;
  const bool cut_over = done || m->phase == PHASE_DIGEST;
  /* While it only waits, there is as little left to do as at the end. */
  const bool late = m->phase == PHASE_LATE;
  const bool over = done || late || m->phase == PHASE_READY;
  const uint64_t bytes = done ? moved_bytes (m) : meter_pass_bytes (&m->meter);
  const uint64_t total =
    done ? bytes : meter_pass_total (&m->meter, left_of_pass (m));
  const struct silence silence = find_silence (m);
  const uint64_t eta = late ? FORECAST_NEVER : over ? 0 : eta_ms (m);
  const uint64_t pause =
    cut_over ? (uint64_t)m->pause_ms + 1 : predicted_ms (m);

  return add_late (
    json_pack (
      "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:b, s:I, "
      "s:I, s:I, s:s?, s:I}",
      "phase", phase_name (m->phase), "pass", (int)m->passes + 1, "percent",
      over ? 100 : (int)meter_percent (&m->meter, left_of_pass (m)),
      "pass_bytes", (json_int_t)bytes, "pass_total_bytes", (json_int_t)total,
      "copied_bytes", (json_int_t)m->meter.copied_bytes, "bytes_per_second",
      (json_int_t)bytes_per_second (m), "dirty_bytes_per_second",
      (json_int_t)pass_dirty_rate (m), "remaining_bytes",
      (json_int_t)(cut_over ? 0 : pass_remaining (m)), "predicted_pause_ms",
      or_null (pause), "eta_ms", or_null (eta), "finish",
      finish_name (finish_in_force (m)), "wait",
      (int)(m->wait && !m->finish_wished), "max_pause_ms",
      (json_int_t)m->disks.max_pause_ms, "rate",
      (json_int_t)m->disks.bucket.rate, "disk_count", (json_int_t)m->disks.n,
      "silent", silence.side, "silent_ms", (json_int_t)(silence.us / 1000)),
    m);
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
    print_percent ((int)meter_percent (&m->meter, left_of_pass (m)));
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
