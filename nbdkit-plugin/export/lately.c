/* SPDX-License-Identifier: BSD-3-Clause */
/* When there is no room every second one goes, and of those that come only each
 * second one is kept from then on: so they are of all of the session.
 */

#include "lately.h"

void
lately_begin (struct lately *l, bool resumed)
{
  if (resumed)
    l->over = true;
  else
    *l = (struct lately){ .n = 0 };
}

static void
thin_out (struct lately *l)
{
  for (size_t i = 0; 2 * i < l->n; i++)
    l->offsets[i] = l->offsets[2 * i];
  l->n = (l->n + 1) / 2;
  l->shift++;
}

static bool
is_kept (const struct lately *l)
{
  return l->seen % (UINT64_C (1) << l->shift) == 0;
}

static void
add (struct lately *l, uint64_t offset)
{
  if (is_kept (l) && l->n == PROTOCOL_LATELY_MAX)
    thin_out (l);
  if (is_kept (l))
    l->offsets[l->n++] = offset;
  l->seen++;
}

void
lately_add (struct lately *l, const struct extents *e)
{
  if (l->over)
    *l = (struct lately){ .n = 0 };
  for (size_t i = 0; i < e->n; i++)
    add (l, e->v[i].offset);
}
