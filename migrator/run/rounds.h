/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying that does not stop: one cursor goes round and round over what is
 * dirty on all disks, in every round of the loop (rounds_run), whoever drives
 * it.  The first round is the bulk pass.
 *
 * Flushes of the destinations and questions to the proxies go beside it.  Only
 * what cannot bear it stops it: the pause, and what is read back.
 */

#ifndef NBDMIGRATE_ROUNDS_H
#define NBDMIGRATE_ROUNDS_H

#include <stdbool.h>
#include <stdint.h>

struct migration;

struct rounds {
  bool on;
  bool under_way;   /* the cursor is on its way */
  bool due;         /* somebody waits for the end of the next one */
  unsigned ended;   /* so far */
  int64_t begun_us; /* the latest */
};

/* Begin, or go on after rounds_stop. */
extern void rounds_go (struct migration *m);

/* From then on nothing is leased or in flight, and no flush is under way. False
 * if the migration has stopped.
 */
extern bool rounds_stop (struct migration *m);

/* Off at once, whatever is in flight; 'from_start': the next is the first. */
extern void rounds_break_off (struct migration *m, bool from_start);

/* Called in each round of the loop. */
extern void rounds_run (struct migration *m, int64_t now_us);

/* Wait for the end of the first round, which copies all that is dirty.  False
 * if the migration has stopped.
 */
extern bool rounds_wait_first (struct migration *m);

/* Flush all destinations, beside the copying, and wait until that and at least
 * one more round has ended.  False if the migration has stopped.
 */
extern bool rounds_wait_next (struct migration *m);

#endif /* NBDMIGRATE_ROUNDS_H */
