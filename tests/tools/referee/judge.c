/* SPDX-License-Identifier: BSD-3-Clause */
/* Holding what was read against the record. */

#include "judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "content.h"
#include "util.h"

/* What an operation alone leaves in a cell. */
static void
fill (const struct record *r, size_t cell, uint32_t id, uint8_t *buf)
{
  const struct cell *const c = &r->layout.cells[cell];
  const enum op_kind kind = record_op (r, id)->kind;

  if (kind == OP_WRITE || kind == OP_WRITE_FUA)
    content_block (r->layout.seed, id, c->offset, buf, c->length);
  else
    memset (buf, 0, c->length);
}

/* Whether nothing of the state before can be left. */
static bool
replaces (const struct op *op)
{
  return op->state == OP_ACKED && op->kind != OP_TRIM;
}

/* Whether nothing of the states before k can be there any more. */
static bool
is_first (const struct record *r, size_t cell, uint32_t k)
{
  const struct cell_ops *const ops = &r->cells[cell];

  return ops->seen >= k || replaces (record_op (r, ops->ids[k - 1]));
}

/* Each byte must be that of one of the contents: from state k backwards to
 * the last one that replaced all before.
 */
bool
judge_state (const struct record *r, size_t cell, uint32_t k,
             const uint8_t *buf)
{
  const struct cell *const c = &r->layout.cells[cell];
  const struct cell_ops *const ops = &r->cells[cell];
  static uint8_t content[LAYOUT_CELL_MAX], right[LAYOUT_CELL_MAX];
  bool more = true;
  size_t i;

  if (k > 0 && is_first (r, cell, k)) {
    fill (r, cell, ops->ids[k - 1], content);
    return memcmp (content, buf, c->length) == 0;
  }
  memset (right, 0, c->length);
  for (; more; k--) {
    if (k > 0) {
      fill (r, cell, ops->ids[k - 1], content);
      more = !is_first (r, cell, k);
    }
    else {
      if (!initial_fill (&r->initial, c->disk, c->offset, content, c->length))
        return true;
      more = false;
    }
    for (i = 0; i < c->length; i++)
      right[i] |= content[i] == buf[i];
  }
  return memchr (right, 0, c->length) == NULL;
}

bool
judge_latest (const struct record *r, size_t cell, const uint8_t *buf)
{
  return judge_state (r, cell, r->cells[cell].n, buf);
}

/* The oldest state that explains it: where several hold the same bytes nobody
 * can tell which it was.  What a trim leaves may change.
 */
void
judge_seen (struct record *r, size_t cell, const uint8_t *buf)
{
  struct cell_ops *const ops = &r->cells[cell];
  uint32_t oldest = ops->n;
  uint8_t content[LAYOUT_CELL_MAX];

  while (oldest > 0 && !is_first (r, cell, oldest))
    oldest--;
  if (oldest == ops->n)
    return;
  if (oldest == 0 && judge_state (r, cell, 0, buf))
    return;
  for (uint32_t k = oldest > 0 ? oldest : 1; k <= ops->n; k++) {
    fill (r, cell, ops->ids[k - 1], content);
    if (memcmp (content, buf, r->layout.cells[cell].length) != 0)
      continue;
    if (record_op (r, ops->ids[k - 1])->kind != OP_TRIM)
      ops->seen = k;
    return;
  }
}

/* ---- Explaining -------------------------------------------------------- */

static void
print_state (const struct record *r, size_t cell, uint32_t k)
{
  const char *const seen =
    k > 0 && r->cells[cell].seen == k ? "  (a read has returned this)\n" : "";
  const struct op *op;
  uint32_t id;

  if (k == 0) {
    fprintf (stderr, "  state 0: the initial content\n");
    return;
  }
  id = r->cells[cell].ids[k - 1];
  op = record_op (r, id);
  fprintf (stderr,
           "  state %" PRIu32 ": version %" PRIu32 ", kind %c, sent %" PRIi64
           ".%06" PRIi64,
           k, id, op->kind, op->sent_us / 1000000, op->sent_us % 1000000);
  if (op->state == OP_SENT)
    fprintf (stderr, ", never answered\n");
  else
    fprintf (stderr, ", %s %" PRIi64 ".%06" PRIi64 "\n",
             op->state == OP_ACKED ? "acknowledged" : "failed",
             op->ended_us / 1000000, op->ended_us % 1000000);
  fputs (seen, stderr);
}

/* The state that what was read belongs to, if any; an initial content of which
 * nothing is known (--initial any) explains nothing.
 */
static bool
find_state (const struct record *r, size_t cell, const uint8_t *buf,
            uint32_t *k)
{
  for (*k = r->cells[cell].n + 1; (*k)-- > 0;)
    if (judge_state (r, cell, *k, buf))
      return *k > 0 || r->initial.kind != INITIAL_ANY;
  return false;
}

/* Which bytes differ from the latest state's newest content. */
static void
print_bytes (const struct record *r, size_t cell, const uint8_t *buf)
{
  const struct cell *const c = &r->layout.cells[cell];
  const struct cell_ops *const ops = &r->cells[cell];
  uint8_t content[LAYOUT_CELL_MAX];
  uint32_t i, first = c->length, last = 0, n = 0;

  if (ops->n > 0)
    fill (r, cell, ops->ids[ops->n - 1], content);
  else if (!initial_fill (&r->initial, c->disk, c->offset, content, c->length))
    return;
  for (i = 0; i < c->length; i++) {
    if (content[i] == buf[i])
      continue;
    first = i < first ? i : first;
    last = i;
    n++;
  }
  if (n > 0)
    fprintf (stderr,
             "  %" PRIu32 " bytes differ from the last state, from +%" PRIu32
             " to +%" PRIu32 "; there is %02x, not %02x\n",
             n, first, last, buf[first], content[first]);
}

void
judge_explain (const struct record *r, size_t cell, const uint8_t *buf)
{
  const struct cell *const c = &r->layout.cells[cell];
  const uint32_t n = r->cells[cell].n;
  struct stamp s;
  uint32_t k;

  say ("disk %" PRIu32 ", cell %zu, offset %" PRIu64 ", length %" PRIu32
       ", %" PRIu32 " operations:",
       c->disk, cell, c->offset, c->length, n);
  for (k = n > 3 ? n - 3 : 0; k <= n; k++)
    print_state (r, cell, k);
  if (find_state (r, cell, buf, &k)) {
    fprintf (stderr, "  it holds:\n");
    print_state (r, cell, k);
  }
  else {
    fprintf (stderr, "  it holds none of its states\n");
    print_bytes (r, cell, buf);
  }
  if (content_stamp (r->layout.seed, buf, c->length, &s))
    fprintf (stderr,
             "  its stamp: offset %" PRIu64 ", version %" PRIu64 ", %s\n",
             s.offset, s.version, s.intact ? "intact" : "checksum wrong");
}
