/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "internal.h"

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
  assert (t->in_flight.requests == 0 && tracker_count_untracked (t) == 0 &&
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

/* R7, the part about chunks.  A late answer of the session that is gone must
 * count for nothing, hence the epoch.
 */
static void
interrupt (struct tracker *t)
{
  if (chunks_interrupt (&t->chunks))
    tracker_quarantined (t);
  inflight_conflict (&t->in_flight);
  t->mirror_block = 0;
  t->flush_under_way = false;
  t->again_bytes = 0;
  t->epoch++;
}

static void
end_session (struct tracker *t)
{
  interrupt (t);
  if (t->gate.state == GATE_COMMITTING)
    t->session_over = true; /* R10 */
  else
    tracker_open_gate (t);
}

void
tracker_stop_tracking (struct tracker *t)
{
  chunks_forget (&t->chunks);
  t->settled = false;
  atomic_store (&t->tracking, false);
}

/* Wait until no commit is between its two steps. */
static void
wait_commit_over (struct tracker *t)
{
  tracker_apply_deadline (t);
  while (t->gate.state == GATE_COMMITTING)
    pthread_cond_wait (&t->progress, &t->lock);
}

int
tracker_set_chunk (struct tracker *t, uint64_t chunk_bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  wait_commit_over (t);
  return chunks_resize (&t->chunks, chunk_bytes);
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
    t->dirt = (struct dirt){ .changed = 0 };
    dirty_rate_init (&t->rate);
  }
  atomic_store (&t->tracking, true); /* R1: before the bits are looked at */
  interrupt (t); /* finds nothing if the session before was ended */
  chunks_forget_guest (&t->chunks);
  t->mirrored = t->mirrored_bytes = t->not_mirrored = t->reached = 0;
  if (!resumed) {
    chunks_mark_all (&t->chunks);
    chunks_forget_quiet (&t->chunks); /* of another source, maybe */
  }
  /* R17: a server that was stopped since then goes on only now. */
  tracker_quarantined (t);
  return resumed;
}

bool
tracker_wait_settled (struct tracker *t, unsigned ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  const int64_t limit = now_us () + ms * INT64_C (1000);
  const unsigned wakes = t->wakes;

  tracker_apply_deadline (t);
  while (!tracker_is_settled (t) && t->wakes == wakes && now_us () < limit)
    tracker_wait_until (t, &t->progress, limit);
  return t->settled;
}

void
tracker_end_session (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_apply_deadline (t);
  end_session (t);
}

void
tracker_stop (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_apply_deadline (t);
  end_session (t);
  if (t->gate.state == GATE_COMMITTING)
    t->stop_wanted = true;
  else
    tracker_stop_tracking (t);
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

void
tracker_set_owner (struct tracker *t, enum owner owner, bool all_dirty)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  wait_commit_over (t);
  if (is_served (tracker_owner (t)) && owner != tracker_owner (t))
    assert (t->in_flight.requests == 0 &&
            (t->settled || tracker_count_untracked (t) == 0));
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

  tracker_apply_deadline (t);
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
    .quarantine_ms = (tracker_quarantine_left_us (t) + 999) / 1000,
    .in_flight_bytes = t->in_flight.bytes,
    .in_flight_requests = t->in_flight.requests + tracker_count_untracked (t),
    .hot_bytes = chunks_hot_bytes (c),
    .guest_bytes = chunks_bytes (c, &c->guest),
    .dirt = t->dirt,
    .dirt_rate = dirty_rate_get (&t->rate, now_us () / 1000),
    .mirrored_in_flight = t->in_flight.mirrored,
    .mirrored = t->mirrored,
    .mirrored_bytes = t->mirrored_bytes,
    .not_mirrored = t->not_mirrored,
    .gates_expired = t->gates_expired,
    .last_pause_us = t->gate.last_pause_us,
  };
  /* The three may overlap. */
  s->remaining_bytes = s->dirty_bytes + s->leased_bytes + s->in_flight_bytes;
  if (s->remaining_bytes > c->disk_bytes)
    s->remaining_bytes = c->disk_bytes;
}
