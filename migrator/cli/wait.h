/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting for a migration that somebody else runs. */

#ifndef NBDMIGRATE_WAIT_H
#define NBDMIGRATE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/proxy.h"

/* Until it is in sync ('ready'), or has ended.  Within 'timeout_ms' (0: however
 * long).  With 'asked' a 'finish' was left for it, which it may refuse. Returns
 * the status to exit with, after saying how it ended unless that was well.
 */
extern int wait_for_migration (struct proxy *p, bool ready, bool asked,
                               uint64_t timeout_ms);

/* 'nbdmigrate wait', 'list'. */
extern int wait_main (int argc, char *argv[]);
extern int list_main (int argc, char *argv[]);

#endif /* NBDMIGRATE_WAIT_H */
