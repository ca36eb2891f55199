/* SPDX-License-Identifier: BSD-3-Clause */
/* The destination's side of an export: the relay's life, and the requests that
 * go there after a pivot.
 *
 * e->relay is set under the session lock before the destination becomes the
 * owner, and stays as long as it is; so a request whose owner is the
 * destination may use it without a lock.
 */

#ifndef NBDMIGRATE_DESTINATION_H
#define NBDMIGRATE_DESTINATION_H

#include <stdint.h>

#include "request.h"

/* Connect to the URI and check it.  Blocks for seconds if the server does not
 * answer; needs no lock.  NULL with *why (the caller frees it) on error.
 */
extern struct relay *destination_connect (const struct export *e,
                                          const char *uri, char **why);

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
