/* SPDX-License-Identifier: BSD-3-Clause */
/* --finish-at and --window: stay in sync, and cut over when the time has come.
 *
 * Outside of it all is as with --wait, inside as without.  What 'nbdmigrate
 * finish' asks for comes before.
 */

#ifndef NBDMIGRATE_SCHEDULE_H
#define NBDMIGRATE_SCHEDULE_H

#include <stdbool.h>

struct migration;

/* In each round of the loop. */
extern void schedule_run (struct migration *m);

/* Whether nothing may be cut over just now: asked right before the gate, since
 * servers that did not answer, or the hook, may have taken long.
 */
extern bool schedule_is_shut (const struct migration *m);

#endif /* NBDMIGRATE_SCHEDULE_H */
