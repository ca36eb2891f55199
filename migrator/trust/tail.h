/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a disk whose size is no multiple of its server's minimum block:
 * some servers read it, others refuse.
 */

#ifndef NBDMIGRATE_TAIL_H
#define NBDMIGRATE_TAIL_H

struct disks;

/* Before anything is written: whether the end of each source can be read, so
 * that it is not found in hours, when all else is copied.  -1 after
 * failure_note.
 */
extern int tail_check (struct disks *disks);

#endif /* NBDMIGRATE_TAIL_H */
