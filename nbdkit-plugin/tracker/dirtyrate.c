/* SPDX-License-Identifier: BSD-3-Clause */

#include <string.h>

#include "dirtyrate.h"

void
dirty_rate_init (struct dirty_rate *r)
{
  memset (r, 0, sizeof *r);
}

/* Empty the slots that the time has come to use again. */
static void
advance (struct dirty_rate *r, int64_t now_ms)
{
  const int64_t slot = now_ms / DIRTY_RATE_SLOT_MS;

  if (slot - r->newest >= DIRTY_RATE_SLOTS) {
    dirty_rate_init (r);
    r->newest = slot;
  }
  while (r->newest < slot)
    r->slots[++r->newest % DIRTY_RATE_SLOTS] = (struct dirt){ .changed = 0 };
}

void
dirty_rate_add (struct dirty_rate *r, int64_t now_ms, const struct dirt *d)
{
  advance (r, now_ms);
  dirt_add (&r->slots[r->newest % DIRTY_RATE_SLOTS], d);
}

static uint64_t
per_second (uint64_t bytes, int64_t window_ms)
{
  return (double)bytes * 1000 / window_ms;
}

struct dirt
dirty_rate_get (struct dirty_rate *r, int64_t now_ms)
{
  const int64_t whole = (DIRTY_RATE_SLOTS - 1) * DIRTY_RATE_SLOT_MS;
  const int64_t window_ms = whole + now_ms % DIRTY_RATE_SLOT_MS + 1;
  struct dirt sum = { .changed = 0 };

  advance (r, now_ms);
  for (unsigned i = 0; i < DIRTY_RATE_SLOTS; i++)
    dirt_add (&sum, &r->slots[i]);
  return (struct dirt){
    .changed = per_second (sum.changed, window_ms),
    .touched = per_second (sum.touched, window_ms),
    .dirtied = per_second (sum.dirtied, window_ms),
    .redirtied = per_second (sum.redirtied, window_ms),
  };
}
