/* SPDX-License-Identifier: BSD-3-Clause */
/* The last rounds before the pause. */

#ifndef NBDMIGRATE_APPROACH_H
#define NBDMIGRATE_APPROACH_H

struct migration;

/* Copy what has become dirty, over and over, as long as that leaves less and
 * less; the pause is predicted anew then.  Nothing may be leased (rounds_stop),
 * nor is anything afterwards.  -1 with m->disks.failure, or if the migration
 * has stopped.
 */
extern int approach (struct migration *m);

#endif /* NBDMIGRATE_APPROACH_H */
