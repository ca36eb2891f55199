/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections to this very server whose client has gone away.
 *
 * nbdkit before 1.34 ends by an assertion of its own if it cannot send a reply
 * while others wait to be sent: it marks the connection as closed for all
 * threads, and those that have looked before use it.  So a client that is
 * killed with several requests in flight can end the server, and with it the
 * disks of all guests.  Not if somebody has a copy of the client's end, shuts
 * it for writing, which nbdkit takes for the orderly end of a client, and reads
 * what is still answered, until nbdkit closes its own end.
 */

#ifndef NBDMIGRATE_LINGER_H
#define NBDMIGRATE_LINGER_H

#include <stddef.h>

/* Copies of a client's ends, which become this module's.  They are left alone
 * until the client's process, of which this is a pidfd, has ended.  -1: nobody
 * can tell when it does (it is in another PID namespace), so that they are shut
 * at once.  The pidfd stays the caller's.
 */
extern void linger_add (const int *fds, size_t n, int process);

/* .cleanup, when all connections of the server are over. */
extern void linger_stop (void);

#endif /* NBDMIGRATE_LINGER_H */
