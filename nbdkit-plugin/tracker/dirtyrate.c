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
    r->bytes[++r->newest % DIRTY_RATE_SLOTS] = 0;
}

void
dirty_rate_add (struct dirty_rate *r, int64_t now_ms, uint64_t bytes)
{
  advance (r, now_ms);
  r->bytes[r->newest % DIRTY_RATE_SLOTS] += bytes;
}

uint64_t
dirty_rate_get (struct dirty_rate *r, int64_t now_ms)
{
  const int64_t whole = (DIRTY_RATE_SLOTS - 1) * DIRTY_RATE_SLOT_MS;
  const int64_t window_ms = whole + now_ms % DIRTY_RATE_SLOT_MS + 1;
  double sum = 0;

  advance (r, now_ms);
  for (unsigned i = 0; i < DIRTY_RATE_SLOTS; i++)
    sum += r->bytes[i];
  return sum * 1000 / window_ms;
}
