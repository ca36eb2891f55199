/* SPDX-License-Identifier: BSD-3-Clause */
/* --hook: a program of the user's that runs before the gates are shut, as one
 * that freezes the guest's file systems, and after they are open again.
 */

#ifndef NBDMIGRATE_HOOK_H
#define NBDMIGRATE_HOOK_H

#include <stdbool.h>

struct migration;

/* "PROGRAM before SOURCE...".  False if it failed: the pause is called off. */
extern bool hook_before (struct migration *m);

/* "PROGRAM after SOURCE...", if hook_before was called since; however that and
 * the pause ended.
 */
extern void hook_after (struct migration *m);

/* The same as soon as the pause is too long in coming, or nobody wants it now:
 * no guest stays frozen because a destination hangs.  Then m->hook_late.
 */
extern void hook_watch (struct migration *m, int64_t now_us);

/* The same without waiting for its end: we end at once. */
extern void hook_leave (struct migration *m);

#endif /* NBDMIGRATE_HOOK_H */
