/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/mirror.h"

uint64_t
mirror_wait_ms (uint64_t max_pause_ms)
{
  const uint64_t ms = max_pause_ms / MIRROR_WAIT_DIVISOR;

  if (ms < MIRROR_WAIT_MIN_MS)
    return max_pause_ms < MIRROR_WAIT_MIN_MS ? max_pause_ms
                                             : MIRROR_WAIT_MIN_MS;
  return ms < MIRROR_WAIT_MAX_MS ? ms : MIRROR_WAIT_MAX_MS;
}

static void
back_off (struct mirror *m, int64_t now_us)
{
  int64_t wait_us = MIRROR_AGAIN_US;
  unsigned i;

  for (i = 1; i < m->failures && i < MIRROR_DEMOTIONS_MAX; ++i)
    wait_us *= MIRROR_AGAIN_FACTOR;
  m->wanted = false;
  m->not_before_us = now_us + wait_us;
}

void
mirror_fail (struct mirror *m, int64_t now_us)
{
  m->failures++;
  back_off (m, now_us);
}

static void
note_on (struct mirror *m, int64_t now_us)
{
  m->asked_us = now_us;
  if (m->on_since_us == 0)
    m->on_since_us = now_us;
  else if (now_us - m->on_since_us >= MIRROR_GOOD_US)
    m->failures = 0;
}

/* Two disks that are demoted at once are one failure. */
bool
mirror_note (struct mirror *m, const struct mirror_input *in)
{
  const bool demoted = in->demotions > m->demotions;
  const bool stuck =
    in->state != MIRROR_ON && in->now_us - m->asked_us >= MIRROR_START_US;

  m->demotions = in->demotions;
  m->refused |= in->refused;
  if (!m->wanted)
    return false;
  if (in->state == MIRROR_ON)
    note_on (m, in->now_us);
  if (!demoted && !stuck && !m->refused)
    return false;
  mirror_fail (m, in->now_us);
  return true;
}

enum mirror_verdict
mirror_judge (const struct mirror *m, const struct mirror_input *in)
{
  const uint64_t slow_us =
    mirror_wait_ms (in->max_pause_ms) * 1000 / MIRROR_SLOW_DIVISOR;

  if (m->refused || m->failures >= MIRROR_DEMOTIONS_MAX)
    return MIRROR_CANNOT;
  if (in->now_us < m->not_before_us)
    return MIRROR_LATER;
  return in->destination_us > slow_us ? MIRROR_SLOW : MIRROR_MAY;
}

void
mirror_begin (struct mirror *m, int64_t now_us)
{
  m->wanted = true;
  m->asked_us = now_us;
  m->on_since_us = 0;
}

void
mirror_end (struct mirror *m)
{
  m->wanted = false;
}
