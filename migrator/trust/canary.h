/* SPDX-License-Identifier: BSD-3-Clause */
/* A mark on each destination, before anything is copied. */

#ifndef NBDMIGRATE_CANARY_H
#define NBDMIGRATE_CANARY_H

struct disks;

/* With the sessions begun and pivots prepared: whether each destination is a
 * disk of its own, no source, and one and the same over all its connections.
 * -1 after failure_note.
 */
extern int canary_check (struct disks *disks);

#endif /* NBDMIGRATE_CANARY_H */
