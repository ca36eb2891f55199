/* SPDX-License-Identifier: BSD-3-Clause */

#include "base/say.h"
#include "disks/drive.h"
#include "run/background.h"
#include "run/guests.h"
#include "run/migration.h"
#include "run/paused.h"
#include "show/events.h"

#define ROUND_MS 100

/* No copy is behind for which guests should be held up. */
static void
let_guests_go (struct migration *m)
{
  const struct policy_decision nothing = {
    .measures = { .max_pause_ms = m->disks.max_pause_ms },
  };

  guests_apply (m, &nothing);
}

/* What was measured and decided before says nothing of what comes. */
static void
begin_anew (struct migration *m)
{
  const bool verified = m->policy.verified;

  policy_init (&m->policy);
  m->policy.verified = verified;
  m->sampled = false; /* it may have been hours */
  background_wish (m, m->background.wished);
  meter_forget_pace (&m->meter);
}

void
paused_wish (struct migration *m, bool pause)
{
  if (m->paused == pause)
    return;
  m->paused = pause;
  bucket_pause (&m->disks.bucket, pause);
  if (pause)
    let_guests_go (m);
  else
    begin_anew (m);
  event_paused (pause);
  say_info (pause
              ? "the copying is paused, until 'nbdmigrate resume'; guests go "
                "on, and what they write is tracked"
              : "the copying goes on");
}

bool
paused_wait (struct migration *m)
{
  while (m->paused && m->disks.failure.stop == STOP_NO)
    drive (&m->disks, ROUND_MS);
  return m->disks.failure.stop == STOP_NO;
}
