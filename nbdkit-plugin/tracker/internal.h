/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tracker's files share.
 *
 *   tracker.c   life, owner and places, tracking, looking
 *   request.c   a guest's request: the gate, the list, the mark
 *   mirror.c    requests that go to both sides
 *   lease.c     what the migrator takes and gives back, flushes, quarantine
 *   cut-over.c  holds and commits
 *   quiet.c     what is the same on both sides, for a file that says so
 *   wait.c      waiting, and the gate's clock
 *
 * Without a lock of their own: chunks.c, inflight.c, gate.c, dirtyrate.c.
 *
 * One mutex guards everything but two numbers, which the fast path of requests
 * uses without it while no migration runs:
 *
 *   tracking    whether requests must take the lock and be listed
 *   untracked   requests that are under way without having been listed, counted
 *               in lanes: each thread has a counter that it shares with few
 *
 * Why no request escapes (R1).  A request on the fast path adds itself to
 * 'untracked' and then reads 'tracking' (again); tracker_begin writes
 * 'tracking' and later somebody reads 'untracked'.  All four are sequentially
 * consistent, so in their one order either the request's reading comes after
 * the writing: it sees tracking on, takes its count back and goes the slow
 * way; or its adding comes before the reading of 'untracked': it is waited
 * for.  Once 'untracked' was seen as 0 with tracking on, no request can be
 * under way unlisted until tracking goes off: each that adds itself later sees
 * tracking on.  That holds for each lane by itself, as a request leaves the one
 * that it came by.  That is latched in 'settled', since the counter itself may
 * still flicker.
 *
 * Why nobody waits for ever.  Whoever takes the counter to 0 then reads
 * 'tracking'.  If it is off, the taking came before tracker_begin's writing
 * and the waiter sees the 0.  If it is on, the waiter is woken under the lock.
 *
 * Why no request uses an old owner.  The route, owner and place in one word, is
 * read after the request is counted or listed.  It changes in
 * tracker_commit_end, with tracking on, settled, nothing listed, and the gate
 * shut from before the check (R9, R10) until after the change: so no request of
 * the old owner is under way, and the next to pass the gate reads the new one
 * under the lock.  Tracking cannot go off in between (tracker_stop is put off),
 * so none goes the fast way. Other changes, in tracker_set_owner, are from an
 * owner that lets nobody pass.  A destination that becomes the source
 * (tracker_promote, tracker_demote) changes its role only: the place stays, and
 * so do those on their way there, whom tracker_begin waits for (R1).  Reads of
 * the guest are not counted: they may end on the old side.
 *
 * Deadlines need no thread: each call first opens a gate whose time has come,
 * and a request held at it sleeps no longer than until then.
 */

#ifndef NBDMIGRATE_TRACKER_INTERNAL_H
#define NBDMIGRATE_TRACKER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/lane.h"
#include "chunks.h"
#include "dirtyrate.h"
#include "tracker.h"

/* Requests under way that are not listed. */
struct lane {
  _Alignas(LANE_BYTES) _Atomic uint64_t requests;
};

struct tracker {
  /* What requests read on their fast path, and what they write: no cache line
   * has both.
   */
  _Atomic bool tracking;  /* written under the lock */
  _Atomic uint64_t route; /* packed; written under the lock */
  struct lane untracked[LANES];

  _Alignas(LANE_BYTES) pthread_mutex_t lock; /* for all that follows */
  bool settled;              /* no unlisted request is from before tracking */
  struct inflight in_flight; /* the listed ones */
  struct chunks chunks;
  uint64_t epoch;
  bool flush_under_way;
  uint64_t again_bytes; /* dirty again (R6a) since what was flushed last */
  unsigned grace_ms;
  uint64_t delay_ms;         /* the longest that was seen */
  int64_t quarantined_at_us; /* the latest quarantining */
  struct dirt dirt;          /* since tracking began */
  struct dirty_rate rate;

  uint32_t mirror_block; /* bytes; 0: nothing is mirrored */
  uint64_t mirrored, mirrored_bytes, not_mirrored;
  uint64_t reached; /* what is behind that was never leased in this session */

  unsigned places[2]; /* of OWNER_SOURCE and OWNER_DESTINATION */

  struct gate gate;
  uint64_t held; /* requests waiting at it, or about to come back to it */
  uint64_t gates_expired;
  enum owner owner_before; /* the present commit, to go back to */
  bool session_over;       /* while committing: open the gate at the end */
  bool stop_wanted;        /* while committing: stop at the end */

  unsigned wakes;              /* calls of tracker_wake */
  pthread_cond_t gate_changed; /* for the requests held */
  pthread_cond_t progress;     /* for all others; something came to an end */
};

_Static_assert(OWNER_SOURCE == 0 && OWNER_DESTINATION == 1, "for 'places'");

static inline bool
is_served (enum owner owner)
{
  return owner == OWNER_SOURCE || owner == OWNER_DESTINATION;
}

/* Takes no lock. */
static inline struct route
get_route (struct tracker *t)
{
  const uint64_t word = atomic_load (&t->route);

  return (struct route){ .owner = word >> 32, .place = (uint32_t)word };
}

/* The lock must be held. */
static inline void
set_route (struct tracker *t, enum owner owner)
{
  const uint64_t place = is_served (owner) ? t->places[owner] : 0;

  atomic_store (&t->route, (uint64_t)owner << 32 | place);
}

static inline int64_t
now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * INT64_C (1000000) + ts.tv_nsec / 1000;
}

/* The lock must be held for every call of a function below this line. */

extern void tracker_wait_until (struct tracker *t, pthread_cond_t *cond,
                                int64_t until_us);
extern void tracker_wake_all (struct tracker *t);

/* R8: called first by everything that depends on the gate. */
extern void tracker_apply_deadline (struct tracker *t);
extern void tracker_open_gate (struct tracker *t);
extern bool tracker_gate_is_open (struct tracker *t);

/* 'us', or the gate's deadline if that counts and comes first. */
extern int64_t tracker_until_deadline (const struct tracker *t, int64_t us);

/* R6a: U and F become D, and that is counted. */
extern void tracker_dirty_again (struct tracker *t);

/* The request waits no more: it passes, or does not come again. */
extern void tracker_end_held (struct tracker *t, bool *held);

/* Wait at the gate.  False if it is still shut: then the request stays counted
 * in 'held' until its next turn, or a chain of holds could pass it by.
 */
extern bool tracker_pass_gate (struct tracker *t, bool *held,
                               uint64_t *held_us);

/* R12: one that enters: does it go to the destination, too? */
extern void tracker_choose_sides (struct tracker *t,
                                  struct tracker_request *req, uint64_t offset,
                                  uint64_t length);

/* One that leaves: what it touches is dirty (R2); and it leaves. */
extern void tracker_mark (struct tracker *t, const struct tracker_request *req);
extern void tracker_leave_list (struct tracker *t, struct tracker_request *req);

/* Requests under way that are not listed.  (Needs no lock.) */
extern uint64_t tracker_count_untracked (struct tracker *t);

/* Whether all requests that are under way are listed. */
extern bool tracker_is_settled (struct tracker *t);

/* R9: no write-type request is in flight. */
extern bool tracker_is_drained (struct tracker *t);

/* Something is in Q as of now; how long until it may be read back (R17). */
extern void tracker_quarantined (struct tracker *t);
extern int64_t tracker_quarantine_left_us (const struct tracker *t);

extern void tracker_stop_tracking (struct tracker *t);

#endif /* NBDMIGRATE_TRACKER_INTERNAL_H */
