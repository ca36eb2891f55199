/* SPDX-License-Identifier: BSD-3-Clause */
/* Is the other end of a TCP connection still there?
 *
 * What the network can tell, and only that: whether the peer's kernel answers.
 * A server that is stopped or slow looks alive here; whether it serves is known
 * by an NBD round trip only.
 *
 * There is no TCP_USER_TIMEOUT, on purpose.  It also ends a connection whose
 * peer keeps its window shut for so long, although that peer acknowledges every
 * probe (measured on Linux 6.18: 3 s after the window had shut).  So a server
 * that does not read its socket while it works on a slow request would count as
 * lost with writes in its queue, and those would land later (R17).
 */

#ifndef NBDMIGRATE_SOCKET_LIFE_H
#define NBDMIGRATE_SOCKET_LIFE_H

#include <stdint.h>

/* An idle connection whose peer does not answer ends after so long. */
#define SOCKET_KEEPALIVE_IDLE_S 10
#define SOCKET_KEEPALIVE_INTERVAL_S 5
#define SOCKET_KEEPALIVE_COUNT 4

/* So should one be given up that is not idle, by whoever watches it. */
#define SOCKET_UNHEARD_MS                                                      \
  (1000 * (SOCKET_KEEPALIVE_IDLE_S +                                           \
           SOCKET_KEEPALIVE_COUNT * SOCKET_KEEPALIVE_INTERVAL_S))

/* Probe the peer when the connection is idle: a peer that has vanished is
 * noticed, and routers in between do not forget the connection.  Nothing
 * happens to a socket that is not TCP.
 */
extern void socket_keep_alive (int fd);

/* For how many milliseconds the peer has acknowledged nothing although several
 * packets in a row were sent for that.  0: it is heard, nothing was to be
 * acknowledged, or this cannot be known (Unix sockets).  Keepalive ends an idle
 * connection by itself, but is silent while there is something to send again.
 */
extern int64_t socket_unheard_ms (int fd);

#endif /* NBDMIGRATE_SOCKET_LIFE_H */
