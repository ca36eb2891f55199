/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages to the user, on stderr, above the progress line if there is one. */

#ifndef NBDMIGRATE_SAY_H
#define NBDMIGRATE_SAY_H

#include <stdbool.h>

/* --quiet: errors only. */
extern void say_quiet (bool quiet);

/* Redraw the progress line; messages go above it.  It is cut to fit by the
 * caller.
 */
extern void say_line (const char *text);

/* The last time: it stays, or nothing of it does (NULL). */
extern void say_last_line (const char *text);

/* "nbdmigrate: TEXT". */
extern void say_error (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

/* The same, not with --quiet. */
extern void say_info (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

/* A usage error: the text, and where to read on. */
extern void say_usage (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

#endif /* NBDMIGRATE_SAY_H */
