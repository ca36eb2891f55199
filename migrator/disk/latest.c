/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdbool.h>
#include <stddef.h>

#include "disk/latest.h"

static bool
has (const struct latest_places *p, uint64_t offset)
{
  unsigned i;

  for (i = 0; i < p->n; ++i)
    if (p->offsets[i] == offset)
      return true;
  return false;
}

/* What is written again and again must not drive out all else. */
static void
add (struct latest_places *p, uint64_t offset)
{
  if (has (p, offset))
    return;
  p->offsets[p->next] = offset;
  p->next = (p->next + 1) % PROTOCOL_LATELY_MAX;
  if (p->n < PROTOCOL_LATELY_MAX)
    p->n++;
}

void
latest_told (struct latest *l, uint64_t offset)
{
  add (&l->copied, offset);
  l->flushed = l->copied;
}

void
latest_copied (struct latest *l, const struct extents *e)
{
  size_t i;

  for (i = 0; i < e->n; ++i)
    add (&l->copied, e->v[i].offset);
}

void
latest_begin_flush (struct latest *l)
{
  l->flushing = l->copied;
}

void
latest_end_flush (struct latest *l)
{
  l->flushed = l->flushing;
}
