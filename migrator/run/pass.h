/* SPDX-License-Identifier: BSD-3-Clause */
/* Passes over all disks, and the flush of the destinations. */

#ifndef NBDMIGRATE_PASS_H
#define NBDMIGRATE_PASS_H

#include "run/migration.h"

/* Begin one over all disks: flushes beside it if it may go on for long. */
extern void pass_begin (struct migration *m, enum pass_kind kind,
                        bool checkpoints);
extern bool pass_is_running (const struct migration *m);

/* Take no more, and give back what was not begun. */
extern void pass_break_off (struct migration *m);

/* While it copies: say so if the guest is too fast for it. */
extern void pass_watch_guest (struct migration *m);

/* One pass until it is done or the migration stops, with nothing else beside
 * it; deadline_us (monotonic, 0: none) ends it early, too.  Returns true if it
 * is complete.
 */
extern bool pass_run (struct migration *m, enum pass_kind kind,
                      int64_t deadline_us);

/* Take no more, and wait for the answers to what was asked for. */
extern void pass_stop_taking (struct migration *m);

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
