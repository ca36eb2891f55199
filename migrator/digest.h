/* SPDX-License-Identifier: BSD-3-Clause */
/* --digest: the SHA-256 of the destination, read back whole. */

#ifndef NBDMIGRATE_DIGEST_H
#define NBDMIGRATE_DIGEST_H

#define DIGEST_TEXT_BYTES 65 /* hexadecimal, with the final 0 */

struct disk;

/* Read the destination (as many bytes as the source has) and fill d->digest.
 * Drives the migration meanwhile.  -1 with m->stop set on error.
 */
extern int digest_disk (struct disk *d);

#endif /* NBDMIGRATE_DIGEST_H */
