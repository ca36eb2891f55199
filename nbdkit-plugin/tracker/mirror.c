/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that go to both sides: which do, and what their end leaves (R12). */

#include <assert.h>

#include "cleanup.h"
#include "internal.h"

/* What the first pass has not come to yet is copied in any case.  To mirror it
 * would cost the guest, and leave holes in long ranges.
 */
static bool
is_to_be_copied (const struct tracker *t, uint64_t offset)
{
  return offset >= t->reached;
}

/* What was under way before the tracking began is not in the list.  And what
 * has waited at the gate has waited enough: the destination may be what made
 * the pause so long.
 */
static bool
may_mirror (struct tracker *t, const struct tracker_request *req,
            uint64_t offset, uint64_t length)
{
  if (!req->may_be_mirrored || req->held_us > 0 || !t->settled || length == 0 ||
      (offset | length) % t->mirror_block != 0)
    return false;
#ifndef PLANT_BUG_mirror_overlapping
  if (inflight_overlaps (&t->in_flight, offset, length))
    return false;
#endif
  return chunks_may_mirror (&t->chunks, offset, length);
}

void
tracker_choose_sides (struct tracker *t, struct tracker_request *req,
                      uint64_t offset, uint64_t length)
{
  const bool on = t->mirror_block != 0 && req->route.owner == OWNER_SOURCE &&
                  !is_to_be_copied (t, offset);

  req->mirrored = on && may_mirror (t, req, offset, length);
  req->missed = on && !req->mirrored;
  if (req->mirrored)
    chunks_begin_mirrored (&t->chunks, offset, length);
}

/* An unknown outcome counts whatever has become of the tracking (R17). */
static void
end_both (struct tracker *t, const struct tracker_request *req,
          enum tracker_both outcome)
{
  const uint64_t offset = req->node.offset, length = req->node.length;
  struct dirt dirt;

  if (outcome == BOTH_UNKNOWN) {
    chunks_quarantine (&t->chunks, offset, length);
    tracker_quarantined (t);
  }
  if (outcome != BOTH_WRITTEN || req->node.conflict || !t->tracking ||
      tracker_owner (t) != OWNER_SOURCE) {
    t->not_mirrored++;
    tracker_mark (t, req);
    return;
  }
  dirt = chunks_mirrored (&t->chunks, offset, length);
  dirt_add (&t->dirt, &dirt);
  dirty_rate_add (&t->rate, now_us () / 1000, &dirt);
  t->mirrored++;
  t->mirrored_bytes += length;
}

void
tracker_leave_both (struct tracker *t, struct tracker_request *req,
                    enum tracker_both outcome)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  assert (req->listed && req->mirrored);
  tracker_apply_deadline (t);
  end_both (t, req, outcome);
  tracker_leave_list (t, req);
}

void
tracker_mirror (struct tracker *t, uint32_t block_bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_apply_deadline (t);
  t->mirror_block = t->tracking ? block_bytes : 0;
}

/* R6a, without its epoch: before anything else is done about it. */
void
tracker_mirror_lost (struct tracker *t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);
  tracker_apply_deadline (t);
  inflight_conflict (&t->in_flight);
  tracker_dirty_again (t);
  chunks_mirror_lost (&t->chunks);
}
