/* SPDX-License-Identifier: BSD-3-Clause */
/* The control protocol's framing: one JSON object a line over a Unix stream
 * socket, with file descriptors beside it (nbdmigrate-control(7)).
 *
 * Nothing here knows a command.  No function keeps state outside its
 * arguments; a struct line_reader belongs to one thread.
 */

#ifndef NBDMIGRATE_PROTOCOL_H
#define NBDMIGRATE_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "extents.h"

#define PROTOCOL_VERSION 1

/* The filter ends a session that has sent nothing for so long (R7). */
#define PROTOCOL_SILENCE_MS 10000
#define PROTOCOL_LINE_MAX (1024 * 1024) /* bytes, with the newline */
#define PROTOCOL_FDS_MAX 64             /* descriptors with one line */
#define PROTOCOL_EXTENTS_MAX 8192       /* ranges in one line */
#define PROTOCOL_LATELY_MAX 32          /* places that 'begin' tells */

/* Disks of one migration.  Before the first 'begin' it has a connection for
 * each, maybe all to one proxy, which must bear as many that are idle.
 */
#define PROTOCOL_DISKS_MAX 100

/* Collects what arrives until a line is whole.  The members are its own. */
struct line_reader {
  char *data;
  size_t start;   /* where the next line begins */
  size_t scanned; /* no newline between start and here */
  size_t used;    /* bytes in data, those before start included */
  size_t allocated;
  int fds[PROTOCOL_FDS_MAX]; /* received, not yet taken; owned */
  size_t nr_fds;
};

extern void line_reader_init (struct line_reader *r);

/* Also closes descriptors that nobody took. */
extern void line_reader_destroy (struct line_reader *r);

/* One recvmsg(2) on the socket; take the complete lines out before the next.
 * Returns the number of bytes received, 0 at the end of the stream, -1 with
 * errno set (EMSGSIZE: the line is too long or too many descriptors came; the
 * connection is of no use any more).
 */
extern ssize_t line_reader_receive (struct line_reader *r, int sock);

/* The next whole line without its newline and 0-terminated, or NULL if none is
 * complete.  The caller frees it.  NULL with errno ENOMEM: no memory; errno is
 * 0 otherwise.  A 0 byte in a line becomes a 1, so that it does not parse.
 */
extern char *line_reader_next (struct line_reader *r);

/* Hand over the descriptors received so far; the caller owns them.  Returns
 * how many were put into fds.  They are there when the line they came with is
 * complete, but may be there earlier: when lines are pipelined, ask only for
 * a line that takes descriptors.
 */
extern size_t line_reader_take_fds (struct line_reader *r,
                                    int fds[PROTOCOL_FDS_MAX]);

/* Write one line, all of it, blocking (for at most SO_SNDTIMEO as a whole if
 * that is set, else on a non-blocking socket for at most 5 seconds).  The
 * descriptors stay the caller's.  No SIGPIPE.  Returns 0, or -1 with errno
 * (EINVAL: no object, or too many descriptors, EMSGSIZE: the line would be too
 * long, nothing was sent; ETIMEDOUT and others: the connection is of no use
 * any more).
 */
extern int protocol_send (int sock, const json_t *message, const int *fds,
                          size_t nr_fds);

/* A string that need not be UTF-8, as a path: '?' is put for other bytes than
 * ASCII then.  NULL: no memory.
 */
extern json_t *protocol_string (const char *text);

/* Messages.  'arguments' and 'value' are stolen, also on error; NULL is what
 * json_pack returns without memory, and an error here, too, for a message
 * without its arguments would be another one.  The text of an error is cut
 * after 2047 bytes and need not be UTF-8.  NULL with errno ENOMEM on error.
 */
extern json_t *protocol_command (const char *command, json_t *arguments);
extern json_t *protocol_return (json_t *value);
extern json_t *protocol_error (const char *error_class, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* Extents as [[offset, length], ...], with 'touched' as
 * [[offset, length, 0 or 1], ...].
 */
extern json_t *protocol_extents (const struct extents *e, bool with_touched);

/* Append the extents of a JSON array to e.  Returns -1 and sets *why to a
 * static sentence if it is not an array of such pairs or triples, if a number
 * is negative or a length is 0, if a range ends past 2^63, or if there are
 * more than PROTOCOL_EXTENTS_MAX.  e may then hold some of them.
 */
extern int protocol_parse_extents (const json_t *json, struct extents *e,
                                   const char **why);

/* Member of an object as an unsigned number.  1: it is there, 0: it is not,
 * -1: it is there but is no integer in [0, 2^63).
 */
extern int protocol_get_u64 (const json_t *object, const char *name,
                             uint64_t *value);

#endif /* NBDMIGRATE_PROTOCOL_H */
