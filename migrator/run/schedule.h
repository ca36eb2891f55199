/* SPDX-License-Identifier: BSD-3-Clause */
/* --finish-at and --window: stay in sync, and cut over when the time has come.
 *
 * Outside of it all is as with --wait, inside as without.  What 'nbdmigrate
 * finish' asks for comes before.
 */

#ifndef NBDMIGRATE_SCHEDULE_H
#define NBDMIGRATE_SCHEDULE_H

struct migration;

/* In each round of the loop. */
extern void schedule_run (struct migration *m);

#endif /* NBDMIGRATE_SCHEDULE_H */
