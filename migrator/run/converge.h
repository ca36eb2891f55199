/* SPDX-License-Identifier: BSD-3-Clause */
/* When to make another pass, when to cut over, when to give up. */

#ifndef NBDMIGRATE_CONVERGE_H
#define NBDMIGRATE_CONVERGE_H

#include "policy/policy.h"

struct migration;

/* What the policy looks at, now; and what it says between two rounds, carried
 * out.
 */
extern struct policy_snapshot converge_measured (const struct migration *m);
extern void converge_beat (struct migration *m);

/* Ask the filters what remains: m->predicted_ms and m->overhead_us are of now.
 * 0, or -1 with m->disks.failure.
 */
extern int converge_predict (struct migration *m);

/* Rounds and cut-overs until one succeeds, the bulk pass first.  Returns the
 * exit status; EXIT_FAILED also when m->disks.failure says that it was
 * cancelled.
 */
extern int converge (struct migration *m);

/* For a pivot the filters connect to the destinations themselves, long before
 * the pause.  0, or -1 with the answers.
 */
extern int converge_prepare (struct migration *m);

#endif /* NBDMIGRATE_CONVERGE_H */
