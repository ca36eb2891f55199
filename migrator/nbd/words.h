/* SPDX-License-Identifier: BSD-3-Clause */
/* What a server says of a request that fails, besides the number of the error:
 * qemu-nbd does, nbdkit (1.48) does not.  libnbd has no call for it; it tells
 * in its debug messages, which cost too much for every request.  So a request
 * that fails in a way that ends the copy is made once more, with these
 * messages, and fails as it did the first time whatever comes of that.  Its
 * range is still its own.  It is waited for as any other is, and the messages
 * stay on.  (So it is with a sample of what is said to be zero, too, which is
 * only left unread when it fails: copier-blank.c.)
 *
 * By who drives the connection, where nothing else is said.
 */

#ifndef NBDMIGRATE_WORDS_H
#define NBDMIGRATE_WORDS_H

#include <stdbool.h>

struct connection;
struct io;

/* Whether it should be made once more.  By the main thread. */
extern bool words_are_wanted (const struct connection *c, const struct io *io);

/* Before it is given to libnbd again. */
extern void words_listen (struct connection *c);

/* libnbd has called back: what was said before that was about this request. */
extern void words_take (struct connection *c, struct io *io);

/* For a message, of a request that has failed: "the connection broke: " and
 * why, or "the server answered: ", the error and, quoted, what the server said
 * of it.  Not after 'ended'.  The caller frees it; NULL: no memory.  By the
 * main thread.
 */
extern char *words_of (const struct io *io);

#endif /* NBDMIGRATE_WORDS_H */
