/* SPDX-License-Identifier: BSD-3-Clause */
/* SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators", 2014.
 */

#include <sys/random.h>

#include "base/loop.h"
#include "base/random.h"

void
random_init (struct random *r, uint64_t seed)
{
  r->state = seed;
}

static uint64_t
mix (uint64_t z)
{
  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static uint64_t
next (struct random *r)
{
  return mix (r->state += UINT64_C (0x9e3779b97f4a7c15));
}

uint64_t
random_hash (uint64_t number, uint64_t seed)
{
  return mix (mix (number + 1) ^ (seed + 1));
}

/* The remainder favours small numbers by less than limit / 2^64. */
uint64_t
random_below (struct random *r, uint64_t limit)
{
  return limit == 0 ? 0 : next (r) % limit;
}

uint32_t
random_seed (void)
{
  uint32_t seed;

  if (getrandom (&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
    seed = (uint32_t)loop_now_us ();
  return seed;
}
