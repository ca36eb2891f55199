/* SPDX-License-Identifier: BSD-3-Clause */
/* The dice of the guest.
 *
 * Half of the requests go anywhere, a quarter to a small hot part of the disk
 * (chunks that are dirtied again and again), a quarter follow a sequential
 * stream.
 */

#include "guest.h"

#include <string.h>

#define TRIES 8

#define LONG_ZERO_MAX (UINT64_C (1) << 30) /* bytes */
#define LONG_ZERO_EVERY 100                /* requests */

static const struct {
  enum op_kind kind;
  unsigned weight;
} kinds[] = {
  { OP_READ, 15 },        { OP_WRITE, 50 }, { OP_WRITE_FUA, 6 }, { OP_ZERO, 8 },
  { OP_ZERO_NO_HOLE, 6 }, { OP_TRIM, 12 },  { OP_FLUSH, 1 },
};

static enum op_kind
choose_kind (struct guest *g, uint32_t disk)
{
  unsigned total = 0, x;
  size_t i;

  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strchr (g->kinds[disk], kinds[i].kind) != NULL)
      total += kinds[i].weight;
  x = rng_below (&g->rng, total);
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    if (strchr (g->kinds[disk], kinds[i].kind) == NULL)
      continue;
    if (x < kinds[i].weight)
      return kinds[i].kind;
    x -= kinds[i].weight;
  }
  return OP_READ;
}

/* A cell of [begin, end) that may be busy. */
static size_t
choose_cell (struct guest *g, uint32_t disk, size_t begin, size_t end)
{
  const size_t n = end - begin, hot = n / 16 + 1;
  const uint64_t x = rng_below (&g->rng, 4);

  if (x < 2)
    return begin + rng_below (&g->rng, n);
  if (x == 2)
    return begin + n / 3 + rng_below (&g->rng, hot < n - n / 3 ? hot : 1);
  g->cursor[disk] = (g->cursor[disk] + 1) % n;
  return begin + g->cursor[disk];
}

/* Adds cells that lie side by side, until one is busy. */
static void
extend (struct guest *g, struct slot *s)
{
  const struct layout *const l = &g->record.layout;
  size_t wanted = 1, last = s->first;

  if (rng_below (&g->rng, 10) >= 6)
    wanted = 2 + rng_below (&g->rng, 15);
  s->count = 1;
  s->offset = l->cells[s->first].offset;
  s->length = l->cells[s->first].length;
  while (s->count < wanted && layout_adjacent (l, last)) {
    const size_t next = last + 1;

    if (g->busy[next] || s->length + l->cells[next].length > GUEST_REQUEST_MAX)
      break;
    s->length += l->cells[next].length;
    s->count++;
    last = next;
  }
}

/* ---- Long zeroes ------------------------------------------------------- */

/* Now and then one is due.  Then nothing new is sent to where it will be, and
 * when all has ended there, it goes.
 */
static bool
is_long_zero_due (struct guest *g, uint32_t disk)
{
  if (strchr (g->kinds[disk], OP_ZERO_LONG) == NULL)
    return false;
  if (!g->long_zero_due && g->next_long_zero-- == 0) {
    g->next_long_zero = LONG_ZERO_EVERY;
    g->long_zero_due = true;
  }
  return g->long_zero_due;
}

static size_t
end_of_long_zero (const struct layout *l, size_t begin, size_t end)
{
  const uint64_t offset = l->cells[begin].offset;
  size_t i = begin;

  while (i < end &&
         l->cells[i].offset + l->cells[i].length - offset <= LONG_ZERO_MAX)
    i++;
  return i;
}

/* False: something is under way there. */
static bool
choose_long_zero (struct guest *g, size_t begin, size_t end, struct slot *s)
{
  const struct layout *const l = &g->record.layout;

  if (memchr (g->busy + begin, 1, end - begin) != NULL)
    return false;
  s->kind = OP_ZERO_LONG;
  s->first = begin;
  s->count = end - begin;
  s->offset = l->cells[begin].offset;
  s->length = l->cells[end - 1].offset + l->cells[end - 1].length - s->offset;
  g->long_zero_due = false;
  return true;
}

bool
guest_choose (struct guest *g, uint32_t disk, struct slot *s)
{
  size_t begin = g->record.layout.first_cell[disk];
  const size_t end = g->record.layout.first_cell[disk + 1];

  s->kind = choose_kind (g, disk);
  s->first = s->count = s->length = s->offset = 0;
  if (s->kind == OP_FLUSH) {
    s->first = disk;
    return strchr (g->kinds[disk], OP_FLUSH) != NULL;
  }
  if (begin != end && is_long_zero_due (g, disk)) {
    const size_t there = end_of_long_zero (&g->record.layout, begin, end);

    if (choose_long_zero (g, begin, there, s))
      return true;
    begin = there;
  }
  if (begin == end)
    return false;
  for (int i = 0; i < TRIES; i++) {
    s->first = choose_cell (g, disk, begin, end);
    if (g->busy[s->first])
      continue;
    extend (g, s);
    return true;
  }
  return false;
}
