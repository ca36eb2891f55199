/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's write waits for the throttle (tracker/throttle.h). */

#ifndef NBDMIGRATE_DELAY_H
#define NBDMIGRATE_DELAY_H

#include "side.h"

/* Before the gate.  0: go on.  -1 with *io->err: the client is gone, or the
 * server quits.
 */
extern int delay_change (const struct io *io);

#endif /* NBDMIGRATE_DELAY_H */
