/* SPDX-License-Identifier: BSD-3-Clause */
/* When it may be cut over: --window and --finish-at, by the local wall clock.
 *
 * Pure but for the time zone (TZ): the caller passes the time.  The wall clock
 * decides: where it is put forward a part of a window, or all of it, is left
 * out in that night, and where it is put back that part comes twice.
 */

#ifndef NBDMIGRATE_WINDOW_H
#define NBDMIGRATE_WINDOW_H

#include <stdbool.h>
#include <time.h>

struct window {
  bool given;
  unsigned from, to; /* minutes since midnight; 'to' is outside, and may be the
                        smaller one, of the next day */
  time_t at;         /* not before; 0: not given */
};

/* "22:30-04:00", "00:00-24:00".  -1: it is none, or empty. */
extern int window_parse (const char *text, struct window *w);

/* "04:00", the next time that it is so late after 'now', or
 * "2026-11-30 04:00", also with a T between.  -1: it is none, or that day or
 * time is not in the calendar.
 */
extern int window_parse_at (const char *text, time_t now, time_t *at);

extern bool window_is_open (const struct window *w, time_t now);

/* When it is open next, 'now' if it is; 0: not within two days from 'at' on. */
extern time_t window_opens (const struct window *w, time_t now);

#endif /* NBDMIGRATE_WINDOW_H */
