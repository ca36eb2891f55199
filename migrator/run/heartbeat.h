/* SPDX-License-Identifier: BSD-3-Clause */
/* What the proxies are told now and then, and what is wished there. */

#ifndef NBDMIGRATE_HEARTBEAT_H
#define NBDMIGRATE_HEARTBEAT_H

#include <stdint.h>

struct migration;

/* Once a round: tell if it is time to; it does not wait. */
extern void heartbeat_run (struct migration *m, int64_t now_us);

/* Have the filters asked for what is wished by now. */
extern void heartbeat_fetch_wishes (struct migration *m);

#endif /* NBDMIGRATE_HEARTBEAT_H */
