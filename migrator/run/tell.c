/* SPDX-License-Identifier: BSD-3-Clause */

#include "base/say.h"
#include "cleanup.h"
#include "run/measure.h"
#include "run/migration.h"
#include "run/snapshot.h"
#include "run/tell.h"
#include "show/progress-text.h"
#include "show/progress.h"
#include "units.h"

/* Those of all are in the line before. */
static void
tell_disk (const struct disk *d)
{
  char left[UNITS_TEXT_MAX], dirty[UNITS_TEXT_MAX];

  say_error ("  %s: %s left, %s/s become dirty%s", d->pair->source,
             units_format_bytes (left, disk_remaining_bytes (d)),
             units_format_bytes (dirty, d->dirty_rate),
             reconnect_is_away (d) ? ", its destination is lost" : "");
}

void
tell_progress (struct migration *m)
{
  CLEANUP_JSON json_t *p = NULL;
  CLEANUP_FREE char *text = NULL;
  struct snapshot s;
  size_t i;

  measure (m);
  s = snapshot_of (m);
  p = progress_json (&s);
  text = progress_text (p, false, 0);
  say_error ("%s", text ? text : s.phase);
  for (i = 0; i < m->disks.n && m->disks.n > 1; ++i)
    tell_disk (&m->disks.v[i]);
}

void
tell_run (struct migration *m, int64_t now_us)
{
  const uint64_t ms = m->disks.options->log_ms;

  if (ms == 0 || now_us < m->next_log_us)
    return;
  if (m->next_log_us != 0 && m->phase != PHASE_CONNECT)
    tell_progress (m);
  m->next_log_us = now_us + (int64_t)ms * 1000;
}
