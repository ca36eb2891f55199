/* SPDX-License-Identifier: BSD-3-Clause */

#include <string.h>

#include "cleanup.h"
#include "latency.h"

#define WINDOW_MS 1000
#define SPACING_MS 100 /* of the copies */

_Static_assert(LATENCY_SLOTS *SPACING_MS > WINDOW_MS, "one is old enough");

void
latency_init (struct latency *l)
{
  memset (l, 0, sizeof *l);
  pthread_mutex_init (&l->lock, NULL);
}

void
latency_destroy (struct latency *l)
{
  pthread_mutex_destroy (&l->lock);
}

/* ---- Buckets ------------------------------------------------------------ */

/* The two bits below the highest one choose the quarter. */
static unsigned
bucket_of (uint64_t us)
{
  if (us < 4)
    return us;

  const unsigned octave = 63 - __builtin_clzll (us);
  const unsigned bucket = (octave - 1) * 4 + (us >> (octave - 2) & 3);

  return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The largest time that falls into it. */
static uint64_t
bucket_end (unsigned bucket)
{
  if (bucket < 4)
    return bucket;

  const unsigned octave = bucket / 4 + 1;

  return ((UINT64_C (4) + bucket % 4 + 1) << (octave - 2)) - 1;
}

/* The smallest that 99 of 100 do not exceed. */
static uint64_t
quantile (const struct latency_counts *c)
{
  const uint64_t wanted = c->requests - c->requests / 100;
  uint64_t n = 0;

  for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
    n += c->buckets[i];
    if (n >= wanted)
      return c->requests > 0 ? bucket_end (i) : 0;
  }
  return bucket_end (LATENCY_BUCKETS - 1);
}

/* ---- Counting ----------------------------------------------------------- */

static void
count (uint64_t *counter, uint64_t n)
{
  __atomic_fetch_add (counter, n, __ATOMIC_RELAXED);
}

void
latency_add (struct latency *l, enum latency_kind kind, uint64_t us,
             const struct delays *delays)
{
  struct latency_sums *sums = &l->lanes[lane_of_thread ()].sums;
  struct latency_counts *c = &sums->kinds[kind];

  count (&c->requests, 1);
  count (&c->sum_us, us);
  count (&c->buckets[bucket_of (us)], 1);
  if (delays->throttle_us > 0)
    count (&sums->throttle_us, delays->throttle_us);
  if (delays->gate_us > 0)
    count (&sums->gate_us, delays->gate_us);
}

void
latency_count_other (struct latency *l)
{
  count (&l->lanes[lane_of_thread ()].sums.others, 1);
}

/* ---- Looking ------------------------------------------------------------ */

/* Both are nothing but counters of the same size. */
#define COUNTERS (sizeof (struct latency_sums) / sizeof (uint64_t))
_Static_assert(sizeof (struct latency_sums) % sizeof (uint64_t) == 0,
               "only counters");

static void
sum_lanes (const struct latency *l, struct latency_sums *sums)
{
  uint64_t *to = (uint64_t *)sums;

  memset (sums, 0, sizeof *sums);
  for (unsigned lane = 0; lane < LANES; lane++) {
    const uint64_t *from = (const uint64_t *)&l->lanes[lane].sums;

    for (size_t i = 0; i < COUNTERS; i++)
      to[i] += __atomic_load_n (&from[i], __ATOMIC_RELAXED);
  }
}

static void
subtract (struct latency_sums *sums, const struct latency_sums *before)
{
  uint64_t *to = (uint64_t *)sums;
  const uint64_t *from = (const uint64_t *)before;

  for (size_t i = 0; i < COUNTERS; i++)
    to[i] -= from[i];
}

/* The lock must be held for the three below. */

/* Who has read the clock first may come last. */
static int64_t
not_before_newest (const struct latency *l, int64_t now_ms)
{
  const unsigned newest = (l->copies - 1) % LATENCY_SLOTS;

  return l->copies > 0 && now_ms < l->slots[newest].at_ms
           ? l->slots[newest].at_ms
           : now_ms;
}

static void
keep_copy (struct latency *l, int64_t now_ms, const struct latency_sums *sums)
{
  const unsigned newest = (l->copies - 1) % LATENCY_SLOTS;

  if (l->copies > 0 && now_ms - l->slots[newest].at_ms < SPACING_MS)
    return;
  l->slots[l->copies % LATENCY_SLOTS].at_ms = now_ms;
  l->slots[l->copies % LATENCY_SLOTS].sums = *sums;
  l->copies++;
}

/* The newest copy that is at least a window old, otherwise the oldest. */
static unsigned
find_copy (const struct latency *l, int64_t now_ms)
{
  const uint64_t kept = l->copies < LATENCY_SLOTS ? l->copies : LATENCY_SLOTS;
  uint64_t n = l->copies - 1;

  while (n > l->copies - kept &&
         now_ms - l->slots[n % LATENCY_SLOTS].at_ms < WINDOW_MS)
    n--;
  return n % LATENCY_SLOTS;
}

void
latency_get_status (struct latency *l, int64_t now_ms, struct latency_status *s)
{
  struct latency_sums all, late;
  unsigned from;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&l->lock);
  sum_lanes (l, &all); /* with the lock: no copy has more */
  late = all;
  now_ms = not_before_newest (l, now_ms);
  keep_copy (l, now_ms, &all);
  from = find_copy (l, now_ms);
  subtract (&late, &l->slots[from].sums);
  *s = (struct latency_status){
    .window_ms = now_ms - l->slots[from].at_ms,
    .others = all.others,
    .throttle_us = late.throttle_us,
    .gate_us = late.gate_us,
  };
  for (unsigned k = 0; k < LATENCY_KINDS; k++) {
    const struct latency_counts *c = &late.kinds[k];

    s->kinds[k].all = all.kinds[k].requests;
    s->kinds[k].requests = c->requests;
    s->kinds[k].mean_us = c->requests > 0 ? c->sum_us / c->requests : 0;
    s->kinds[k].high_us = quantile (c);
  }
}
