/* SPDX-License-Identifier: BSD-3-Clause */
/* Passes over all disks, and the flush of the destinations. */

#ifndef NBDMIGRATE_PASS_H
#define NBDMIGRATE_PASS_H

#include "run/migration.h"

/* Sweep over all disks until it is done or the migration stops; deadline_us
 * (monotonic, 0: none) ends it early, too.  Returns true if it is complete.
 */
extern bool pass_run (struct migration *m, enum pass_kind kind,
                      int64_t deadline_us);

/* Before the end: give back what was not copied, wait (bounded) until nothing
 * is in flight any more and all is reported.  False if it took too long.
 */
extern bool pass_drain (struct migration *m);

/* Flush all destinations, told to the filters (R6).  0, or -1 with
 * m->disks.failure.
 */
extern int pass_flush (struct migration *m);

/* Bring remaining_bytes and so on up to date.  0, or -1 with m->disks.failure.
 */
extern int pass_refresh (struct migration *m);

extern uint64_t pass_remaining (const struct migration *m);
extern uint64_t pass_dirty_rate (const struct migration *m);
extern uint64_t pass_quarantined (const struct migration *m);
extern uint64_t pass_unverified (const struct migration *m);

#endif /* NBDMIGRATE_PASS_H */
