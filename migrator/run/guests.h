/* SPDX-License-Identifier: BSD-3-Clause */
/* The measures against guests that write faster than is copied
 * (policy/policy.h), carried out: mirroring and the throttle at the filters of
 * all disks.
 *
 * What differs from what a filter was asked for last is asked for anew, here at
 * the end of each round and at each heartbeat.  Nothing of it can end the
 * migration: a filter that refuses is one where the measure cannot be had.
 */

#ifndef NBDMIGRATE_GUESTS_H
#define NBDMIGRATE_GUESTS_H

#include "policy/policy.h"

struct migration;

/* The guests' part of what the policy looks at. */
extern void guests_measure (const struct migration *m,
                            struct policy_snapshot *s);

/* Whether all destinations announce what it takes. */
extern bool guests_can_be_mirrored (const struct migration *m);

/* Whether a filter has said that it cannot be. */
extern bool guests_are_refused (const struct migration *m);

/* Nobody is slowed down while nothing is decided; the next guests_apply does it
 * anew.
 */
extern void guests_let_go (struct migration *m);

/* Bring about what was decided, and tell what of it is new. */
extern void guests_apply (struct migration *m, const struct policy_decision *d);

#endif /* NBDMIGRATE_GUESTS_H */
