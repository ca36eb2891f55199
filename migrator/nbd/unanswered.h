/* SPDX-License-Identifier: BSD-3-Clause */
/* Keeping a connection's line of the ledger (lib/ledger.h) right at every
 * instant, since the process may be killed at any: a write is owed an answer
 * from before its first byte is sent until after its answer was taken.
 *
 * Lock contract: these take the connection's lock.  The first four are for
 * who drives it, the last three for the main thread.
 */

#ifndef NBDMIGRATE_UNANSWERED_H
#define NBDMIGRATE_UNANSWERED_H

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct io;

/* Before a request is given to libnbd, and (NULL) before libnbd sends more or
 * takes an answer from the socket.
 */
extern void unanswered_begin (struct connection *c, struct io *io);

/* After that. */
extern void unanswered_end (struct connection *c);

/* A request was answered; libnbd may be calling us. */
extern void unanswered_note_answer (struct connection *c, struct io *io);

/* The connection broke: what was not answered by now never will be, and stays
 * in the line (R17).
 */
extern void unanswered_freeze (struct connection *c);

/* This is its first line. */
extern void unanswered_set_line (struct connection *c,
                                 struct ledger_line *line);

/* The line is to be another one (or none: NULL), of another ledger.  Until the
 * proxy is known to look there both are right.
 */
extern void unanswered_begin_change (struct connection *c,
                                     struct ledger_line *next);
extern void unanswered_end_change (struct connection *c);

#endif /* NBDMIGRATE_UNANSWERED_H */
