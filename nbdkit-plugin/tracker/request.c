/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's request: past the gate, into the list, and out with a mark (R1, R2,
 * R8, R9).
 */

#include <assert.h>

#include "cleanup.h"
#include "internal.h"

/* R2: what the request touches is dirty.  After a pivot the source is of no
 * interest any more.  It is the owner of now that counts: a request that went
 * to a destination may end when this is the source of another migration.
 */
void
tracker_mark (struct tracker *t, const struct tracker_request *req)
{
  if (!t->tracking || tracker_owner (t) != OWNER_SOURCE)
    return;

  const struct dirt dirt =
    chunks_mark (&t->chunks, req->node.offset, req->node.length);

  dirt_add (&t->dirt, &dirt);
  dirty_rate_add (&t->rate, now_us () / 1000, &dirt);
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
  req->listed = req->mirrored = false;
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

  if (!tracker_pass_gate (t, &req->held, &req->held_us))
    return TRACKER_WAIT;
  req->route = get_route (t);
  if (!is_served (req->route.owner))
    return TRACKER_FENCED;
  req->listed = true;
  tracker_choose_sides (t, req, offset, length);
  inflight_add (&t->in_flight, &req->node, offset, length);
  if (req->mirrored)
    inflight_mirror (&t->in_flight, &req->node);
#ifdef PLANT_BUG_mark_before_write
  tracker_mark (t, req);
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
tracker_leave_list (struct tracker *t, struct tracker_request *req)
{
  inflight_remove (&t->in_flight, &req->node);
  if (t->in_flight.requests == 0)
    pthread_cond_broadcast (&t->progress);
}

void
tracker_leave (struct tracker *t, struct tracker_request *req)
{
  if (!req->listed) {
    leave_untracked (t, req->lane);
    return;
  }

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  assert (!req->mirrored);
  tracker_apply_deadline (t);
  t->not_mirrored += req->missed;
#ifndef PLANT_BUG_mark_before_write
  tracker_mark (t, req); /* R2: before it leaves the list */
#endif
  tracker_leave_list (t, req);
}

struct dirt
tracker_weigh (struct tracker *t, uint64_t offset, uint64_t length)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  return chunks_weigh (&t->chunks, offset, length);
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
  tracker_apply_deadline (t);
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
  if (!tracker_pass_gate (t, &read->held, &read->held_us))
    return TRACKER_WAIT;
  read->route = get_route (t);
  return is_served (read->route.owner) ? TRACKER_PASS : TRACKER_FENCED;
}

void
tracker_give_up (struct tracker *t, struct tracker_request *req)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_end_held (t, &req->held);
}

void
tracker_give_up_read (struct tracker *t, struct tracker_read *read)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_end_held (t, &read->held);
}

void
tracker_wake (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  t->wakes++;
  tracker_wake_all (t);
}

uint64_t
tracker_count_untracked (struct tracker *t)
{
  uint64_t n = 0;

  for (unsigned i = 0; i < LANES; i++)
    n += atomic_load (&t->untracked[i].requests);
  return n;
}

/* Whether all requests that are under way are listed. */
bool
tracker_is_settled (struct tracker *t)
{
  if (t->tracking && tracker_count_untracked (t) == 0)
    t->settled = true;
#ifdef PLANT_BUG_begin_unsettled
  t->settled = t->tracking;
#endif
  return t->settled;
}

/* R9: no write-type request is in flight. */
bool
tracker_is_drained (struct tracker *t)
{
  if (!tracker_is_settled (t))
    return false;
#ifdef PLANT_BUG_forget_in_flight
  return true;
#endif
  return t->in_flight.requests == 0;
}
