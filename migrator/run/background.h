/* SPDX-License-Identifier: BSD-3-Clause */
/* The copy backs off for guests, in the bulk (policy/background.h). */

#ifndef NBDMIGRATE_RUN_BACKGROUND_H
#define NBDMIGRATE_RUN_BACKGROUND_H

#include <stdint.h>

struct migration;

/* 0 to BACKGROUND_MAX, from now on.  At most that. */
extern void background_wish (struct migration *m, unsigned background);

/* In each round of the loop. */
extern void background_run (struct migration *m, int64_t now_us);

#endif /* NBDMIGRATE_RUN_BACKGROUND_H */
