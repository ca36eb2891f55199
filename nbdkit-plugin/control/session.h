/* SPDX-License-Identifier: BSD-3-Clause */
/* Beginning and ending a session, the one control connection that moves the
 * disk (R16), and what is left of it when it has ended (R7).
 */

#ifndef NBDMIGRATE_SESSION_H
#define NBDMIGRATE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "export/session-state.h"
#include "session-sockets.h"

struct client;
struct export;

/* The client's connection has ended: so does its session, if it has one. */
extern void session_leave (struct export *e, const struct client *client);

/* Look what has become of what sessions left unanswered (R17).  True if it has
 * to be looked at again.
 */
extern bool session_watch (struct export *e);

/* What 'begin' asks for (nbdmigrate-control(7)). */
struct session_request {
  const char *destination; /* URI */
  const char *promise;     /* "": none */
  bool restart, incremental;
  uint64_t block_bytes; /* of the destination: no chunk is smaller (R19) */
};

/* The session lock must be held when you call any function below this line. */

/* For how long the next one waits from its beginning on, since something may
 * land (R17).
 */
extern uint64_t session_wait_ms (struct export *e);

/* Make the client the session, and start tracking.  There must be none.  The
 * descriptors become the session's, also on error.  *resumed: the work of an
 * earlier session goes on (R20).  -1 with errno: no memory.
 */
extern int session_begin (struct export *e, struct client *client,
                          const struct session_request *request,
                          const struct session_sockets *sockets, bool *resumed);

/* The new sockets of a session whose destination was lost (R6a).  Old ones
 * that are not among them are given up.  They become the session's.
 */
extern void session_replace_sockets (struct export *e,
                                     const struct session_sockets *sockets);

/* How it ended, where the source stays the owner: also in the record, if that
 * can be written.
 */
extern void session_note_end (struct export *e, enum record_end end);

/* End it (R7); nothing happens if there is none.  The client's connection
 * stays as it is.
 */
extern void session_end (struct export *e);

/* The same, for one that says that it has written nothing: unless what was
 * tracked before had to be dropped for it, all is as if it had not begun.
 */
extern void session_end_untouched (struct export *e);

#endif /* NBDMIGRATE_SESSION_H */
