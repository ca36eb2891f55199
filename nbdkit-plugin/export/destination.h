/* SPDX-License-Identifier: BSD-3-Clause */
/* The destination's side of an export: the relay's life, and the requests that
 * go there after a pivot.
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
#include "filter/request.h"

/* Connect to the URI and check it.  Blocks for seconds if the server does not
 * answer, but not when this server quits or the waiter (may be NULL) has gone;
 * needs no lock.  NULL with *why (the caller frees it) on error.
 */
extern struct relay *destination_connect (const struct export *e,
                                          const char *uri,
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

/* The requests; as those of request.h. */
extern int destination_pread (struct handle *h, void *buf, uint32_t count,
                              uint64_t offset, int *err);
extern int destination_pwrite (struct handle *h, const void *buf,
                               uint32_t count, uint64_t offset, uint32_t flags,
                               int *err);
extern int destination_zero (struct handle *h, uint32_t count, uint64_t offset,
                             uint32_t flags, int *err);
extern int destination_trim (struct handle *h, uint32_t count, uint64_t offset,
                             uint32_t flags, int *err);
extern int destination_flush (struct handle *h, int *err);
extern int destination_extents (struct handle *h, uint32_t count,
                                uint64_t offset, struct nbdkit_extents *extents,
                                int *err);
extern int destination_cache (struct handle *h, uint32_t count, uint64_t offset,
                              int *err);

#endif /* NBDMIGRATE_DESTINATION_H */
