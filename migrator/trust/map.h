/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a server says that there is data: a hint where to look, never more. */

#ifndef NBDMIGRATE_MAP_H
#define NBDMIGRATE_MAP_H

#include "nbd/endpoint.h"
#include "extents.h"

struct disk;
struct disks;

/* What base:allocation says of the first 'bytes' of an export, or of random
 * parts of it where it is very large.  Nothing, if it does not offer that, or
 * has errors.  Of how many bytes that is.
 */
extern uint64_t map_data (struct disks *disks, struct endpoint *e,
                          uint64_t bytes, struct extents *data);

/* The same for what a source holds of the chunks that are not to be copied, as
 * its proxy says: no block status is asked of it (disk-extents.c).
 */
extern void map_source (struct disk *d, struct extents *data);

/* The same for what is in the top layer (qemu:allocation-depth 1). */
extern void map_top (struct disks *disks, struct endpoint *e, uint64_t bytes,
                     struct extents *top);

/* The byte of this number among those of the list, which has so many. */
extern uint64_t map_byte (const struct extents *e, uint64_t number);

#endif /* NBDMIGRATE_MAP_H */
