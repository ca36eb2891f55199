/* SPDX-License-Identifier: BSD-3-Clause */
/* What can happen at the server and to the connections (server.c). */

#ifndef NBDMIGRATE_EXHAUSTIVE_RELAY_SERVER_H
#define NBDMIGRATE_EXHAUSTIVE_RELAY_SERVER_H

#include "world.h"

/* The n-th command that was sent over a wire is done, and answered. */
extern bool server_can_answer (unsigned wire, unsigned n);
extern void server_answer (unsigned wire, unsigned n);
extern bool server_owes_answers (void);
/* Its answer is an error; a write was done (FATE_DONE) or not. */
extern bool server_can_refuse (unsigned wire, unsigned n, enum fate fate);
extern void server_refuse (unsigned wire, unsigned n, enum fate fate);

/* A connection breaks, or all of them, with the server, which is at once there
 * again.  The client does not know it yet.
 */
extern bool server_can_cut (unsigned wire, enum fate fate);
extern void server_cut (unsigned wire, enum fate fate);
extern bool server_can_crash (enum fate fate);
extern void server_crash (enum fate fate);

/* It sees it; or one that it has reset itself has ended. */
extern bool server_can_end (unsigned wire, enum fate fate);
extern void server_end (unsigned wire, enum fate fate);
extern bool server_must_end (void);

/* All that has come from the proxy, which has died. */
extern void server_lose_client (enum fate fate);

/* A late write is done. */
extern bool server_can_land (unsigned i);
extern void server_land (unsigned i);
extern bool server_has_late (void);

/* So much time has passed. */
extern void server_jump (void);

#endif /* NBDMIGRATE_EXHAUSTIVE_RELAY_SERVER_H */
