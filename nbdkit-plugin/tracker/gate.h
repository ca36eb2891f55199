/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate: closed, new guest writes wait (R8 to R10).
 *
 * A small state machine without a clock and without a lock: the caller passes
 * the monotonic time and holds the tracker's lock.
 *
 *   OPEN --close--> CLOSED --commit--> COMMITTING --recorded--> COMMITTED
 *     ^               |                    |                       |
 *     +--- open, deadline, session end     +--- not recorded:      |
 *     |                                         back to CLOSED     |
 *     +--------------- open, deadline, session end ---------------+
 *
 * In COMMITTING neither the deadline nor the session's end opens it (R10).
 * Rolling back a commit goes from COMMITTED through COMMITTING (while the old
 * record is restored) to CLOSED.
 *
 * To open it in COMMITTED is to say that the commit stays.  A disk that is cut
 * over with others must not say so before all of them are recorded: then the
 * deadline comes later in that state, by the patience of the commit (R10).
 */

#ifndef NBDMIGRATE_GATE_H
#define NBDMIGRATE_GATE_H

#include <stdbool.h>
#include <stdint.h>

enum gate_state { GATE_OPEN, GATE_CLOSED, GATE_COMMITTING, GATE_COMMITTED };

struct gate {
  enum gate_state state;
  uint64_t token;         /* of the present hold; never 0, never used twice */
  int64_t closed_at_us;   /* monotonic microseconds */
  int64_t deadline_us;    /* monotonic microseconds */
  int64_t patience_us;    /* of the present commit, beyond the deadline */
  uint64_t last_pause_us; /* length of the latest pause, microseconds */
};

extern void gate_init (struct gate *g);

/* OPEN to CLOSED; returns the hold's token, or 0 if it is not open. */
extern uint64_t gate_close (struct gate *g, int64_t now_us,
                            int64_t deadline_us);

/* When it opens by itself in the present state, but for COMMITTING, in which it
 * does not.
 */
extern int64_t gate_deadline_us (const struct gate *g);

/* Apply the deadline.  Returns true if this call opened the gate; the pause
 * then ended at the deadline, however late the call.
 */
extern bool gate_expire (struct gate *g, int64_t now_us);

/* Whether the token is the one of the present hold and still valid.  Call
 * gate_expire first.  In COMMITTING it stays valid.
 */
extern bool gate_valid (const struct gate *g, uint64_t token);

/* CLOSED to COMMITTING, COMMITTING to COMMITTED or CLOSED (recorded or not),
 * COMMITTED to COMMITTING for a rollback.  Asserted.  After gate_committed the
 * caller opens the gate itself if the deadline has passed by then.  In
 * COMMITTED that is later by patience_us.
 */
extern void gate_commit (struct gate *g, int64_t patience_us);
extern void gate_committed (struct gate *g, bool recorded);
extern void gate_uncommit (struct gate *g);

/* Open it, in any state but COMMITTING (asserted); voids the token. */
extern void gate_open (struct gate *g, int64_t now_us);

#endif /* NBDMIGRATE_GATE_H */
