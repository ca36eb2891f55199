/* SPDX-License-Identifier: BSD-3-Clause */
/* The sockets of a session to its destination: duplicates of the migrator's,
 * kept so that whatever becomes of it the filter can end what it has begun
 * (R7), and can see what the destination still owes (R17).
 *
 * The session lock must be held for every call.
 */

#ifndef NBDMIGRATE_SESSION_SOCKETS_H
#define NBDMIGRATE_SESSION_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "ledger.h"

struct export;

struct session_sockets {
  int fds[PROTOCOL_FDS_MAX]; /* owned */
  size_t nr_fds;
  const struct ledger *ledger;      /* a line for each, or NULL; owned */
  int source_fds[PROTOCOL_FDS_MAX]; /* of connections to this nbdkit; owned */
  size_t nr_source_fds;
};

/* They are the session's from now on; those to the source only if there are
 * any.
 */
extern void session_sockets_keep (struct export *e,
                                  const struct session_sockets *sockets);

/* Some more to the source, which are the session's then.  False: they are too
 * many, and stay the caller's.
 */
extern bool session_sockets_add_source (struct export *e, const int *fds,
                                        size_t n);

/* Give up those that it has, except for connections that are among 'keep' as
 * well (or NULL).  Afterwards nothing new is sent on them, by anybody.
 */
extern void session_sockets_give_up (struct export *e,
                                     const struct session_sockets *keep);

/* Those to the source: nbdkit must be able to end them well, whatever becomes
 * of the migrator.
 */
extern void session_sockets_leave_source (struct export *e);

/* How many connections owe an answer to a write that nobody waits for, the
 * mirror counting as one; and for how long, the oldest.
 */
extern size_t session_sockets_late (struct export *e);
extern uint64_t session_sockets_late_ms (struct export *e);

/* How long do the answers take?  What was never seen before is recorded, for
 * who restarts this proxy (R17).  Returns whether that is due.
 */
extern bool session_sockets_note_delays (struct export *e);

/* What has become of those that were given up?  Brings the quarantine up to
 * date.  True if there are any that have to be watched.
 */
extern bool session_sockets_look (struct export *e);

#endif /* NBDMIGRATE_SESSION_SOCKETS_H */
