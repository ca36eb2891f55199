/* SPDX-License-Identifier: BSD-3-Clause */

#include <math.h>

#include "policy/meter.h"

#define HALF_LIFE_US 2e6 /* of what is remembered */
#define BULK_COUNTS_US 10e3

void
meter_busy (struct meter *m, uint64_t busy_us)
{
  if (busy_us > m->busiest_us)
    m->busiest_us = busy_us;
}

void
meter_hold (struct meter *m)
{
  m->holds = true;
}

static void
add_to (struct meter_speed *s, double bytes, double busy_us)
{
  const double decay = exp2 (-busy_us / HALF_LIFE_US);

  s->bytes = s->bytes * decay + bytes;
  s->busy_us = s->busy_us * decay + busy_us;
}

void
meter_update (struct meter *m, uint64_t copied_bytes, uint64_t compared_bytes,
              uint64_t moved_bytes, int64_t now_us)
{
  const double copied = (double)(copied_bytes - m->copied_bytes);
  const double compared = (double)(compared_bytes - m->compared_bytes);
  const double moved = (double)(moved_bytes - m->moved_bytes);
  const double busy = (double)m->busiest_us;
  const double us = m->updated_us ? (double)(now_us - m->updated_us) : 0;
  const double decay = exp2 (-us / HALF_LIFE_US);

  add_to (m->holds ? &m->held : &m->recent, copied + compared, busy);
  m->recent_copied = m->recent_copied * decay + copied;
  m->recent_moved = m->recent_moved * decay + moved;
  m->recent_us = m->recent_us * decay + us;
  m->copied_bytes = copied_bytes;
  m->compared_bytes = compared_bytes;
  m->moved_bytes = moved_bytes;
  m->busiest_us = 0;
  m->holds = false;
  m->updated_us = now_us;
}

static uint64_t
per_second (double bytes, double us)
{
  return us > 0 ? (uint64_t)(bytes * 1e6 / us) : 0;
}

uint64_t
meter_bandwidth (const struct meter *m)
{
  const uint64_t recent = per_second (m->recent.bytes, m->recent.busy_us);
  const uint64_t held = per_second (m->held.bytes, m->held.busy_us);

  return recent > held ? recent : held;
}

uint64_t
meter_throughput (const struct meter *m)
{
  return per_second (m->recent_copied, m->recent_us);
}

uint64_t
meter_pace (const struct meter *m)
{
  return per_second (m->recent_moved, m->recent_us);
}

void
meter_start_pass (struct meter *m, uint64_t total_bytes)
{
  m->pass_begin_bytes = m->moved_bytes;
  m->pass_total_bytes = total_bytes;
  m->percent = 0;
}

void
meter_forget_pace (struct meter *m)
{
  m->recent_copied = m->recent_moved = m->recent_us = 0;
}

static void
fade (struct meter_speed *s)
{
  if (s->busy_us <= BULK_COUNTS_US)
    return;
  s->bytes *= BULK_COUNTS_US / s->busy_us;
  s->busy_us = BULK_COUNTS_US;
}

void
meter_end_bulk (struct meter *m)
{
  fade (&m->recent);
  fade (&m->held);
  meter_forget_pace (m);
}

uint64_t
meter_pass_bytes (const struct meter *m)
{
  return m->moved_bytes - m->pass_begin_bytes;
}

bool
meter_overran (const struct meter *m)
{
  return meter_pass_bytes (m) > m->pass_total_bytes;
}

uint64_t
meter_pass_total (const struct meter *m, uint64_t left_bytes)
{
  return meter_overran (m) ? meter_pass_bytes (m) + left_bytes
                           : m->pass_total_bytes;
}

unsigned
meter_percent (struct meter *m, uint64_t left_bytes)
{
  const uint64_t total = meter_pass_total (m, left_bytes);
  double percent = 0;

  if (total > 0)
    percent = (double)meter_pass_bytes (m) * 100 / (double)total;
  if (percent > 99)
    percent = 99;
  if (percent > m->percent || meter_overran (m))
    m->percent = (unsigned)percent;
  return m->percent;
}
