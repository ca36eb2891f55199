/* SPDX-License-Identifier: BSD-3-Clause */
/* The places where a disk is and where it may go, and the relays to the remote
 * ones.  The requests that go there are in filter/side-remote.c.
 *
 * Source and destination are roles in a migration; which places have them, the
 * tracker knows.  The relay of the destination is set under the session lock
 * before it becomes the owner, and stays as long as it is; when it is left for
 * another place, its relay is closed at the end of that session.  Where the
 * owner record names a remote place from the start, its relay is set before the
 * first client is let in.  A request that has passed the gate keeps the owner
 * from changing, and may use its relay without a lock; any other must enter
 * first, because a cut-over can be taken back.
 */

#ifndef NBDMIGRATE_PLACE_H
#define NBDMIGRATE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/relay.h"
#include "export.h"

/* A guest that waits for the destination, for use in its own thread. */
extern const struct relay_waiter place_guest;

/* This thread's guest is about to be answered with the errors that it has seen
 * (owed-error.h): it hears of them if it is there still.
 */
extern void place_guest_heard (struct export *e, uint64_t seen);

/* Connect to the URI, where the disk is to go, and check it.  Blocks for
 * seconds if the server does not answer, but not when this server quits or the
 * waiter (may be NULL) has gone; needs no lock.  NULL with *why (the caller
 * frees it) on error.
 */
extern struct relay *place_connect (struct export *e, const char *uri,
                                    const struct relay_waiter *waiter,
                                    char **why);

/* The same, to where the disk is.  What was kept for it is sent again (kept.h);
 * that begins with relay_unhold (relay, true).
 */
extern struct relay *place_resume (struct export *e, const char *uri,
                                   const struct relay_waiter *waiter,
                                   char **why);

/* For a new client: if the disk is in a remote place, have that connected.  The
 * session lock must not be held: it is free while this waits, so that the
 * operator can name another address.  Clients that wait for the same attempt
 * share its result.  -1: error (reported).
 */
extern int place_require (struct export *e);

/* For a request that has not passed the gate: keep the relay until leave.
 * False: the disk is not there (any more), or the cut-over that could be taken
 * back to there is over.
 */
extern bool place_enter (struct export *e, unsigned place);
extern void place_leave (struct export *e, unsigned place);

/* ---- Without a lock, or with it ---------------------------------------- */

/* A new client must not wait for what the session lock is held over (records,
 * syncs): these tell how it is at some moment of the call.  With the session
 * lock held it stays so.
 */

/* Whether the disk is in a remote place, and the relay to it: NULL also if
 * nobody has reached that yet.
 */
extern bool place_is_remote (struct export *e);

/* The same, and that will not be taken back: what guests have written to the
 * local place is of no interest there any more.
 */
extern bool place_has_left_local (struct export *e);
extern struct relay *place_relay (struct export *e);

/* Whether a new connection needs the plugin: not while the disk is in a remote
 * place and cannot come to the local one in its session.
 */
extern bool place_needs_local (struct export *e);

/* The server quits: what waits at a remote place ends. */
extern void place_stop_all (struct export *e);

/* Nobody waits for longer at once until something may not land any more (R17):
 * nbdmigrate waits 60 s for an answer to 'begin'.
 */
#define PLACE_QUIET_MAX_MS 20000

/* ---- Under the session lock -------------------------------------------- */

/* The URI of that place. */
extern const char *place_uri (struct export *e);

/* The relay to this place from now on; the place has none. */
extern void place_set (struct export *e, unsigned place, struct relay *relay);

/* The relay to the destination, prepared or in use, or NULL. */
extern struct relay *place_destination (struct export *e);

/* Whether what a process before this one had sent to where the disk is may
 * still be done there (R17).  When it says no for the first time, what is
 * marked is dirty again.
 */
extern bool place_takes_over (struct export *e);

/* At the start, before anybody is served: the same of the local place.  It is
 * waited for by time alone; how much of that is left (any lock may be held).
 */
extern void place_take_over_local (struct export *e);
extern uint64_t place_local_late_ms (const struct export *e);

/* So it is when the plugin has lost a connection, with what was under way or
 * has failed by then.  Needs no lock, and may be called with any but the places
 * lock.
 */
extern void place_local_lost (struct export *e);

/* The same when a session begins: what has failed just now may still land. */
extern void place_local_begins (struct export *e);

/* How long 'begin' waits for that as it is now, at least. */
extern uint64_t place_settle_ms (struct export *e);

/* For how long at least something that was sent to the source may still be done
 * there (R17), whoever has sent it; 0: nothing, and place_takes_over has said
 * no.
 */
extern uint64_t place_late_ms (struct export *e);

/* The longest that a request was seen to take at the place of the source or of
 * the destination (R17); 0: nothing is known.  The session lock is held.
 */
extern uint64_t place_delay_ms (struct export *e, enum owner role);

/* A remote place that the source is not in. */
extern unsigned place_free (struct export *e);

/* The relay to the destination for a command, which may drop the lock then.  It
 * must have left that place when it takes the lock again.  NULL: there is none.
 */
extern struct relay *place_borrow (struct export *e, unsigned *place);

/* Close the relay to where the disk is not.  What it has not flushed is flushed
 * if that takes no time.  Requests that use it fail, and are waited for.
 */
extern void place_close (struct export *e, unsigned place);

/* The same for a remote source that was left.  After a handover, or where
 * nobody knows the owner, the disk may be taken back to it, so what it has not
 * flushed is kept (kept.h).
 */
extern void place_close_source (struct export *e);

/* ---- At the end -------------------------------------------------------- */

/* Close all of them, and keep what could not be flushed where the disk is. */
extern void place_end (struct export *e);

#endif /* NBDMIGRATE_PLACE_H */
