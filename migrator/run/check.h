/* SPDX-License-Identifier: BSD-3-Clause */
/* --check: what a migration would do, and how long it would take, without one.
 *
 * Called when all servers were reached and all that can be asked of them was
 * checked.  No session is begun, nothing is written.
 */

#ifndef NBDMIGRATE_CHECK_H
#define NBDMIGRATE_CHECK_H

struct migration;

/* The status to exit with; what was found is told, or failure_note. */
extern int check_run (struct migration *m);

#endif /* NBDMIGRATE_CHECK_H */
