/* SPDX-License-Identifier: BSD-3-Clause */
/* What guests do is counted by the filters, with the time at which it was,
 * since an answer may be late.  Only the bulk backs off: what guests make dirty
 * has to be copied faster than they do.
 */

#include <stdio.h>

#include "base/say.h"
#include "protocol.h"
#include "run/background.h"
#include "run/migration.h"
#include "show/events.h"
#include "units.h"

_Static_assert(OPTIONS_BACKGROUND_MAX == BACKGROUND_MAX, "of an option");

/* Beside a guest that rests now and then a limit comes and goes: no more than
 * one in this time is spoken of.
 */
#define TELL_US (INT64_C (60) * 1000000)

/* Whether it is said that a limit is there now, or not any more: its end, if
 * its begin was.
 */
static bool
is_said (struct migration *m, bool begins, int64_t now_us)
{
  if (!begins) {
    const bool said = m->background_said;

    m->background_said = false;
    return said;
  }
  if (m->background_said_us != 0 && now_us - m->background_said_us < TELL_US)
    return false;
  m->background_said_us = now_us;
  m->background_said = true;
  return true;
}

/* Said when it begins and ends; each step is an event. */
static void
tell (struct migration *m, uint64_t before, int64_t now_us)
{
  const uint64_t limit = m->background.limit;
  char rate[UNITS_TEXT_MAX], text[200];

  const bool begins = limit > 0 && !m->background_said;

  if (limit == before && !begins)
    return;
  if (limit == 0)
    snprintf (
      text, sizeof text,
      "the guest does as much as without the copy, which goes without a "
      "limit now");
  else
    snprintf (
      text, sizeof text,
      "the guest does %.0f %% of what it does without the copy: for its sake "
      "no more than %s/s are copied for now",
      m->background.share * 100, units_format_bytes (rate, limit));
  if (limit != before)
    event_policy ("background", text);
  if ((begins || limit == 0) && is_said (m, begins, now_us))
    say_info ("%s", text);
}

static void
note_sample (struct migration *m, int64_t now_us)
{
  const uint64_t before = m->background.limit;

  m->sample.bytes = m->disks.bucket.taken;
  background_note (&m->background, &m->sample);
  tell (m, before, now_us);
  bucket_hold (&m->disks.bucket, background_rests (&m->background), now_us);
  bucket_set_ceiling (&m->disks.bucket, m->background.limit, now_us);
}

static void
sampled (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct migration *m = migration_of (d->disks);
  const json_t *guest = json_object_get (a->value, "guest_latency");
  uint64_t requests = 0, at_us = 0;

  protocol_get_u64 (guest, "requests", &requests);
  protocol_get_u64 (guest, "at_us", &at_us);
  m->sample.requests += requests;
  m->sample.mirrored |= disk_is_mirrored (a->value);
  m->sample_lacks |= a->value == NULL;
  if ((int64_t)at_us > m->sample.at_us)
    m->sample.at_us = at_us;
  if (--m->sampling == 0 && !m->sample_lacks &&
      m->sample.at_us >= m->background.next_us)
    note_sample (m, loop_now_us ());
}

static void
take_sample (struct migration *m)
{
  size_t i;

  /* Before they are asked: of a rest that is, no part is of the queue. */
  m->sample =
    (struct background_sample){ .moving = disks_are_moving (&m->disks) };
  m->sample_lacks = false;
  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].begun) {
      m->sample.touch_rate += m->disks.v[i].load.touch_rate;
      m->sampling++;
      control_send (m->disks.v[i].control, "status", CONTROL_NO_ARGUMENTS, NULL,
                    0, sampled, &m->disks.v[i]);
    }
}

/* Also while a destination that was lost is waited for: others are copied. */
static bool
is_bulk (const struct migration *m)
{
  return m->phase == PHASE_BULK ||
         (m->phase == PHASE_RECONNECT && m->bulk_end_us == 0);
}

/* Nothing is left of it in other phases, the pause least of all. */
static void
let_go (struct migration *m, int64_t now_us)
{
  bucket_hold (&m->disks.bucket, false, now_us);
  if (m->disks.bucket.ceiling != 0)
    bucket_set_ceiling (&m->disks.bucket, 0, now_us);
}

void
background_wish (struct migration *m, unsigned background)
{
  background_begin_anew (&m->background, background);
  let_go (m, loop_now_us ());
}

void
background_run (struct migration *m, int64_t now_us)
{
  if (!is_bulk (m) || m->paused || m->disks.failure.stop != STOP_NO)
    let_go (m, now_us);
  else if (m->background.target > 0 && m->sampling == 0 &&
           now_us >= m->background.next_us)
    take_sample (m);
}
