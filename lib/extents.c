/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdlib.h>

#include "extents.h"

/* Invariant: no extent is empty and no end exceeds UINT64_MAX. */
static uint64_t
end_of (const struct extent *x)
{
  return x->offset + x->length;
}

static int
reserve_one (struct extents *e)
{
  if (e->n < e->allocated)
    return 0;

  const size_t n = e->allocated > 0 ? e->allocated * 2 : 16;
  struct extent *v = reallocarray (e->v, n, sizeof *v);

  if (v == NULL)
    return -1;
  e->v = v;
  e->allocated = n;
  return 0;
}

int
extents_append (struct extents *e, uint64_t offset, uint64_t length,
                bool touched)
{
  struct extent *last = e->n > 0 ? &e->v[e->n - 1] : NULL;

  if (length == 0)
    return 0;
  if (offset > UINT64_MAX - length) {
    errno = EOVERFLOW;
    return -1;
  }
  if (last && last->touched == touched && end_of (last) == offset) {
    last->length += length;
    return 0;
  }
  if (reserve_one (e) == -1)
    return -1;
  e->v[e->n++] = (struct extent){ offset, length, touched };
  return 0;
}

static int
compare_offsets (const void *p, const void *q)
{
  const struct extent *a = p, *b = q;

  return (a->offset > b->offset) - (a->offset < b->offset);
}

/* Make 'into' cover 'x' as well, which begins inside or at the end of it. */
static void
merge (struct extent *into, const struct extent *x)
{
  if (end_of (x) > end_of (into))
    into->length = end_of (x) - into->offset;
  into->touched |= x->touched;
}

void
extents_normalise (struct extents *e)
{
  size_t last = 0;

  if (e->n == 0)
    return;
  qsort (e->v, e->n, sizeof *e->v, compare_offsets);
  for (size_t i = 1; i < e->n; i++) {
    if (e->v[i].offset <= end_of (&e->v[last]))
      merge (&e->v[last], &e->v[i]);
    else
      e->v[++last] = e->v[i];
  }
  e->n = last + 1;
}

uint64_t
extents_bytes (const struct extents *e)
{
  uint64_t sum = 0;

  for (size_t i = 0; i < e->n; i++)
    if (__builtin_add_overflow (sum, e->v[i].length, &sum))
      return UINT64_MAX;
  return sum;
}

void
extents_clear (struct extents *e)
{
  e->n = 0;
}

void
extents_free (struct extents *e)
{
  free (e->v);
  *e = EXTENTS_EMPTY;
}
