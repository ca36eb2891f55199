/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>

#include "gate.h"

static void
open_as_of (struct gate *g, int64_t us)
{
  g->state = GATE_OPEN;
  g->last_pause_us = us > g->closed_at_us ? us - g->closed_at_us : 0;
}

void
gate_init (struct gate *g)
{
  *g = (struct gate){ .state = GATE_OPEN };
}

uint64_t
gate_close (struct gate *g, int64_t now_us, int64_t deadline_us)
{
  if (g->state != GATE_OPEN)
    return 0;
  g->state = GATE_CLOSED;
  g->closed_at_us = now_us;
  g->deadline_us = deadline_us;
  return ++g->token;
}

int64_t
gate_deadline_us (const struct gate *g)
{
  return g->state == GATE_COMMITTED ? g->deadline_us + g->patience_us
                                    : g->deadline_us;
}

bool
gate_expire (struct gate *g, int64_t now_us)
{
#ifndef PLANT_BUG_expire_in_commit
  /* R10: between the check and the record nothing opens it. */
  if (g->state != GATE_CLOSED && g->state != GATE_COMMITTED)
    return false;
#endif
  if (now_us < gate_deadline_us (g))
    return false;

  /* Nobody may have looked for a while, but whoever had come after the
   * deadline would have passed: the pause ended there.
   */
  open_as_of (g, gate_deadline_us (g));
  return true;
}

bool
gate_valid (const struct gate *g, uint64_t token)
{
  return g->state != GATE_OPEN && token != 0 && token == g->token;
}

void
gate_commit (struct gate *g, int64_t patience_us)
{
  assert (g->state == GATE_CLOSED);
  g->state = GATE_COMMITTING;
  g->patience_us = patience_us;
}

void
gate_committed (struct gate *g, bool recorded)
{
  assert (g->state == GATE_COMMITTING);
  g->state = recorded ? GATE_COMMITTED : GATE_CLOSED;
}

void
gate_uncommit (struct gate *g)
{
  assert (g->state == GATE_COMMITTED);
  g->state = GATE_COMMITTING;
}

void
gate_open (struct gate *g, int64_t now_us)
{
  assert (g->state != GATE_COMMITTING);
  if (g->state != GATE_OPEN)
    open_as_of (g, now_us);
}
