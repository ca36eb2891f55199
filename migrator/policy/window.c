/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <string.h>

#include "policy/window.h"

#define MINUTES_A_DAY 1440
#define SEARCH_MINUTES (2 * MINUTES_A_DAY)

/* "HH:MM", whole.  -1: it is none.  24:00 is the end of a day. */
static int
parse_clock (const char *text, unsigned *minutes)
{
  unsigned hours, rest;
  int end = 0;

  if (strlen (text) != strlen ("HH:MM") || strspn (text, "0123456789:") != 5 ||
      sscanf (text, "%2u:%2u%n", &hours, &rest, &end) != 2 || end != 5 ||
      hours > 24 || rest > 59 || (hours == 24 && rest > 0))
    return -1;
  *minutes = hours * 60 + rest;
  return 0;
}

int
window_parse (const char *text, struct window *w)
{
  char from[6] = "";

  if (strlen (text) != strlen ("HH:MM-HH:MM") || text[5] != '-')
    return -1;
  memcpy (from, text, 5);
  if (parse_clock (from, &w->from) == -1 ||
      parse_clock (text + 6, &w->to) == -1 || w->from == w->to ||
      w->from == MINUTES_A_DAY)
    return -1;
  w->given = true;
  return 0;
}

static time_t
find_clock (unsigned minutes, time_t now)
{
  struct tm tm;
  time_t t = now - now % 60;
  unsigned i;

  for (i = 0; i <= SEARCH_MINUTES; ++i) {
    t += 60;
    localtime_r (&t, &tm);
    if ((unsigned)(tm.tm_hour * 60 + tm.tm_min) == minutes % MINUTES_A_DAY)
      return t - tm.tm_sec;
  }
  return 0;
}

/* mktime makes another day of one that there is not. */
static int
parse_date (const char *text, time_t *at)
{
  struct tm tm = { .tm_isdst = -1 }, asked;
  unsigned minutes;
  int end = 0;

  if (strlen (text) != strlen ("YYYY-MM-DD HH:MM") ||
      (text[10] != ' ' && text[10] != 'T') ||
      strspn (text, "0123456789-") != 10 ||
      sscanf (text, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
              &end) != 3 ||
      end != 10 || parse_clock (text + 11, &minutes) == -1)
    return -1;
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  tm.tm_hour = (int)minutes / 60;
  tm.tm_min = (int)minutes % 60;
  asked = tm;
  *at = mktime (&tm);
  return *at != -1 && tm.tm_mday == asked.tm_mday &&
             tm.tm_mon == asked.tm_mon && tm.tm_hour == asked.tm_hour &&
             tm.tm_min == asked.tm_min
           ? 0
           : -1;
}

int
window_parse_at (const char *text, time_t now, time_t *at)
{
  unsigned minutes;

  if (parse_clock (text, &minutes) == -1)
    return parse_date (text, at);
  *at = find_clock (minutes, now);
  return *at == 0 ? -1 : 0;
}

bool
window_is_open (const struct window *w, time_t now)
{
  struct tm tm;
  unsigned minutes;

  if (now < w->at)
    return false;
  if (!w->given)
    return true;
  localtime_r (&now, &tm);
  minutes = (unsigned)(tm.tm_hour * 60 + tm.tm_min);
  return w->from < w->to ? minutes >= w->from && minutes < w->to
                         : minutes >= w->from || minutes < w->to;
}

time_t
window_opens (const struct window *w, time_t now)
{
  time_t t = now < w->at ? w->at : now;
  unsigned i;

  for (i = 0; i <= SEARCH_MINUTES; ++i) {
    if (window_is_open (w, t))
      return t;
    t += 60 - t % 60;
  }
  return 0;
}
