/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads that drive connections: each has a loop of its own, in which libnbd
 * encrypts, sends, receives and decrypts.  There are no more of them than
 * processors besides the main thread's, and none where there is one processor
 * only; each is there as long as it has a connection.
 *
 * Lock contract: all of this is called by the main thread only.
 */

#ifndef NBDMIGRATE_DRIVER_H
#define NBDMIGRATE_DRIVER_H

#include "base/loop.h"

struct driver;

/* The one with the fewest connections, which has one more now.  NULL: there is
 * none, the main thread has to do.
 */
extern struct driver *driver_get (void);
extern void driver_put (struct driver *d);

extern struct loop *driver_loop (struct driver *d);

/* Have run (opaque) run there, after all that was posted before, and wait for
 * it, and for all that was deferred there until then: a request that was given
 * in vain is handed back by that.  Nothing there blocks, so that is soon.
 */
extern void driver_call (struct driver *d, void (*run) (void *opaque),
                         void *opaque);

#endif /* NBDMIGRATE_DRIVER_H */
