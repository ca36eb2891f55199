/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of a migration as the text of --metrics (metrics.h). */

#ifndef NBDMIGRATE_METRICS_TEXT_H
#define NBDMIGRATE_METRICS_TEXT_H

#include "show/snapshot.h"

/* status: the exit status, -1: it goes on; begin_time as event_now.  The caller
 * frees it; NULL: there is no memory.
 */
extern char *metrics_text (const struct snapshot *s, const struct account *a,
                           int status, double begin_time);

#endif /* NBDMIGRATE_METRICS_TEXT_H */
