/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "show/progress-text.h"
#include "units.h"

#define BAR_MAX 24
#define BAR_MIN 6
#define PERCENT_WIDTH 4 /* behind a bar, so that it does not move */

unsigned
progress_columns (int fd)
{
  struct winsize w;

  return ioctl (fd, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

/* ---- numbers ----------------------------------------------------------- */

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

static const char *
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
  return text;
}

/* ---- the parts of the line --------------------------------------------- */

/* In the order in which they are left out where there is no room. */
enum field_kind {
  FIELD_ELAPSED,
  FIELD_TOTAL,
  FIELD_LEFT,
  FIELD_DIRTY,
  FIELD_PAUSE,
  FIELD_DONE,
  FIELD_SPEED,
  FIELD_ETA,
  FIELDS
};

struct line {
  char head[32];
  char percent[16];
  char fields[FIELDS][2 * UNITS_TEXT_MAX]; /* empty: left out */
  char note[64];                           /* the same */
};

static bool
is_phase (const json_t *p, const char *phase)
{
  const char *s = json_string_value (json_object_get (p, "phase"));

  return s != NULL && strcmp (s, phase) == 0;
}

static void __attribute__ ((format (printf, 3, 4)))
set_field (struct line *l, enum field_kind kind, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (l->fields[kind], sizeof l->fields[kind], fmt, args);
  va_end (args);
}

/* While it only reads nothing is copied: what counts is what is compared. */
static uint64_t
left_bytes (const json_t *p)
{
  if (is_phase (p, "verify") || is_phase (p, "digest"))
    return number (p, "pass_total_bytes") - number (p, "pass_bytes");
  return number (p, "remaining_bytes");
}

/* The passes meanwhile lead nowhere. */
static bool
waits (const json_t *p)
{
  return is_phase (p, "ready") || is_phase (p, "late-writes") ||
         is_phase (p, "reconnect");
}

static void
fill_fields (struct line *l, const json_t *p)
{
  char a[UNITS_TEXT_MAX], b[UNITS_TEXT_MAX];

  set_field (l, FIELD_SPEED, "%s/s", brief (a, number (p, "bytes_per_second")));
  set_field (l, FIELD_LEFT, "left %s", brief (a, left_bytes (p)));
  if (!is_phase (p, "digest")) { /* what the guest does is of no account */
    set_field (l, FIELD_DIRTY, "dirty %s/s",
               brief (a, number (p, "dirty_bytes_per_second")));
    set_field (l, FIELD_PAUSE, "pause %s",
               brief_ms (a, p, "predicted_pause_ms", false));
  }
  if (number (p, "elapsed_ms") >= 1000)
    set_field (l, FIELD_ELAPSED, "after %s",
               brief_ms (a, p, "elapsed_ms", true));
  if (waits (p))
    return;
  if (json_is_integer (json_object_get (p, "total_eta_ms")))
    set_field (l, FIELD_TOTAL, "all in %s",
               brief_ms (a, p, "total_eta_ms", true));
  set_field (l, FIELD_DONE, "%s/%s", brief (a, number (p, "pass_bytes")),
             brief (b, number (p, "pass_total_bytes")));
  set_field (l, FIELD_ETA, "ETA %s", brief_ms (a, p, "eta_ms", true));
}

/* A destination that was lost. */
static bool
note_away (struct line *l, const json_t *p)
{
  const json_t *o = json_object_get (p, "reconnecting");
  char away[UNITS_TEXT_MAX], limit[UNITS_TEXT_MAX];

  if (!json_is_object (o))
    return false;
  snprintf (l->note, sizeof l->note, " destination lost for %s, %s at most",
            brief_ms (away, o, "away_ms", false),
            brief_ms (limit, o, "reconnect_ms", false));
  return true;
}

/* A server that does not answer: nothing else explains why all stands still,
 * and what was measured before says nothing of now.
 */
static void
note_silence (struct line *l, const json_t *p)
{
  static const enum field_kind stale[] = { FIELD_SPEED, FIELD_DIRTY,
                                           FIELD_PAUSE, FIELD_ETA,
                                           FIELD_TOTAL };
  const char *side = json_string_value (json_object_get (p, "silent"));
  const bool away = note_away (l, p);
  size_t i;

  if (side == NULL && !away)
    return;
  for (i = 0; i < sizeof stale / sizeof stale[0]; ++i)
    l->fields[stale[i]][0] = '\0';
  if (away)
    return;
  snprintf (l->note, sizeof l->note, " no answer %s %.16s for %" PRIu64 " s",
            strcmp (side, "relay") == 0 ? "to the" : "from the",
            strcmp (side, "relay") == 0 ? "proxy" : side,
            number (p, "silent_ms") / 1000);
}

/* Nothing else explains why it is not cut over (R17). */
static void
note_late (struct line *l, const json_t *p)
{
  if (l->note[0] != '\0' ||
      (number (p, "late_bytes") == 0 && number (p, "late_ms") == 0))
    return;
  l->fields[FIELD_ETA][0] = '\0';
  if (number (p, "late_connections") > 0)
    snprintf (l->note, sizeof l->note, " waiting for an old write");
  else
    snprintf (l->note, sizeof l->note, " waiting %" PRIu64 " s for old writes",
              (number (p, "late_ms") + 999) / 1000);
}

/* By somebody, and nothing else explains why all stands still. */
static void
note_paused (struct line *l, const json_t *p)
{
  if (l->note[0] != '\0' || !json_is_true (json_object_get (p, "paused")))
    return;
  l->fields[FIELD_SPEED][0] = l->fields[FIELD_ETA][0] = '\0';
  snprintf (l->note, sizeof l->note, " paused");
}

/* What is done to the guest. */
static void
note_guests (struct line *l, const json_t *p)
{
  const char *mirror = json_string_value (json_object_get (p, "mirror"));
  const uint64_t limit = number (p, "throttle");
  char text[UNITS_TEXT_MAX];

  if (l->note[0] != '\0')
    return;
  if (limit > 0)
    snprintf (l->note, sizeof l->note, " guest limited to %s/s",
              brief (text, limit));
  else if (mirror != NULL && strcmp (mirror, "on") == 0)
    snprintf (l->note, sizeof l->note, " mirroring");
}

static void
fill_line (struct line *l, const json_t *p, const char *phase)
{
  *l = (struct line){ .head = "" };
  if (is_phase (p, "dirty"))
    snprintf (l->head, sizeof l->head, "pass %u ",
              (unsigned)number (p, "pass"));
  else
    snprintf (l->head, sizeof l->head, "%.16s ", phase);
  if (is_phase (p, "ready") && !json_is_true (json_object_get (p, "paused")))
    snprintf (l->percent, sizeof l->percent, "in sync");
  else if (!waits (p))
    snprintf (l->percent, sizeof l->percent, "%u%%",
              (unsigned)number (p, "percent"));
  else
    l->head[strlen (l->head) - 1] = '\0';
  fill_fields (l, p);
  note_silence (l, p);
  if (is_phase (p, "dirty") || waits (p))
    note_late (l, p);
  note_paused (l, p);
  note_guests (l, p);
}

static unsigned
width (const struct line *l)
{
  size_t n = strlen (l->head) + strlen (l->percent) + strlen (l->note);
  unsigned i;

  for (i = 0; i < FIELDS; ++i)
    if (l->fields[i][0] != '\0')
      n += 1 + strlen (l->fields[i]);
  return (unsigned)n;
}

/* Returns whether something was left out. */
static bool
narrow (struct line *l, unsigned columns)
{
  unsigned i;

  for (i = 0; i < FIELDS && width (l) > columns; ++i)
    l->fields[i][0] = '\0';
  return i > 0;
}

/* ---- the line ---------------------------------------------------------- */

static void
draw_bar (char bar[BAR_MAX + 4], unsigned bar_width, unsigned percent)
{
  const unsigned filled = bar_width * percent / 100;
  unsigned i;

  bar[0] = '[';
  for (i = 0; i < bar_width; ++i)
    bar[i + 1] = i < filled ? '=' : i == filled ? '>' : ' ';
  strcpy (bar + bar_width + 1, "] ");
}

static char *
assemble (const struct line *l, const char *bar)
{
  static const enum field_kind order[] = { FIELD_DONE,  FIELD_SPEED,
                                           FIELD_DIRTY, FIELD_LEFT,
                                           FIELD_PAUSE, FIELD_ETA,
                                           FIELD_TOTAL, FIELD_ELAPSED };
  char *text = NULL;
  size_t size, i;
  FILE *fp = open_memstream (&text, &size);

  if (fp == NULL)
    return NULL;
  fprintf (fp, "%s%s%*s", l->head, bar, *bar ? PERCENT_WIDTH : 0, l->percent);
  for (i = 0; i < FIELDS; ++i)
    if (l->fields[order[i]][0] != '\0')
      fprintf (fp, " %s", l->fields[order[i]]);
  fputs (l->note, fp);
  if (fclose (fp) == 0)
    return text;
  free (text);
  return NULL;
}

char *
progress_text (const json_t *p, bool bar, unsigned columns)
{
  const char *phase = json_string_value (json_object_get (p, "phase"));
  char drawn[BAR_MAX + 4] = "";
  unsigned room, used;
  struct line l;

  if (phase == NULL)
    return NULL;
  fill_line (&l, p, phase);
  if (columns > 0 && narrow (&l, columns))
    bar = false;
  if (waits (p))
    bar = false;
  used = width (&l) + PERCENT_WIDTH - (unsigned)strlen (l.percent);
  if (columns == 0)
    columns = used + BAR_MAX + 3;
  room = columns > used ? columns - used : 0;
  if (bar && room >= BAR_MIN + 3)
    draw_bar (drawn, room - 3 > BAR_MAX ? BAR_MAX : room - 3,
              (unsigned)number (p, "percent"));
  return assemble (&l, drawn);
}
