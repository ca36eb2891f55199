/* SPDX-License-Identifier: BSD-3-Clause */
/* What the migrator takes and gives back (R3 to R6a, R17). */

#include <errno.h>

#include "cleanup.h"
#include "internal.h"

/* No delay counts for more, whatever a session says. */
#define DELAY_MAX_MS (UINT64_C (3600) * 1000)

/* ---- Quarantine --------------------------------------------------------- */

void
tracker_quarantined (struct tracker *t)
{
  t->quarantined_at_us = now_us ();
}

/* How long it is until no write that is late can land any more, as far as that
 * can be told from the delays that were seen (R17).
 */
int64_t
tracker_quarantine_left_us (const struct tracker *t)
{
  const uint64_t slow_ms = t->delay_ms * QUARANTINE_FACTOR;
  const uint64_t grace_ms = t->grace_ms > slow_ms ? t->grace_ms : slow_ms;
  const int64_t left = t->quarantined_at_us + grace_ms * 1000 - now_us ();

  return t->chunks.quarantined.set > 0 && left > 0 ? left : 0;
}

/* ---- Leases ------------------------------------------------------------- */

/* Without tracking the bits say nothing, so nothing is leased. */
static int
lease (struct tracker *t, enum chunks_which which, uint64_t cursor,
       uint64_t max_bytes, size_t max_extents, struct extents *out,
       uint64_t *next)
{
  int r = 0;

  tracker_apply_deadline (t);
  *next = t->chunks.disk_bytes;
  if (t->tracking)
    r = chunks_lease (&t->chunks, which, cursor, max_bytes, max_extents, out,
                      next);
  if (r == 0 && *next > t->reached)
    t->reached = *next;
#ifndef PLANT_BUG_mirror_no_conflict
  chunks_flag_leased (&t->chunks, &t->in_flight); /* R12 */
#endif
  return r;
}

int
tracker_take (struct tracker *t, uint64_t cursor, uint64_t max_bytes,
              size_t max_extents, struct extents *out, uint64_t *next)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  return lease (t, CHUNKS_DIRTY, cursor, max_bytes, max_extents, out, next);
}

int
tracker_take_cold (struct tracker *t, uint64_t cursor, uint64_t max_bytes,
                   size_t max_extents, struct extents *out, uint64_t *next)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  return lease (t, CHUNKS_COLD, cursor, max_bytes, max_extents, out, next);
}

void
tracker_begin_round (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  chunks_begin_round (&t->chunks);
}

/* The chunks of a lease that ends; -1 with errno EINVAL if they are none. */
static int
check_lease (struct tracker *t, const struct extents *e)
{
  tracker_apply_deadline (t);
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
#ifdef PLANT_BUG_old_epoch_counts
  epoch = t->epoch;
#endif
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
    tracker_quarantined (t);
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
tracker_set_delay (struct tracker *t, uint64_t ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  t->delay_ms = ms > DELAY_MAX_MS ? DELAY_MAX_MS : ms;
}

void
tracker_renew_quarantine (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_quarantined (t);
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
    tracker_quarantined (t);
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
  tracker_apply_deadline (t);
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
  tracker_apply_deadline (t);
  if (!t->flush_under_way) {
    errno = EINVAL;
    return -1;
  }
  success = success && epoch == t->epoch; /* R6a */
  const uint64_t before = chunks_bytes (&t->chunks, &t->chunks.dirty);

  chunks_flush_end (&t->chunks, success); /* R6 */
  if (success)
    t->again_bytes = 0;
  else
    t->again_bytes += chunks_bytes (&t->chunks, &t->chunks.dirty) - before;
  t->flush_under_way = false;
  return 0;
}

void
tracker_dirty_again (struct tracker *t)
{
  const uint64_t before = chunks_bytes (&t->chunks, &t->chunks.dirty);

  chunks_lost (&t->chunks);
  t->again_bytes += chunks_bytes (&t->chunks, &t->chunks.dirty) - before;
}

uint64_t
tracker_lost (struct tracker *t, uint64_t *again_bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_apply_deadline (t);
  inflight_conflict (&t->in_flight);
#ifndef PLANT_BUG_lost_keeps_unflushed
  tracker_dirty_again (t);
#endif
  if (again_bytes != NULL)
    *again_bytes = t->again_bytes;
  t->again_bytes = 0;
  return ++t->epoch;
}

uint64_t
tracker_epoch (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_apply_deadline (t);
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
  if (only_quarantined && tracker_quarantine_left_us (t) > 0) {
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
