/* SPDX-License-Identifier: BSD-3-Clause */

#include "run/rounds.h"
#include "run/liveness.h"
#include "run/migration.h"
#include "run/pass.h"

#define ROUND_MS 100

/* Not sooner after the last one began, unless somebody waits for it: what the
 * guest writes over and over is not to be copied as often as can be.
 */
#define PACE_US (INT64_C (50) * 1000)

/* While it is in sync, or waits for what may be written late. */
#define PACE_WAITING_US (INT64_C (200) * 1000)

/* ---- a round ----------------------------------------------------------- */

static bool
is_waiting (const struct migration *m)
{
  return m->phase == PHASE_READY || m->phase == PHASE_LATE;
}

static void
begin (struct migration *m, int64_t now_us)
{
  struct rounds *r = &m->rounds;

  r->under_way = true;
  r->due = false;
  r->begun_us = now_us;
  pass_begin (m, PASS_COPY, true);
}

static bool
is_over (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (!disk_is_swept (&m->disks.v[i]))
      return false;
  return true;
}

/* One that found nothing was none; but all that was dirty in the beginning is,
 * even if that was nothing.
 */
static void
end (struct migration *m)
{
  struct rounds *r = &m->rounds;
  bool some = r->ended == 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    some |= m->disks.v[i].taken_bytes > 0;
  r->under_way = false;
  r->ended++;
  m->passes += some;
}

void
rounds_run (struct migration *m, int64_t now_us)
{
  struct rounds *r = &m->rounds;
  const int64_t pace_us = is_waiting (m) ? PACE_WAITING_US : PACE_US;

  if (!r->on)
    return;
  pass_watch_guest (m);
  if (m->phase == PHASE_READY)
    liveness_check (m);
  if (r->under_way && is_over (m)) {
    end (m);
    loop_wake_at (&m->disks.loop, 0); /* somebody waits for that */
  }
  if (r->under_way || m->disks.failure.stop != STOP_NO)
    return;
  if (r->due || now_us - r->begun_us >= pace_us)
    begin (m, now_us);
  else
    loop_wake_at (&m->disks.loop, r->begun_us + pace_us);
}

/* ---- on and off -------------------------------------------------------- */

void
rounds_go (struct migration *m)
{
  struct rounds *r = &m->rounds;

  if (r->on)
    return;
  r->on = true;
  begin (m, loop_now_us ());
}

void
rounds_break_off (struct migration *m, bool from_start)
{
  struct rounds *r = &m->rounds;

  r->on = r->under_way = r->due = false;
  if (from_start)
    r->ended = 0;
}

/* The rest of a round goes back where it would take long, to be copied in the
 * pause or later.
 */
bool
rounds_stop (struct migration *m)
{
  struct rounds *r = &m->rounds;

  if (!r->on)
    return m->disks.failure.stop == STOP_NO;
  r->on = false;
  if (r->under_way && m->disks.bucket.rate > 0)
    pass_break_off (m);
  while (m->disks.failure.stop == STOP_NO && pass_is_running (m))
    drive (&m->disks, ROUND_MS);
  if (r->under_way)
    end (m);
  return m->disks.failure.stop == STOP_NO;
}

/* ---- waiting ----------------------------------------------------------- */

/* 'nbdmigrate finish' ends the waiting at once, however slow the rate makes the
 * copying.
 */
static bool
is_asked_to_finish (const struct migration *m)
{
  return m->phase == PHASE_READY && m->finish_wished;
}

static bool
goes_on (const struct migration *m)
{
  return m->disks.failure.stop == STOP_NO && !is_asked_to_finish (m);
}

bool
rounds_wait_first (struct migration *m)
{
  while (m->disks.failure.stop == STOP_NO && m->rounds.ended == 0)
    drive (&m->disks, ROUND_MS);
  return m->disks.failure.stop == STOP_NO;
}

static bool
is_flushing (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (checkpoint_running (&m->disks.v[i]))
      return true;
  return false;
}

static uint64_t
longest_flush_us (const struct migration *m)
{
  uint64_t us = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].flush_us > us)
      us = m->disks.v[i].flush_us;
  return us;
}

/* The round that ends last has begun before the flush ended or at once then: so
 * little is dirty whatever the flush took.
 */
bool
rounds_wait_next (struct migration *m)
{
  unsigned before = m->rounds.ended;
  bool flushing = true;
  size_t i;

  while (goes_on (m) && is_flushing (m)) /* of a long round */
    drive (&m->disks, ROUND_MS);
  for (i = 0; i < m->disks.n && goes_on (m); ++i)
    checkpoint_begin (&m->disks.v[i]);
  while (goes_on (m) && (flushing || m->rounds.ended == before)) {
    drive (&m->disks, ROUND_MS);
    if (flushing)
      before = m->rounds.ended;
    flushing = flushing && is_flushing (m);
    m->rounds.due = !flushing && !is_waiting (m);
  }
  m->rounds.due = false;
  m->flush_us = longest_flush_us (m);
  return m->disks.failure.stop == STOP_NO;
}
