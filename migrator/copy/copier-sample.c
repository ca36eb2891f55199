/* SPDX-License-Identifier: BSD-3-Clause */
/* Samples of what is about to be left out as zero.
 *
 * Whatever is below the proxy may be mistaken about what it holds: a cache may
 * answer for what lies under it, a plugin may have a bug.  What is left out
 * then is lost, and no error tells of it.  So of each answer a few blocks at
 * random places are read: a mistake about a large part of a disk is found soon,
 * one about a single block hardly ever.
 */

#include <stdlib.h>
#include <string.h>

#include "copy/copier-internal.h"

/* A block for so many bytes that are said to be zero, at least one. */
#define SAMPLE_EVERY (UINT64_C (256) << 20)
#define SAMPLES_MAX 8

/* SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
 * generators", 2014).
 */
static uint64_t
random_number (struct copier *c)
{
  uint64_t z = c->random += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void
sample_begin (const struct copier *c, struct sample *s, const struct extents *e)
{
  const uint64_t bytes = extents_bytes (e);
  const uint64_t n = 1 + bytes / SAMPLE_EVERY;

  s->left = bytes < c->grain ? 0 : n < SAMPLES_MAX ? (unsigned)n : SAMPLES_MAX;
}

/* The block around byte 'at' of the ranges, if all of it is in one of them. */
static bool
find_block (const struct copier *c, struct sample *s, const struct extents *e,
            uint64_t at)
{
  size_t i;

  for (i = 0; at >= e->v[i].length; ++i)
    at -= e->v[i].length;
  s->offset = (e->v[i].offset + at) / c->grain * c->grain;
  return s->offset >= e->v[i].offset &&
         s->offset + c->grain <= e->v[i].offset + e->v[i].length;
}

bool
sample_choose (struct copier *c, struct sample *s, const struct extents *e)
{
  if (s->block == NULL && s->left > 0)
    s->block = malloc (c->grain);
  if (s->block == NULL)
    return false;
  while (s->left > 0) {
    s->left--;
    if (find_block (c, s, e, random_number (c) % extents_bytes (e)))
      return true;
  }
  return false;
}

bool
sample_is_zero (struct copier *c, const struct sample *s)
{
  c->stats.sampled_bytes += c->grain;
  return is_zero (s->block, c->grain);
}
