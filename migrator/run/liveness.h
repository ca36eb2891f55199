/* SPDX-License-Identifier: BSD-3-Clause */
/* Signs of life of the destinations.
 *
 * A connection is open although its server is stopped, or behind a network that
 * is away, and where nothing is left to be copied no request shows it.  So idle
 * connections are asked for a few bytes now and then, which also keeps routers
 * from forgetting them; and before a pause each destination has to answer: to
 * us, and for a pivot to the proxy, whose guest it is going to serve.
 */

#ifndef NBDMIGRATE_LIVENESS_H
#define NBDMIGRATE_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

struct disk;
struct migration;

/* Ask what was idle for a while.  Once a round; it does not wait. */
extern void liveness_run (struct migration *m, int64_t now_us);

/* Fail if a connection is broken that cannot be made anew. */
extern void liveness_check (struct migration *m);

/* For how long the proxy's own connections to the destination have not
 * answered; 0: they do, or there are none.
 */
extern int64_t liveness_relay_silent_us (const struct disk *d, int64_t now_us);

/* Wait until every destination has answered a question that was asked after
 * this call.  However long that takes: it is said, the guests go on, and
 * whoever does not want to wait cancels.  False: do not cut over now;
 * m->disks.failure.stop says whether there is an error, otherwise somebody
 * wishes another end.
 */
extern bool liveness_prove (struct migration *m);

/* The same, while guests may stand still for the hook's sake: not for longer
 * than a hook may take.  False also if that is over, which is said.
 */
extern bool liveness_prove_soon (struct migration *m);

#endif /* NBDMIGRATE_LIVENESS_H */
