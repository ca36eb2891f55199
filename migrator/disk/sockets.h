/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter gets the sockets to the destination (R7), after connections were
 * made anew: it raises the epoch then (R6a), looks at a new ledger (R17), and
 * forgets the sockets that it had.
 */

#ifndef NBDMIGRATE_SOCKETS_H
#define NBDMIGRATE_SOCKETS_H

#include <stdbool.h>

#include "proxy/control.h"

struct connection;
struct disk;
struct ledger;

/* Send "lost" with those in use and these n more; *ledger is the new one, the
 * caller's.  False: one was closed meanwhile, and nothing was sent; in the next
 * round it is known what was lost with it.
 */
extern bool sockets_tell (struct disk *d, struct connection *const more[],
                          unsigned n, struct ledger **ledger,
                          control_callback *told);

/* What the filter has answered to "lost" (R6a): the new epoch.  False after
 * failure_note_for_good, with what was being done.
 */
extern bool sockets_note_epoch (struct disk *d, const struct control_answer *a,
                                const char *doing);

/* The filter knows; all of those are in use by now.  Steals *ledger. */
extern void sockets_told (struct disk *d, struct ledger **ledger);

#endif /* NBDMIGRATE_SOCKETS_H */
