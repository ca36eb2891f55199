/* SPDX-License-Identifier: BSD-3-Clause */
/* A destination was lost: wait for it, and go on.
 *
 * A loss stops the migration as any failure does, so that whoever waits for
 * something of that destination comes back to converge.c, in the pause too: the
 * gates open, and the guests go on at their sources (R8, R11).  From there it
 * is seen to here, which leaves everything as it was but for what is dirty
 * again (R6a).  Other disks are copied meanwhile.
 */

#ifndef NBDMIGRATE_RECOVER_H
#define NBDMIGRATE_RECOVER_H

#include <stdbool.h>

#include "disk/disk.h"

struct migration;

/* Whether what has stopped it may pass. */
extern bool recover_may (const struct migration *m);

/* Whether a destination is not there, or is not known to be right. */
extern bool recover_is_waiting (struct migration *m);

/* Until all destinations are back.  -1: it has stopped for something else, with
 * m->disks.failure, or for another loss (recover_may).
 */
extern int recover (struct migration *m);

/* Tells of both. */
extern const struct disk_observer recover_observer;

#endif /* NBDMIGRATE_RECOVER_H */
