/* SPDX-License-Identifier: BSD-3-Clause */
/* One mutex guards everything but two numbers, which the fast path of requests
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

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/lane.h"
#include "chunks.h"
#include "cleanup.h"
#include "dirtyrate.h"
#include "tracker.h"

/* How long tracker_enter waits at the gate before its caller must look
 * whether its client is still there.
 */
#define HELD_US 100000

/* No delay counts for more, whatever a session says. */
#define DELAY_MAX_MS (UINT64_C (3600) * 1000)

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
  unsigned grace_ms;
  uint64_t delay_ms;         /* the longest that was seen */
  int64_t quarantined_at_us; /* the latest quarantining */
  uint64_t dirtied_bytes;
  struct dirty_rate rate;

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

/* ---- The owner and its place -------------------------------------------- */

static bool
is_served (enum owner owner)
{
  return owner == OWNER_SOURCE || owner == OWNER_DESTINATION;
}

/* Takes no lock. */
static struct route
get_route (struct tracker *t)
{
  const uint64_t word = atomic_load (&t->route);

  return (struct route){ .owner = word >> 32, .place = (uint32_t)word };
}

/* The lock must be held. */
static void
set_route (struct tracker *t, enum owner owner)
{
  const uint64_t place = is_served (owner) ? t->places[owner] : 0;

  atomic_store (&t->route, (uint64_t)owner << 32 | place);
}

/* ---- Waiting ------------------------------------------------------------ */

static int64_t
now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * INT64_C (1000000) + ts.tv_nsec / 1000;
}

/* The lock must be held for every call of a static function below this line,
 * except where it says otherwise.
 */

static void
wait_until (struct tracker *t, pthread_cond_t *cond, int64_t until_us)
{
  const struct timespec ts = { until_us / 1000000, until_us % 1000000 * 1000 };

  pthread_cond_clockwait (cond, &t->lock, CLOCK_MONOTONIC, &ts);
}

static void
wake_all (struct tracker *t)
{
  pthread_cond_broadcast (&t->gate_changed);
  pthread_cond_broadcast (&t->progress);
}

/* ---- The gate's clock --------------------------------------------------- */

/* R8: called first by everything that depends on the gate. */
static void
apply_deadline (struct tracker *t)
{
  if (gate_expire (&t->gate, now_us ())) {
    t->gates_expired++;
    wake_all (t);
  }
}

static void
open_gate (struct tracker *t)
{
  gate_open (&t->gate, now_us ());
  wake_all (t);
}

static bool
gate_is_open (struct tracker *t)
{
  apply_deadline (t);
  return t->gate.state == GATE_OPEN;
}

/* 'us', or the gate's deadline if that counts and comes first. */
static int64_t
until_deadline (const struct tracker *t, int64_t us)
{
  const bool counts =
    t->gate.state == GATE_CLOSED || t->gate.state == GATE_COMMITTED;

  const int64_t deadline = gate_deadline_us (&t->gate);

  return counts && deadline < us ? deadline : us;
}

/* The request waits no more: it passes, or does not come again. */
static void
end_held (struct tracker *t, bool *held)
{
  if (*held && --t->held == 0)
    pthread_cond_broadcast (&t->progress);
  *held = false;
}

/* Wait at the gate.  False if it is still shut: then the request stays counted
 * in 'held' until its next turn, or a chain of holds could pass it by.
 */
static bool
pass_gate (struct tracker *t, bool *held)
{
  if (!gate_is_open (t)) {
    const int64_t limit = now_us () + HELD_US;
    const unsigned wakes = t->wakes;

    t->held += !*held;
    *held = true;
    while (!gate_is_open (t) && t->wakes == wakes && now_us () < limit)
      wait_until (t, &t->gate_changed, until_deadline (t, limit));
    if (t->gate.state != GATE_OPEN)
      return false;
  }
  end_held (t, held);
  return true;
}

/* ---- Requests ----------------------------------------------------------- */

/* R2: what the request touches is dirty.  After a pivot the source is of no
 * interest any more.  It is the owner of now that counts: a request that went
 * to a destination may end when this is the source of another migration.
 */
static void
mark (struct tracker *t, const struct tracker_request *req)
{
  if (!t->tracking || tracker_owner (t) != OWNER_SOURCE)
    return;

  const uint64_t bytes =
    chunks_mark (&t->chunks, req->node.offset, req->node.length);

  t->dirtied_bytes += bytes;
  dirty_rate_add (&t->rate, now_us () / 1000, bytes);
}

/* The end of a request that was only counted.  Takes the lock. */
static void
leave_untracked (struct tracker *t, unsigned lane)
{
  if (atomic_fetch_sub (&t->untracked[lane].requests, 1) == 1 &&
      atomic_load (&t->tracking)) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
    pthread_cond_broadcast (&t->progress);
  }
}

/* The fast path, without the lock.  False if the slow one must be taken. */
static bool
enter_untracked (struct tracker *t, struct tracker_request *req)
{
  /* Most requests of a migration turn away here, the counter untouched; what
   * counts is the second look.
   */
  if (atomic_load (&t->tracking))
    return false;
  req->lane = lane_of_thread ();
  atomic_fetch_add (&t->untracked[req->lane].requests, 1);
  if (atomic_load (&t->tracking)) {
    leave_untracked (t, req->lane);
    return false;
  }
  req->listed = false;
  req->route = get_route (t);
  if (!is_served (req->route.owner))
    leave_untracked (t, req->lane);
  return true;
}

/* R8: one critical section from the gate to the list.  Takes the lock. */
static enum tracker_verdict
enter_listed (struct tracker *t, struct tracker_request *req, uint64_t offset,
              uint64_t length)
{
  assert (offset <= t->chunks.disk_bytes &&
          length <= t->chunks.disk_bytes - offset);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  if (!pass_gate (t, &req->held))
    return TRACKER_WAIT;
  req->route = get_route (t);
  if (!is_served (req->route.owner))
    return TRACKER_FENCED;
  req->listed = true;
  inflight_add (&t->in_flight, &req->node, offset, length);
#ifdef PLANT_BUG_mark_before_write
  mark (t, req);
#endif
  return TRACKER_PASS;
}

enum tracker_verdict
tracker_enter (struct tracker *t, struct tracker_request *req, uint64_t offset,
               uint64_t length)
{
  if (!req->held && enter_untracked (t, req))
    return is_served (req->route.owner) ? TRACKER_PASS : TRACKER_FENCED;
  return enter_listed (t, req, offset, length);
}

void
tracker_leave (struct tracker *t, struct tracker_request *req)
{
  if (!req->listed) {
    leave_untracked (t, req->lane);
    return;
  }

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
#ifndef PLANT_BUG_mark_before_write
  mark (t, req); /* R2: before it leaves the list */
#endif
  inflight_remove (&t->in_flight, &req->node);
  if (t->in_flight.requests == 0)
    pthread_cond_broadcast (&t->progress);
}

/* Takes no lock. */
enum owner
tracker_owner (struct tracker *t)
{
  return get_route (t).owner;
}

/* Takes no lock. */
bool
tracker_route (struct tracker *t, struct route *route)
{
  *route = get_route (t);
  return is_served (route->owner);
}

/* Takes no lock without tracking. */
bool
tracker_fallback (struct tracker *t, struct route *route)
{
  if (!atomic_load (&t->tracking))
    return false;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  if (t->gate.state != GATE_COMMITTING && t->gate.state != GATE_COMMITTED)
    return false;
  route->owner = t->owner_before;
  route->place = t->places[t->owner_before];
  return true;
}

/* Takes no lock as long as somebody is served. */
enum tracker_verdict
tracker_enter_read (struct tracker *t, struct tracker_read *read)
{
  read->route = get_route (t);
  if (is_served (read->route.owner) && !read->held)
    return TRACKER_PASS;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!pass_gate (t, &read->held))
    return TRACKER_WAIT;
  read->route = get_route (t);
  return is_served (read->route.owner) ? TRACKER_PASS : TRACKER_FENCED;
}

void
tracker_give_up (struct tracker *t, struct tracker_request *req)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  end_held (t, &req->held);
}

void
tracker_give_up_read (struct tracker *t, struct tracker_read *read)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  end_held (t, &read->held);
}

void
tracker_wake (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  t->wakes++;
  wake_all (t);
}

static uint64_t
count_untracked (struct tracker *t)
{
  uint64_t n = 0;

  for (unsigned i = 0; i < LANES; i++)
    n += atomic_load (&t->untracked[i].requests);
  return n;
}

/* Whether all requests that are under way are listed. */
static bool
is_settled (struct tracker *t)
{
  if (t->tracking && count_untracked (t) == 0)
    t->settled = true;
  return t->settled;
}

/* R9: no write-type request is in flight. */
static bool
is_drained (struct tracker *t)
{
  if (!is_settled (t))
    return false;
#ifdef PLANT_BUG_forget_in_flight
  return true;
#endif
  return t->in_flight.requests == 0;
}

/* ---- Life --------------------------------------------------------------- */

struct tracker *
tracker_new (uint64_t disk_bytes, uint64_t chunk_bytes, enum owner owner)
{
  struct tracker *t = aligned_alloc (LANE_BYTES, sizeof *t);

  if (t == NULL)
    return NULL;
  memset (t, 0, sizeof *t);
  if (chunks_init (&t->chunks, disk_bytes, chunk_bytes) == -1) {
    free (t);
    return NULL;
  }
  /* With default attributes these four cannot fail on Linux. */
  pthread_mutex_init (&t->lock, NULL);
  pthread_cond_init (&t->gate_changed, NULL);
  pthread_cond_init (&t->progress, NULL);
  t->places[OWNER_DESTINATION] = 1;
  set_route (t, owner);
  inflight_init (&t->in_flight);
  gate_init (&t->gate);
  dirty_rate_init (&t->rate);
  t->epoch = 1;
  t->grace_ms = QUARANTINE_GRACE_MS;
  return t;
}

void
tracker_free (struct tracker *t)
{
  if (t == NULL)
    return;
  assert (t->in_flight.requests == 0 && count_untracked (t) == 0 &&
          t->held == 0);
  assert (t->gate.state != GATE_COMMITTING);
  pthread_cond_destroy (&t->progress);
  pthread_cond_destroy (&t->gate_changed);
  pthread_mutex_destroy (&t->lock);
  chunks_destroy (&t->chunks);
  free (t);
}

void
tracker_set_grace (struct tracker *t, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  t->grace_ms = ms;
}

void
tracker_set_place (struct tracker *t, enum owner role, unsigned place)
{
  assert (is_served (role));
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  t->places[role] = place;
  set_route (t, tracker_owner (t));
}

unsigned
tracker_place (struct tracker *t, enum owner role)
{
  assert (is_served (role));
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  return t->places[role];
}

void
tracker_promote (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (tracker_owner (t) != OWNER_DESTINATION)
    return;
  t->places[OWNER_SOURCE] = t->places[OWNER_DESTINATION];
  set_route (t, OWNER_SOURCE);
}

void
tracker_demote (struct tracker *t, unsigned source)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  assert (tracker_owner (t) == OWNER_SOURCE);
  t->places[OWNER_DESTINATION] = t->places[OWNER_SOURCE];
  t->places[OWNER_SOURCE] = source;
  set_route (t, OWNER_DESTINATION);
}

/* ---- Tracking ----------------------------------------------------------- */

static void
quarantined (struct tracker *t)
{
  t->quarantined_at_us = now_us ();
}

/* How long it is until no write that is late can land any more, as far as that
 * can be told from the delays that were seen (R17).
 */
static int64_t
quarantine_left_us (const struct tracker *t)
{
  const uint64_t slow_ms = t->delay_ms * QUARANTINE_FACTOR;
  const uint64_t grace_ms = t->grace_ms > slow_ms ? t->grace_ms : slow_ms;
  const int64_t left = t->quarantined_at_us + grace_ms * 1000 - now_us ();

  return t->chunks.quarantined.set > 0 && left > 0 ? left : 0;
}

/* R7, the part about chunks.  A late answer of the session that is gone must
 * count for nothing, hence the epoch.
 */
static void
interrupt (struct tracker *t)
{
  if (chunks_interrupt (&t->chunks))
    quarantined (t);
  t->flush_under_way = false;
  t->epoch++;
}

static void
end_session (struct tracker *t)
{
  interrupt (t);
  if (t->gate.state == GATE_COMMITTING)
    t->session_over = true; /* R10 */
  else
    open_gate (t);
}

static void
stop_tracking (struct tracker *t)
{
  chunks_forget (&t->chunks);
  t->settled = false;
  atomic_store (&t->tracking, false);
}

/* Wait until no commit is between its two steps. */
static void
wait_commit_over (struct tracker *t)
{
  apply_deadline (t);
  while (t->gate.state == GATE_COMMITTING)
    pthread_cond_wait (&t->progress, &t->lock);
}

bool
tracker_begin (struct tracker *t, bool resume, bool same_destination)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  wait_commit_over (t);

  /* Without tracking, writes were missed; another destination has missed all
   * that was copied.
   */
  const bool resumed = resume && same_destination && t->tracking;

  if (!t->tracking) {
    t->dirtied_bytes = 0;
    dirty_rate_init (&t->rate);
  }
  atomic_store (&t->tracking, true); /* R1: before the bits are looked at */
  interrupt (t); /* finds nothing if the session before was ended */
  chunks_forget_guest (&t->chunks);
  if (!resumed)
    chunks_mark_all (&t->chunks);
  /* R17: a server that was stopped since then goes on only now. */
  quarantined (t);
  return resumed;
}

bool
tracker_wait_settled (struct tracker *t, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const int64_t limit = now_us () + ms * INT64_C (1000);
  const unsigned wakes = t->wakes;

  apply_deadline (t);
  while (!is_settled (t) && t->wakes == wakes && now_us () < limit)
    wait_until (t, &t->progress, limit);
  return t->settled;
}

void
tracker_end_session (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  end_session (t);
}

void
tracker_stop (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  end_session (t);
  if (t->gate.state == GATE_COMMITTING)
    t->stop_wanted = true;
  else
    stop_tracking (t);
}

void
tracker_set_written (struct tracker *t, bool written)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  chunks_set_written (&t->chunks, written);
}

/* Takes no lock. */
bool
tracker_is_tracking (struct tracker *t)
{
  return atomic_load (&t->tracking);
}

int
tracker_untouched (struct tracker *t, const struct extents *zero,
                   size_t max_extents, struct extents *out, uint64_t *end)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  return chunks_untouched (&t->chunks, &t->in_flight, zero, max_extents, out,
                           end);
}

void
tracker_distrust (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  chunks_mark_all (&t->chunks);
}

/* ---- Leases ------------------------------------------------------------- */

/* Without tracking the bits say nothing, so nothing is leased. */
static int
lease (struct tracker *t, enum chunks_which which, uint64_t cursor,
       uint64_t max_bytes, size_t max_extents, struct extents *out,
       uint64_t *next)
{
  apply_deadline (t);
  if (t->tracking)
    return chunks_lease (&t->chunks, which, cursor, max_bytes, max_extents, out,
                         next);
  *next = t->chunks.disk_bytes;
  return 0;
}

int
tracker_take (struct tracker *t, uint64_t cursor, uint64_t max_bytes,
              size_t max_extents, struct extents *out, uint64_t *next)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  return lease (t, CHUNKS_DIRTY, cursor, max_bytes, max_extents, out, next);
}

/* The chunks of a lease that ends; -1 with errno EINVAL if they are none. */
static int
check_lease (struct tracker *t, const struct extents *e)
{
  apply_deadline (t);
  if (chunks_are_leased (&t->chunks, e))
    return 0;
  errno = EINVAL;
  return -1;
}

/* The chunks of a lease were dealt with; not so if the epoch is over (R6a). */
static int
end_lease (struct tracker *t, const struct extents *e, uint64_t epoch,
           void (*end) (struct chunks *c, const struct extents *e))
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (check_lease (t, e) == -1)
    return -1;
  if (epoch == t->epoch)
    end (&t->chunks, e);
  else
    chunks_failed (&t->chunks, e, false);
  return 0;
}

int
tracker_done (struct tracker *t, const struct extents *e, uint64_t epoch)
{
  return end_lease (t, e, epoch, chunks_done);
}

int
tracker_skipped (struct tracker *t, const struct extents *e, uint64_t epoch)
{
  return end_lease (t, e, epoch, chunks_skipped);
}

int
tracker_failed (struct tracker *t, const struct extents *e, bool unknown)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (check_lease (t, e) == -1)
    return -1;
  chunks_failed (&t->chunks, e, unknown);
  if (unknown)
    quarantined (t);
  return 0;
}

void
tracker_note_delay (struct tracker *t, uint64_t ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (ms > DELAY_MAX_MS)
    ms = DELAY_MAX_MS;
  if (ms > t->delay_ms)
    t->delay_ms = ms;
}

void
tracker_renew_quarantine (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  quarantined (t);
}

void
tracker_end_quarantine (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  t->quarantined_at_us = INT64_MIN / 2;
}

void
tracker_set_quarantined (struct tracker *t, bool all)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  chunks_set_quarantined (&t->chunks, all);
  if (all)
    quarantined (t);
}

int
tracker_put_back (struct tracker *t, const struct extents *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (check_lease (t, e) == -1)
    return -1;
  chunks_put_back (&t->chunks, e);
  return 0;
}

int
tracker_flush_begin (struct tracker *t, uint64_t *epoch)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  if (t->flush_under_way) {
    errno = EBUSY;
    return -1;
  }
  chunks_flush_begin (&t->chunks); /* R6 */
  t->flush_under_way = true;
  *epoch = t->epoch;
  return 0;
}

int
tracker_flush_end (struct tracker *t, bool success, uint64_t epoch)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  if (!t->flush_under_way) {
    errno = EINVAL;
    return -1;
  }
  chunks_flush_end (&t->chunks, success && epoch == t->epoch); /* R6, R6a */
  t->flush_under_way = false;
  return 0;
}

uint64_t
tracker_lost (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  chunks_lost (&t->chunks);
  return ++t->epoch;
}

uint64_t
tracker_epoch (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  apply_deadline (t);
  return t->epoch;
}

int
tracker_compare (struct tracker *t, bool only_quarantined, uint64_t cursor,
                 uint64_t max_bytes, size_t max_extents, struct extents *out,
                 uint64_t *next)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const enum chunks_which which =
    only_quarantined ? CHUNKS_QUARANTINED : CHUNKS_CLEAN;

  /* R17: a late write may still land. */
  if (only_quarantined && quarantine_left_us (t) > 0) {
    *next = t->chunks.disk_bytes;
    return 0;
  }
  return lease (t, which, cursor, max_bytes, max_extents, out, next);
}

int
tracker_compared (struct tracker *t, const struct extents *e, bool equal,
                  struct extents *wrong)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (check_lease (t, e) == -1)
    return -1;
  if (!equal)
    return chunks_differ (&t->chunks, e, &t->in_flight, wrong);
  chunks_equal (&t->chunks, e);
  return 0;
}

/* ---- Gate and commit ---------------------------------------------------- */

uint64_t
tracker_hold (struct tracker *t, unsigned deadline_ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  /* The open gate has woken them all; they only need the lock. */
  while (gate_is_open (t) && t->held > 0)
    pthread_cond_wait (&t->progress, &t->lock);
  if (!t->tracking)
    return 0; /* requests on the fast path would not see the gate */

  const int64_t now = now_us ();

  return gate_close (&t->gate, now, now + deadline_ms * INT64_C (1000));
}

/* The first check of all that needs a hold. */
static bool
token_is_valid (struct tracker *t, uint64_t token)
{
  apply_deadline (t);
  return gate_valid (&t->gate, token);
}

static int
fail (int err)
{
  errno = err;
  return -1;
}

enum tracker_drain
tracker_wait_drained (struct tracker *t, uint64_t token, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const int64_t limit = now_us () + ms * INT64_C (1000);
  const unsigned wakes = t->wakes;

  while (token_is_valid (t, token)) {
    if (is_drained (t))
      return DRAIN_DONE;
    if (t->wakes != wakes || now_us () >= limit)
      return DRAIN_WAIT;
    wait_until (t, &t->progress, until_deadline (t, limit));
  }
  return DRAIN_EXPIRED;
}

int
tracker_release (struct tracker *t, uint64_t token, uint64_t *pause_us)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!token_is_valid (t, token))
    return fail (ETIMEDOUT);
  if (t->gate.state == GATE_COMMITTING)
    return fail (EBUSY);
  open_gate (t);
  *pause_us = t->gate.last_pause_us;
  return 0;
}

int
tracker_commit_begin (struct tracker *t, uint64_t token, unsigned patience_ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!token_is_valid (t, token))
    return fail (ETIMEDOUT);
  if (t->gate.state != GATE_CLOSED || tracker_owner (t) != OWNER_SOURCE)
    return fail (EINVAL);
  if (!is_drained (t) || t->flush_under_way || !chunks_clean (&t->chunks))
    return fail (EBUSY); /* R10 */
  t->owner_before = tracker_owner (t);
  gate_commit (&t->gate, patience_ms * INT64_C (1000));
  return 0;
}

int
tracker_rollback_begin (struct tracker *t, uint64_t token)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  if (!token_is_valid (t, token))
    return fail (ETIMEDOUT);
  if (t->gate.state != GATE_COMMITTED)
    return fail (EINVAL);
  gate_uncommit (&t->gate);
  return 0;
}

void
tracker_commit_end (struct tracker *t, bool recorded, enum owner owner)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  assert (is_drained (t)); /* no request of the old owner is under way */
  gate_committed (&t->gate, recorded);
  set_route (t, recorded ? owner : t->owner_before);

  /* Of the new state: a commit that was taken back has no patience. */
  const bool late = now_us () >= gate_deadline_us (&t->gate);

  /* R10: only now what was put off, with the owner in effect. */
  if (late && !t->session_over)
    t->gates_expired++;
  if (late || t->session_over)
    open_gate (t);
  if (t->stop_wanted)
    stop_tracking (t);
  t->session_over = t->stop_wanted = false;
  wake_all (t); /* the deadline counts again for who sleeps */
}

void
tracker_set_owner (struct tracker *t, enum owner owner, bool all_dirty)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  wait_commit_over (t);
  if (is_served (tracker_owner (t)) && owner != tracker_owner (t))
    assert (t->in_flight.requests == 0 &&
            (t->settled || count_untracked (t) == 0));
  set_route (t, owner);
  if (all_dirty) {
    interrupt (t);
    chunks_mark_all (&t->chunks);
    chunks_set_written (&t->chunks, true);
  }
}

/* ---- Looking ------------------------------------------------------------ */

void
tracker_get_status (struct tracker *t, struct tracker_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const struct chunks *c = &t->chunks;

  apply_deadline (t);
  *s = (struct tracker_status){
    .owner = tracker_owner (t),
    .tracking = t->tracking,
    .gate = t->gate.state,
    .disk_bytes = c->disk_bytes,
    .chunk_bytes = UINT64_C (1) << c->shift,
    .epoch = t->epoch,
    .dirty_bytes = chunks_bytes (c, &c->dirty),
    .leased_bytes = chunks_bytes (c, &c->leased),
    .unflushed_bytes =
      chunks_bytes (c, &c->unflushed) + chunks_bytes (c, &c->flushing),
    .quarantined_bytes = chunks_bytes (c, &c->quarantined),
    .delay_ms = t->delay_ms,
    .quarantine_ms = (quarantine_left_us (t) + 999) / 1000,
    .in_flight_bytes = t->in_flight.bytes,
    .in_flight_requests = t->in_flight.requests + count_untracked (t),
    .dirtied_bytes = t->dirtied_bytes,
    .dirty_rate = dirty_rate_get (&t->rate, now_us () / 1000),
    .gates_expired = t->gates_expired,
    .last_pause_us = t->gate.last_pause_us,
  };
  /* The three may overlap. */
  s->remaining_bytes = s->dirty_bytes + s->leased_bytes + s->in_flight_bytes;
  if (s->remaining_bytes > c->disk_bytes)
    s->remaining_bytes = c->disk_bytes;
}
