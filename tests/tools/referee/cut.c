/* SPDX-License-Identifier: BSD-3-Clause */
/* Is a disk what it was at one instant?
 *
 * State k of a cell can be there at instant T if the k-th operation was sent
 * before T and none of the later ones was acknowledged before T.  So each cell
 * names the intervals of T that explain it, and all cells must have one T in
 * common.  Because operations on one cell never overlap, states that follow
 * each other have overlapping intervals, and they can be joined.
 *
 * The gate lets a request pass as a whole or not at all.  So an acknowledged
 * request that covers several cells must be there in all of them or in none.
 */

#include "verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "judge.h"
#include "util.h"

#define EXPLAIN_MAX 5
#define NONE UINT32_MAX

struct interval {
  int64_t from_us, to_us; /* both ends belong to it */
  size_t cell;
};

struct cut {
  const struct record *r;
  int64_t after_us, before_us;
  struct interval *v; /* by cell */
  size_t n, allocated;
  uint32_t *lowest, *highest; /* per cell: states that fit; NONE: not seen */
  uint64_t cells, explained;
};

struct cut *
cut_new (const struct record *r, int64_t after_us, int64_t before_us)
{
  struct cut *const c = xcalloc (1, sizeof *c);

  c->r = r;
  c->after_us = after_us;
  c->before_us = before_us;
  c->lowest = xcalloc (r->layout.n, sizeof *c->lowest);
  c->highest = xcalloc (r->layout.n, sizeof *c->highest);
  for (size_t i = 0; i < r->layout.n; i++)
    c->lowest[i] = c->highest[i] = NONE;
  return c;
}

void
cut_free (struct cut *c)
{
  if (c == NULL)
    return;
  free (c->v);
  free (c->lowest);
  free (c->highest);
  free (c);
}

/* ---- One cell ---------------------------------------------------------- */

static const struct op *
op_of (const struct cut *c, size_t cell, uint32_t k)
{
  return record_op (c->r, c->r->cells[cell].ids[k - 1]);
}

static int64_t
begin_of (const struct cut *c, size_t cell, uint32_t k)
{
  return k == 0 ? INT64_MIN : op_of (c, cell, k)->sent_us;
}

/* Until a later operation is acknowledged. */
static int64_t
end_of (const struct cut *c, size_t cell, uint32_t k)
{
  while (++k <= c->r->cells[cell].n)
    if (op_of (c, cell, k)->state == OP_ACKED)
      return op_of (c, cell, k)->ended_us;
  return INT64_MAX;
}

static void
add_interval (struct cut *c, struct interval i)
{
  struct interval *const last = c->n > 0 ? &c->v[c->n - 1] : NULL;

  if (i.from_us < c->after_us)
    i.from_us = c->after_us;
  if (i.to_us > c->before_us)
    i.to_us = c->before_us;
  if (last != NULL && last->cell == i.cell && i.from_us <= last->to_us) {
    last->to_us = i.to_us > last->to_us ? i.to_us : last->to_us;
    return;
  }
  if (c->n == c->allocated) {
    c->allocated = c->allocated ? c->allocated * 2 : 1024;
    c->v = xrealloc (c->v, c->allocated * sizeof *c->v);
  }
  c->v[c->n++] = i;
}

bool
cut_cell (struct cut *c, size_t cell, const uint8_t *buf)
{
  uint32_t k;

  c->cells++;
  for (k = 0; k <= c->r->cells[cell].n; k++) {
    const struct interval i = { begin_of (c, cell, k), end_of (c, cell, k),
                                cell };

    if (i.from_us > c->before_us || i.to_us < c->after_us ||
        !judge_state (c->r, cell, k, buf))
      continue;
    add_interval (c, i);
    if (c->lowest[cell] == NONE)
      c->lowest[cell] = k;
    c->highest[cell] = k;
  }
  if (c->lowest[cell] != NONE) {
    c->explained++;
    return true;
  }
  if (c->cells - c->explained <= EXPLAIN_MAX) {
    say ("this cell was never so between %" PRIi64 ".%06" PRIi64 " and %" PRIi64
         ".%06" PRIi64,
         c->after_us / 1000000, c->after_us % 1000000, c->before_us / 1000000,
         c->before_us % 1000000);
    judge_explain (c->r, cell, buf);
  }
  return false;
}

/* ---- All cells --------------------------------------------------------- */

struct edge {
  int64_t at_us;
  int step; /* +1: an interval begins here; -1: it ended just before */
};

static int
by_time (const void *a, const void *b)
{
  const struct edge *const x = a, *const y = b;

  if (x->at_us != y->at_us)
    return x->at_us < y->at_us ? -1 : 1;
  return x->step - y->step;
}

/* The instant that most cells agree with, and how many they are.  The
 * intervals of one cell are disjoint, so none is counted twice.
 */
static uint64_t
best_instant (const struct cut *c, int64_t *when_us)
{
  struct edge *const edges = xcalloc (c->n * 2, sizeof *edges);
  uint64_t now = 0, best = 0;

  for (size_t i = 0; i < c->n; i++) {
    edges[2 * i] = (struct edge){ c->v[i].from_us, 1 };
    edges[2 * i + 1] = (struct edge){ c->v[i].to_us + 1, -1 };
  }
  qsort (edges, c->n * 2, sizeof *edges, by_time);
  *when_us = c->after_us;
  for (size_t i = 0; i < c->n * 2; i++) {
    now += edges[i].step;
    if (now <= best)
      continue;
    best = now;
    *when_us = edges[i].at_us;
  }
  free (edges);
  return best;
}

static void
print_seconds (const char *before, int64_t us)
{
  fprintf (stderr, "%s%" PRIi64 ".%06" PRIi64, before, us / 1000000,
           us % 1000000);
}

static void
explain_contradiction (const struct cut *c, size_t cell, int64_t when_us)
{
  const struct cell *const where = &c->r->layout.cells[cell];

  say ("most cells are as at %" PRIi64 ".%06" PRIi64 ", but not disk %" PRIu32
       ", cell %zu, offset %" PRIu64 ", length %" PRIu32 ": states %" PRIu32
       " to %" PRIu32 " of %" PRIu32,
       when_us / 1000000, when_us % 1000000, where->disk, cell, where->offset,
       where->length, c->lowest[cell], c->highest[cell], c->r->cells[cell].n);
  for (size_t i = 0; i < c->n; i++) {
    if (c->v[i].cell != cell)
      continue;
    print_seconds ("  that was between ", c->v[i].from_us);
    print_seconds (" and ", c->v[i].to_us);
    fputc ('\n', stderr);
  }
}

static void
explain_contradictions (const struct cut *c, int64_t when_us)
{
  size_t told = 0, i = 0;

  while (i < c->n && told < EXPLAIN_MAX) {
    const size_t cell = c->v[i].cell;
    bool agrees = false;

    for (; i < c->n && c->v[i].cell == cell; i++)
      agrees |= c->v[i].from_us <= when_us && when_us <= c->v[i].to_us;
    if (agrees)
      continue;
    explain_contradiction (c, cell, when_us);
    told++;
  }
}

/* Which state of the cell the operation made; 0 if none. */
static uint32_t
state_of (const struct cut *c, size_t cell, uint32_t id)
{
  const struct cell_ops *const ops = &c->r->cells[cell];
  uint32_t k = ops->n;

  while (k > 0 && ops->ids[k - 1] != id)
    k--;
  return k;
}

/* Whether some cells surely hold the operation and others surely do not. */
static bool
is_torn (const struct cut *c, uint32_t id, const struct op *op)
{
  bool in = false, out = false;

  for (size_t cell = op->first; cell < op->first + op->count; cell++) {
    const uint32_t k = state_of (c, cell, id);

    if (c->lowest[cell] == NONE)
      return false; /* told already */
    in |= c->lowest[cell] >= k;
    out |= c->highest[cell] < k;
  }
  return in && out;
}

static uint64_t
count_torn (const struct cut *c)
{
  uint64_t torn = 0;

  for (uint32_t id = 1; id <= c->r->n; id++) {
    const struct op *const op = record_op (c->r, id);

    if (op->count < 2 || op->state != OP_ACKED || op->sent_us > c->before_us ||
        op->ended_us < c->after_us || !is_torn (c, id, op))
      continue;
    if (torn++ < EXPLAIN_MAX)
      say ("version %" PRIu32 ", kind %c, is there only in part: cells %zu to "
           "%zu, sent %" PRIi64 ".%06" PRIi64,
           id, op->kind, op->first, op->first + op->count - 1,
           op->sent_us / 1000000, op->sent_us % 1000000);
  }
  return torn;
}

uint64_t
cut_conclude (struct cut *c, int64_t *when_us)
{
  const uint64_t agree = best_instant (c, when_us);

  if (agree < c->explained)
    explain_contradictions (c, *when_us);
  return c->explained - agree + count_torn (c);
}
