/* SPDX-License-Identifier: BSD-3-Clause */
/* Samples of what is about to be left out as zero.
 *
 * Whatever is below the proxy may be mistaken about what it holds: a cache may
 * answer for what lies under it, a plugin may have a bug.  What is left out
 * then is lost, and no error tells of it.  So of each answer a few blocks at
 * random places are read: a mistake about a large part of a disk is found soon,
 * one about a single block hardly ever.
 *
 * They are read side by side, into the memory that the proxy shares if it does,
 * as the copy is.
 */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "copy/copier-internal.h"

/* A block for so many bytes that are said to be zero, at least one. */
#define SAMPLE_EVERY (UINT64_C (256) << 20)

/* Of those whose answers carry no data, on a connection: fewer than for the
 * copy, beside which they are in flight (copier-run.c).
 */
#define DEPTH_OF_SHARED_SAMPLES 4

/* ---- choosing ---------------------------------------------------------- */

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

bool
sample_choose (struct copier *c, const struct extents *e, uint64_t *offset)
{
  uint64_t at = random_number (c) % extents_bytes (e);
  size_t i;

  for (i = 0; at >= e->v[i].length; ++i)
    at -= e->v[i].length;
  *offset = (e->v[i].offset + at) / c->grain * c->grain;
  return *offset >= e->v[i].offset &&
         *offset + c->grain <= e->v[i].offset + e->v[i].length;
}

bool
sample_is_zero (struct copier *c, const char *block)
{
  c->stats.sampled_bytes += c->grain;
  return is_zero (block, c->grain);
}

static unsigned
wanted (const struct copier *c, const struct extents *e)
{
  const uint64_t bytes = extents_bytes (e);
  const uint64_t n = 1 + bytes / SAMPLE_EVERY;

  return bytes < c->grain ? 0 : n < SAMPLES_MAX ? (unsigned)n : SAMPLES_MAX;
}

/* ---- life -------------------------------------------------------------- */

void
samples_begin (struct copier *c, struct samples *s, const struct extents *e)
{
  unsigned left = wanted (c, e);

  s->c = c;
  s->n = s->in_flight = 0;
  s->failed = false;
  for (; left > 0; --left) {
    struct sample *p = &s->v[s->n];

    *p = (struct sample){ .all = s };
    if (!sample_choose (c, e, &p->offset))
      continue;
    p->block = buffers_take (c->buffers, c->grain);
    if (p->block == NULL)
      return; /* no memory: fewer */
    s->n++;
  }
}

void
samples_end (struct samples *s)
{
  unsigned i;

  for (i = 0; i < s->n; ++i)
    if (!s->v[i].in_use)
      buffers_give_back (s->c->buffers, s->v[i].block, s->c->grain);
  s->n = 0;
}

/* The first that is to be read, or NULL. */
static struct sample *
next (struct samples *s)
{
  unsigned i;

  for (i = 0; i < s->n; ++i)
    if (s->v[i].state == SAMPLE_WAITS)
      return &s->v[i];
  return NULL;
}

bool
samples_are_read (struct samples *s)
{
  return s->in_flight == 0 && next (s) == NULL;
}

/* ---- reading ----------------------------------------------------------- */

static void
sample_ended (struct io *io)
{
  struct sample *p = (struct sample *)io;
  struct samples *s = p->all;

  s->in_flight--;
  p->state = SAMPLE_ENDED;
  if (p->slot != NULL && !copier_collect (s->c, p->slot, io, &p->in_use))
    p->state = SAMPLE_WAITS;
  else if (io->error != 0)
    s->failed = true;
  else
    p->zero = sample_is_zero (s->c, p->block);
  if (s->in_flight == 0)
    s->paused (s);
}

static struct connection *
idle (const struct copier *c)
{
  struct connection *conn = NULL;

  if (c->shared)
    conn = endpoint_idle (c->source, UINT_MAX, DEPTH_OF_SHARED_SAMPLES);
  if (conn != NULL && conn->can_cache)
    return conn;
  return endpoint_free_connection (c->source);
}

bool
samples_run (struct samples *s)
{
  struct copier *c = s->c;
  struct connection *conn;
  struct sample *p;
  bool progress = false;

  while ((p = next (s)) != NULL && (conn = idle (c)) != NULL) {
    p->state = SAMPLE_ASKED;
    p->io.ended = sample_ended;
    s->in_flight++;
    p->slot = copier_read_source (c, conn, &p->io, p->block, (uint32_t)c->grain,
                                  p->offset);
    progress = true;
  }
  return progress;
}
