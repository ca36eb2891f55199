/* SPDX-License-Identifier: BSD-3-Clause */
/* What a destination holds, looked into by samples. */

#ifndef NBDMIGRATE_EVIDENCE_H
#define NBDMIGRATE_EVIDENCE_H

struct disks;

/* With the sessions begun and pivots prepared, before any mark is written: what
 * is about to be left out must be there.  -1 after failure_note.
 */
extern int evidence_before (struct disks *disks);

/* Before the cut-over, over the connections that serve after it: a sample of
 * what was copied is there.  -1 after failure_note.
 */
extern int evidence_copied (struct disks *disks);

/* A destination that was lost and is back, before anything is written there: it
 * holds what was flushed.  (An empty disk, another one, an older state of it
 * does not.)  -1 after failure_note.
 */
struct disk;
extern int evidence_back (struct disk *d);

#endif /* NBDMIGRATE_EVIDENCE_H */
