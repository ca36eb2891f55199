/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/bucket.h"

#define MICROSECONDS 1000000

#define HELD_MS 2
#define PAUSED_MS 1000

static bool
is_for_guests (const struct bucket *b)
{
  return b->ceiling > 0 && (b->rate == 0 || b->ceiling < b->rate);
}

uint64_t
bucket_limit (const struct bucket *b)
{
  return is_for_guests (b) ? b->ceiling : b->rate;
}

/* A tenth of a second's worth may be saved up: enough to bridge a late wake-up
 * of the event loop, too little to be seen as a burst.
 */
static int64_t
burst (const struct bucket *b)
{
  return (int64_t)(bucket_limit (b) / 10) + 1;
}

static void
earn (struct bucket *b, int64_t now_us)
{
  const int64_t elapsed = now_us - b->last_us;
  double earned;

  if (elapsed <= 0 || bucket_limit (b) == 0)
    return;
  if (b->held && is_for_guests (b)) {
    b->last_us = now_us;
    return;
  }
  earned = (double)bucket_limit (b) * (double)elapsed / MICROSECONDS;
  if (earned < 1) /* keep the fraction for the next call */
    return;
  b->last_us = now_us;
  if (earned >= (double)(burst (b) - b->level))
    b->level = burst (b);
  else
    b->level += (int64_t)earned;
}

void
bucket_init (struct bucket *b, uint64_t rate, int64_t now_us)
{
  *b = (struct bucket){ .rate = rate, .last_us = now_us };
  b->level = burst (b);
}

/* What was earned so far was earned at the old limit. */
static void
set_limit (struct bucket *b, uint64_t rate, uint64_t ceiling, int64_t now_us)
{
  earn (b, now_us);
  b->rate = rate;
  b->ceiling = ceiling;
  b->last_us = now_us;
  if (bucket_limit (b) == 0)
    b->level = 0;
  else if (b->level > burst (b))
    b->level = burst (b);
}

void
bucket_set_rate (struct bucket *b, uint64_t rate, int64_t now_us)
{
  set_limit (b, rate, b->ceiling, now_us);
}

void
bucket_set_ceiling (struct bucket *b, uint64_t ceiling, int64_t now_us)
{
  set_limit (b, b->rate, ceiling, now_us);
}

void
bucket_hold (struct bucket *b, bool hold, int64_t now_us)
{
  earn (b, now_us);
  b->held = hold;
}

void
bucket_pause (struct bucket *b, bool pause)
{
  b->paused = pause;
}

bool
bucket_ready (struct bucket *b, int64_t now_us)
{
  earn (b, now_us);
  return !b->held && !b->paused && (bucket_limit (b) == 0 || b->level > 0);
}

void
bucket_take (struct bucket *b, uint64_t bytes, int64_t now_us)
{
  b->takes++;
  b->taken += bytes;
  if (bucket_limit (b) == 0)
    return;
  earn (b, now_us);
  b->level -= (int64_t)bytes;
}

void
bucket_give_back (struct bucket *b, uint64_t bytes)
{
  b->taken -= bytes;
  if (bucket_limit (b) == 0)
    return;
  b->level += (int64_t)bytes;
  if (b->level > burst (b))
    b->level = burst (b);
}

int
bucket_wait_ms (struct bucket *b, int64_t now_us)
{
  double ms;

  if (bucket_ready (b, now_us))
    return 0;
  if (b->paused)
    return PAUSED_MS;
  if (b->held)
    return HELD_MS;
  ms = (double)(1 - b->level) * 1000 / (double)bucket_limit (b);
  return ms > 1000 ? 1000 : (int)ms + 1;
}
