/* SPDX-License-Identifier: BSD-3-Clause */
/* How much a socket takes before its reader has read. */

#ifndef NBDMIGRATE_SOCKET_BUFFER_H
#define NBDMIGRATE_SOCKET_BUFFER_H

/* Let a Unix socket take a few requests with their data at once, if the system
 * allows it (net.core.wmem_max): what does not fit is sent in parts, each of
 * which wakes the reader and is waited for.  On a Unix socket it is the
 * sender's buffer that counts; for TCP the kernel finds what is needed, unless
 * it is told, so such a socket is left alone.
 */
extern void socket_send_more (int fd);

#endif /* NBDMIGRATE_SOCKET_BUFFER_H */
