/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting to a host that may have several addresses, of which some do not
 * answer (RFC 8305).
 *
 * libnbd goes on to a host's next address only if connect(2) fails at once. One
 * that refuses after a while, or never answers, makes the whole host
 * unreachable (libnbd 1.14 takes a connection that is on its way for one that
 * is there).  So a host is reached here, and libnbd gets the socket.
 */

#ifndef NBDMIGRATE_DIAL_H
#define NBDMIGRATE_DIAL_H

#include <stdbool.h>

struct addrinfo;

struct dial {
  char *host, *port;
  struct addrinfo *addresses; /* after dial_resolve */
};

/* Whether the URI is one that is dialled here: plain TCP, written in the usual
 * way.  Everything else is for libnbd to understand; so is TLS, since libnbd
 * takes the name to be certified from the URI only.
 */
extern bool dial_init (struct dial *d, const char *uri);
extern void dial_destroy (struct dial *d);

/* Ask the resolver, which can take a minute and cannot be interrupted.  0, or
 * -1 with *why (the caller frees it; NULL: no memory).
 */
extern int dial_resolve (struct dial *d, char **why);

/* Connect: to the first address, a moment later to the next one as well, and so
 * on; the first that answers is used.  Whether to go on is asked ten times a
 * second.  A socket that blocks nobody and is closed on exec; -1 with *why.
 */
typedef bool dial_goes_on (void *opaque);
extern int dial_connect (const struct dial *d, dial_goes_on *goes_on,
                         void *opaque, char **why);

#endif /* NBDMIGRATE_DIAL_H */
