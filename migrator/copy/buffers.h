/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the bytes of the jobs of a disk are: pieces of one memory, which the
 * proxy may share (shared-memory.h), so that it reads into it.
 *
 * The lowest free piece is taken, so that only as much of it is ever used as is
 * in flight at once, and that stays in the processor's cache.  What it has no
 * room for has memory of its own.  For one thread.
 */

#ifndef NBDMIGRATE_BUFFERS_H
#define NBDMIGRATE_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffers;

/* Room for about so many bytes.  NULL: no memory. */
extern struct buffers *buffers_new (uint64_t bytes);
/* Also what was not given back. */
extern void buffers_free (struct buffers *b);

/* To be sent to the proxy, or -1: it cannot be shared, *why says why. */
extern int buffers_fd (const struct buffers *b, const char **why);

/* Nobody needs the descriptor any more. */
extern void buffers_close_fd (struct buffers *b);

/* What is in it is not defined.  NULL: no memory. */
extern char *buffers_take (struct buffers *b, size_t bytes);

/* The same number of bytes; NULL is nothing. */
extern void buffers_give_back (struct buffers *b, char *p, size_t bytes);

/* A range of the disk that is to be read to 'where' by the proxy.  NULL: not
 * this one, read it by NBD.
 */
extern struct shared_slot *buffers_post (struct buffers *b, uint64_t offset,
                                         uint32_t length, const char *where);

#endif /* NBDMIGRATE_BUFFERS_H */
