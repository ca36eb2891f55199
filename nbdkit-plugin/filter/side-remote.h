/* SPDX-License-Identifier: BSD-3-Clause */
/* The requests that the destination serves, after a pivot.  The caller keeps
 * the relay (export/destination.h).
 */

#ifndef NBDMIGRATE_SIDE_REMOTE_H
#define NBDMIGRATE_SIDE_REMOTE_H

#include <stdint.h>

#include "request.h"

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

#endif /* NBDMIGRATE_SIDE_REMOTE_H */
