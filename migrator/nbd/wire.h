/* SPDX-License-Identifier: BSD-3-Clause */
/* How many bytes NBD connections have sent and received, as libnbd counts them
 * (1.16 and later): of the protocol, headers and answers included; where there
 * is TLS, before it was encrypted.
 */

#ifndef NBDMIGRATE_WIRE_H
#define NBDMIGRATE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

struct endpoint;
struct nbd_handle;

struct wire {
  uint64_t sent, received;
};

/* Whether this libnbd counts. */
extern bool wire_is_known (void);

/* What a connection has sent and received so far. */
extern void wire_add (struct wire *w, struct nbd_handle *nbd);

/* From now on what is sent and received by its connections is counted in *w
 * when they are closed, which may be after the endpoint is.
 */
extern void wire_count (struct endpoint *e, struct wire *w);

/* The same with those that are open; e may be NULL. */
extern struct wire wire_so_far (const struct wire *w, const struct endpoint *e);

#endif /* NBDMIGRATE_WIRE_H */
