/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>

#include "base/say.h"
#include "run/background.h"
#include "run/guests.h"
#include "run/migration.h"
#include "run/pass.h"
#include "run/recover.h"
#include "run/snapshot.h"
#include "show/events.h"
#include "trust/evidence.h"
#include "units.h"

#define ROUND_MS 100

bool
recover_may (const struct migration *m)
{
  const struct failure *f = &m->disks.failure;

  return f->stop == STOP_FAILED && f->loss && !m->committing &&
         m->disks.options->reconnect_ms > 0;
}

/* ---- telling ----------------------------------------------------------- */

static void
tell_lost (struct disk *d)
{
  const struct loss l = snapshot_loss (d);
  char again[UNITS_TEXT_MAX], limit[UNITS_TEXT_MAX];

  migration_of (d->disks)->losses++;
  event_lost (&l);
  say_info ("the destination %s of %s was lost (%s): what was not flushed "
            "there is dirty again (%s), and it is tried to reach it for %s "
            "(--reconnect); guests go on at the source",
            l.destination, l.source, l.why ? l.why : "no memory",
            units_format_bytes (again, l.again_bytes),
            units_format_ms (limit, l.limit_ms));
}

static void
tell_back (struct disk *d)
{
  const struct loss l = snapshot_loss (d);
  char away[UNITS_TEXT_MAX];

  event_reconnected (&l);
  say_info ("the destination %s of %s is back after %s and %u attempt%s, with "
            "what was flushed there: going on",
            l.destination, l.source, units_format_ms (away, l.away_ms),
            l.attempts, l.attempts == 1 ? "" : "s");
}

const struct disk_observer recover_observer = {
  .lost = tell_lost,
  .back = tell_back,
};

/* ---- waiting ----------------------------------------------------------- */

static bool
goes_on (const struct migration *m)
{
  return m->disks.failure.stop == STOP_NO;
}

/* What led to the loss is told with it. */
static void
take_back_failure (struct migration *m)
{
  free (failure_take_back (&m->disks.failure));
  m->disks.stopped_us = 0;
}

/* Nothing is in flight any more, whatever it was for, and nothing leased. */
static void
end_all (struct migration *m)
{
  size_t i;

  pass_stop_taking (m);
  for (i = 0; i < m->disks.n; ++i)
    copier_drop_queue (m->disks.v[i].copier);
  while (goes_on (m) && pass_is_running (m))
    drive (&m->disks, ROUND_MS);
}

static void
give_up_connections (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    reconnect_give_up (&m->disks.v[i]);
  for (i = 0; i < m->disks.n; ++i)
    while (goes_on (m) && !reconnect_has_ended (&m->disks.v[i]))
      drive (&m->disks, ROUND_MS);
}

/* The first one that is not there; NULL: all are. */
static struct disk *
find_away (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (reconnect_is_away (&m->disks.v[i]))
      return &m->disks.v[i];
  return NULL;
}

bool
recover_is_waiting (struct migration *m)
{
  return find_away (m) != NULL;
}

/* Whether those that are back hold what they should; they go on then, with what
 * was not flushed dirty again (R6a).
 */
static void
look_at_those_back (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n && goes_on (m); ++i) {
    struct disk *d = &m->disks.v[i];

    if (d->reconnect.state == RECONNECT_BACK && evidence_back (d) == 0 &&
        goes_on (m))
      reconnect_go_on (d);
  }
}

/* What was measured before, or failed meanwhile, says nothing of what comes. */
static void
forget_before (struct migration *m)
{
  policy_forget_misses (&m->policy);
  policy_forget_forecast (&m->policy);
  policy_forget_rounds (&m->policy);
  policy_forget_failures (&m->policy);
  background_wish (m, m->background.wished);
  m->sampled = m->missed = false;
}

int
recover (struct migration *m)
{
  const int64_t since_us = loop_now_us ();

  take_back_failure (m);
  migrate_enter (m, PHASE_RECONNECT);
  guests_let_go (m);
  rounds_break_off (m, m->bulk_end_us == 0);
  pass_stop_taking (m);
  give_up_connections (m);
  end_all (m);
  rounds_go (m);
  while (goes_on (m) && find_away (m) != NULL) {
    drive (&m->disks, ROUND_MS);
    look_at_those_back (m);
  }
  if (goes_on (m)) {
    rounds_break_off (m, m->bulk_end_us == 0);
    end_all (m);
    forget_before (m);
    policy_was_away (&m->policy, loop_now_us () - since_us);
  }
  return goes_on (m) ? 0 : -1;
}
