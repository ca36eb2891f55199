/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections to the destination on which a session that is over has left
 * writes unanswered (R17).
 *
 * NBD has no fence: what a server has received it may carry out at any time,
 * and closing the connection does not keep it from that.  What tells that it is
 * done is its answer; or, less surely, that it closes its own side.  So the
 * filter, which holds duplicates of the session's sockets, keeps those and
 * watches them, and takes nothing for certain before they are gone.
 *
 * What was not sent yet must not follow when a network comes back.  So a
 * connection is shut for writing, or, if bytes wait in its queue, reset; unless
 * its requests are known to have left nbdmigrate as a whole and nobody is left
 * who could send more.  Then it stays open for the answer, since there are
 * servers (qemu-nbd) that close their side at once when ours is shut, and write
 * afterwards.  Where the answers to several requests cannot be counted (with
 * TLS, or if half of one was taken) it is shut when something has come.  If the
 * network is away the kernel gives up after a while.
 *
 * A Unix socket has no queue of its own: what was written to it is in that of
 * the peer, which will read it before it sees the end, whatever we do.
 *
 * Not locked: the session lock must be held for every call.
 */

#ifndef NBDMIGRATE_OLD_CONNECTIONS_H
#define NBDMIGRATE_OLD_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "reply-reader.h"

#define OLD_CONNECTIONS_MAX (2 * PROTOCOL_FDS_MAX)

struct old_connections {
  struct old_connection {
    int fd;
    int64_t since_us; /* when its oldest unanswered write was begun */
    bool one_answer;  /* any byte that comes is the answer to all that is */
    bool framed;      /* 'replies' tells when all answers have come */
    bool shut;        /* for writing */
    struct reply_reader replies;
  } v[OLD_CONNECTIONS_MAX];
  size_t n;

  /* One has gone without an answer: whether its writes landed, or when they
   * will, nobody can tell.  Stays until old_connections_settle.
   */
  bool doubt;
};

/* The session gives up a connection, and its descriptor.  'alone': nobody can
 * send anything on it any more.  Returns for how long, in milliseconds, a write
 * has not been answered; 0: all were, and it is closed.
 */
extern uint64_t old_connections_add (struct old_connections *o, int fd,
                                     const struct ledger_line *line,
                                     bool alone);

/* Look what has become of them.  True if any has gone since the last call; then
 * *delay_ms is how long its write was not answered, of the slowest.
 */
extern bool old_connections_look (struct old_connections *o,
                                  uint64_t *delay_ms);

/* For how long, in milliseconds, the oldest write on those that are left has
 * not been answered; 0: there are none.
 */
extern uint64_t old_connections_age_ms (const struct old_connections *o);

/* Nothing is in quarantine any more, so no doubt either. */
extern void old_connections_settle (struct old_connections *o);

/* Give all of them up. */
extern void old_connections_close (struct old_connections *o);

#endif /* NBDMIGRATE_OLD_CONNECTIONS_H */
