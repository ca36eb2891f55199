/* SPDX-License-Identifier: BSD-3-Clause */
/* Give up a connection for good.
 *
 * shutdown(2) and close(2) are no end: what a TCP socket has in its send queue
 * is kept (FIN-WAIT-1) and delivered when the network is back, up to minutes
 * later, over whatever was written meanwhile (R17).  SO_LINGER with 0 works in
 * the last close only, and somebody else may hold a duplicate.
 */

#ifndef NBDMIGRATE_SOCKET_RESET_H
#define NBDMIGRATE_SOCKET_RESET_H

/* From here on nothing that is queued in this socket is delivered, whoever
 * holds a duplicate of it, and every call on it fails or ends.  A peer that can
 * be reached is told by a reset; what it has received already it has.  Sockets
 * that have no queue of their own (Unix) are shut down.
 *
 * Does not block.  The descriptor stays open: the caller's.  Any thread may be
 * polling it or using it (through libnbd) meanwhile.  errno is kept.
 */
extern void socket_reset (int fd);

/* The same for the last close of this socket, however it comes: when the
 * process is killed its queue goes, too.
 */
extern void socket_reset_at_close (int fd);

/* Not any more: it is about to be closed in good order, and what was written
 * last shall arrive.
 */
extern void socket_deliver_at_close (int fd);

#endif /* NBDMIGRATE_SOCKET_RESET_H */
