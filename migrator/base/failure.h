/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether a migration goes on, and what ended it.
 *
 * Whoever sees an error notes it here and returns; whoever drives the loop
 * looks at 'stop'.  The first error stays: what follows from it explains
 * nothing.
 */

#ifndef NBDMIGRATE_FAILURE_H
#define NBDMIGRATE_FAILURE_H

enum stop { STOP_NO, STOP_FAILED, STOP_CANCELLED };

struct failure {
  enum stop stop;
  char *why; /* the first error, owned; NULL if there was none */
};

/* Note an error, and stop.  The text is copied. */
extern void failure_note (struct failure *f, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

extern void failure_free (struct failure *f);

#endif /* NBDMIGRATE_FAILURE_H */
