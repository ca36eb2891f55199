/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether a migration goes on, and what ended it.
 *
 * Whoever sees an error notes it here and returns; whoever drives the loop
 * looks at 'stop'.  The first error stays: what follows from it explains
 * nothing.
 */

#ifndef NBDMIGRATE_FAILURE_H
#define NBDMIGRATE_FAILURE_H

#include <stdbool.h>

enum stop { STOP_NO, STOP_FAILED, STOP_CANCELLED };

struct failure {
  enum stop stop;
  char *why; /* the first error, owned; NULL if there was none */
  bool loss; /* it is that a destination was lost, which may come back */
};

/* Note an error, and stop.  The text is copied. */
extern void failure_note (struct failure *f, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* The same of what ends it for good, also where a loss was noted before, after
 * which it would go on as if nothing else had been: what shows a destination to
 * be wrong, or leaves leases behind that nobody knows of.
 */
extern void failure_note_for_good (struct failure *f, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* The same of the loss of a destination. */
extern void failure_note_loss (struct failure *f, const char *why);

/* Somebody wants it to end.  False: it has ended already, for good. */
extern bool failure_cancel (struct failure *f);

/* All goes on; 'why' is the caller's, who frees it. */
extern char *failure_take_back (struct failure *f);

extern void failure_free (struct failure *f);

#endif /* NBDMIGRATE_FAILURE_H */
