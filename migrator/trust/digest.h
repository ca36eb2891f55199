/* SPDX-License-Identifier: BSD-3-Clause */
/* --digest: the SHA-256 of the destination, read back whole. */

#ifndef NBDMIGRATE_DIGEST_H
#define NBDMIGRATE_DIGEST_H

#include <stddef.h>

#include "disk/disk.h"

/* The SHA-256 of these bytes; -1: GnuTLS does not offer it. */
extern int digest_data (const void *data, size_t bytes,
                        char text[DIGEST_TEXT_BYTES]);

/* Read the destination (as many bytes as the source has) and fill d->digest.
 * Drives the migration meanwhile.  -1 with disks->failure set on error.
 */
extern int digest_disk (struct disk *d);

#endif /* NBDMIGRATE_DIGEST_H */
