/* SPDX-License-Identifier: BSD-3-Clause */
/* The destination's side of an export: the relay's life.  The requests that go
 * there after a pivot are in filter/side-remote.h.
 *
 * e->relay is set under the session lock before the destination becomes the
 * owner, and stays as long as it is.  Where the owner record says so from the
 * start, it is set before the first client is let in.  A request that has
 * passed the gate keeps the owner from changing, and may use it without a lock;
 * any other must enter first, because a cut-over can be taken back.
 */

#ifndef NBDMIGRATE_DESTINATION_H
#define NBDMIGRATE_DESTINATION_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/relay.h"
#include "export.h"

/* A guest that waits for the destination, for use in its own thread. */
extern const struct relay_waiter destination_guest;

/* Connect to the URI and check it.  Blocks for seconds if the server does not
 * answer, but not when this server quits or the waiter (may be NULL) has gone;
 * needs no lock.  NULL with *why (the caller frees it) on error.
 */
extern struct relay *destination_connect (struct export *e, const char *uri,
                                          const struct relay_waiter *waiter,
                                          char **why);

/* For a new client: if the destination is the owner, have it connected.  The
 * session lock must not be held: it is free while this waits, so that the
 * operator can name another address.  Clients that wait for the same attempt
 * share its result.  -1: error (reported).
 */
extern int destination_require (struct export *e);

/* Close it, under the session lock, when the destination is not the owner.
 * Requests that use it fail, and are waited for.
 */
extern void destination_close (struct export *e);

/* For a request that has not passed the gate: keep the relay until leave.
 * False: the destination is not the owner.
 */
extern bool destination_enter (struct export *e);
extern void destination_leave (struct export *e);

/* The same for a command, whoever the owner is, under the session lock, which
 * it may drop then.  It must have left when it takes the lock again.  NULL:
 * there is no relay.
 */
extern struct relay *destination_borrow (struct export *e);

#endif /* NBDMIGRATE_DESTINATION_H */
