/* SPDX-License-Identifier: BSD-3-Clause */
/* 'nbdmigrate pause' and 'resume': nothing is copied meanwhile, and nothing is
 * done about guests; what they write is tracked, and the session lives on.
 */

#ifndef NBDMIGRATE_PAUSED_H
#define NBDMIGRATE_PAUSED_H

#include <stdbool.h>

struct migration;

extern void paused_wish (struct migration *m, bool pause);

/* Before what must not be begun meanwhile.  False if the migration has stopped.
 */
extern bool paused_wait (struct migration *m);

#endif /* NBDMIGRATE_PAUSED_H */
