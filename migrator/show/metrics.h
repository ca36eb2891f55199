/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of a migration for monitoring (--metrics): a file that is replaced
 * as a whole, for the textfile collector of node_exporter.
 *
 * That reads the text format of Prometheus, and others OpenMetrics; what is
 * written is good in both.  So all of it are gauges: counters have other names
 * there than here.  Their values are those of this run.
 *
 * For the main thread only.  A file system that is full, read-only or stuck
 * ends nothing: a thread writes, and what it could not do is said once.
 */

#ifndef NBDMIGRATE_METRICS_H
#define NBDMIGRATE_METRICS_H

#include <stdbool.h>

#include "show/snapshot.h"

/* Why the file cannot be there, as a directory that does not exist, in words,
 * or NULL.  Nothing is changed.
 */
extern const char *metrics_refused (const char *path);

/* From now on; the path is not owned.  0, or -1 with errno set. */
extern int metrics_open (const char *path);

/* Whether it is time for the next ones. */
extern bool metrics_are_due (const struct snapshot *s);

extern void metrics_show (const struct snapshot *s, const struct account *a);

/* The last ones, with the exit status; they are waited for within a limit. */
extern void metrics_end (const struct snapshot *s, const struct account *a,
                         int status);

#endif /* NBDMIGRATE_METRICS_H */
