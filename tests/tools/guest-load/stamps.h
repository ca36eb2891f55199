/* SPDX-License-Identifier: BSD-3-Clause */
/* What blocks of a disk must hold: each says its place, and by whom and how
 * often it was written.  So a copy is judged without a second one.
 *
 * One write at a time to a block; the caller sees to that.  One thread.
 */

#ifndef GUEST_LOAD_STAMPS_H
#define GUEST_LOAD_STAMPS_H

#include <stdint.h>

#define STAMPED 4096 /* bytes */

/* Forget all; the run is a number that no earlier one has had. */
extern int stamps_begin (uint64_t disk_bytes, uint64_t run);

/* Put into the buffer what is to be written there now. */
extern void stamps_next (uint64_t offset, void *buf, uint64_t bytes);

/* Write all of a file, as a disk that nobody has written to yet. */
extern int stamps_fill (const char *path);

/* Of all blocks of a file, how many are wrong; -1 on an error. */
extern int64_t stamps_wrong (const char *path);

#endif /* GUEST_LOAD_STAMPS_H */
