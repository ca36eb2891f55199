/* SPDX-License-Identifier: BSD-3-Clause */
/* Ending the guests' connections when the server quits.
 *
 * nbdkit (1.32) waits on SIGTERM until every client has closed its connection
 * or sent another request: a thread of its sits in read (2).  A guest that is
 * idle would keep it from stopping for ever.
 */

#ifndef NBDMIGRATE_HANGUP_H
#define NBDMIGRATE_HANGUP_H

/* Remember which sockets nbdkit listens on; .after_fork.  'ours' is not one of
 * them.
 */
extern void hangup_init (int ours);

/* Let nbdkit read the end of the stream on every connection that it accepted.
 * Replies to requests that are under way can still be sent.
 */
extern void hangup_guests (void);

/* Where a client on this host can connect to this very server: the absolute
 * path of a Unix socket that it listens on; NULL: there is none.
 */
extern const char *hangup_listener_path (void);

#endif /* NBDMIGRATE_HANGUP_H */
