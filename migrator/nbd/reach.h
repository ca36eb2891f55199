/* SPDX-License-Identifier: BSD-3-Clause */
/* The way to a server, up to where libnbd's handshake begins, without blocking.
 *
 * Resolving a name can take a minute, and libnbd does it (getaddrinfo) in the
 * call that begins to connect.  So what blocks is done by a thread, which
 * cannot be interrupted: whoever does not want to wait any more leaves it
 * alone, and it cleans up.  Plain TCP is dialled there (dial.h); for TLS the
 * whole URI goes to libnbd, which tries one address only.
 *
 * Lock contract: none; what is shared with the thread is guarded inside.
 */

#ifndef NBDMIGRATE_REACH_H
#define NBDMIGRATE_REACH_H

#include <stdbool.h>

#include <libnbd.h>

struct reach;

/* Begin with a new handle.  *r is NULL where nothing has to be waited for
 * (Unix sockets): the handshake has begun.  -1 with *why (the caller frees it;
 * NULL: no memory).  Until reach_step says otherwise the handle must not be
 * touched.
 */
extern int reach_begin (struct reach **r, struct nbd_handle *nbd,
                        const char *uri, char **why);

/* Readable when reach_step has something to say. */
extern int reach_fd (const struct reach *r);

/* Whether the name is still being resolved, for which there is no limit. */
extern bool reach_is_resolving (struct reach *r);

/* 1: the handshake has begun, and *r is NULL and gone.  0: not yet.  -1: the
 * same as 1, but it failed, with *why.
 */
extern int reach_step (struct reach **r, char **why);

/* Not wanted any more.  True: the handle belongs to the thread now. */
extern bool reach_leave (struct reach *r);

#endif /* NBDMIGRATE_REACH_H */
