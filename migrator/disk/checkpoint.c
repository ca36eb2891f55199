/* SPDX-License-Identifier: BSD-3-Clause */
/* A flush beside the copying (R6): at the end of each round, and every few
 * seconds.
 *
 * Without the latter nothing of a bulk pass of hours would survive an
 * interruption: at the session's end all that is unflushed is dirty again (R7).
 */

#include <assert.h>

#include "disk/disk.h"

#define CHECKPOINT_US (INT64_C (5) * 1000000)

bool
checkpoint_running (const struct disk *d)
{
  return d->checkpoint != CHECKPOINT_NO;
}

static void
ended (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  bool ok;

  d->checkpoint = CHECKPOINT_NO;
  d->next_checkpoint_us = loop_now_us () + CHECKPOINT_US;
  if (a->value == NULL)
    failure_note (d->settings->failure,
                  "ending a flush of the destination of %s: %s",
                  d->pair->source, a->desc);
  else if (!copier_flushing (d->copier, &ok) && ok) {
    latest_end_flush (&d->latest_places);
    reconnect_note_flush (d);
  }
}

static void
begun (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  if (a->value == NULL) {
    d->checkpoint = CHECKPOINT_NO;
    failure_note (d->settings->failure,
                  "beginning a flush of the destination of %s: %s",
                  d->pair->source, a->desc);
    return;
  }
  d->checkpoint = CHECKPOINT_FLUSH;
  copier_flush (d->copier);
}

/* Only while there is a long time to go: every round ends with a flush. */
static bool
is_due (struct disk *d, int64_t now_us)
{
  if (d->next_checkpoint_us == 0)
    d->next_checkpoint_us = now_us + CHECKPOINT_US;
  return d->checkpoints && !d->swept && now_us >= d->next_checkpoint_us &&
         d->settings->failure->stop == STOP_NO;
}

void
checkpoint_begin (struct disk *d)
{
  assert (d->checkpoint == CHECKPOINT_NO);
  d->checkpoint = CHECKPOINT_BEGIN;
  latest_begin_flush (&d->latest_places);
  control_send (d->control, "flush-begin", CONTROL_NO_ARGUMENTS, NULL, 0, begun,
                d);
}

void
checkpoint_run (struct disk *d, int64_t now_us)
{
  bool ok;

  if (d->checkpoint == CHECKPOINT_NO && is_due (d, now_us))
    checkpoint_begin (d);
  if (d->checkpoint == CHECKPOINT_FLUSH && !copier_flushing (d->copier, &ok)) {
    d->checkpoint = CHECKPOINT_END;
    d->flush_us = copier_flush_us (d->copier);
    control_send (
      d->control, "flush-end",
      json_pack ("{s:b, s:I}", "success", ok, "epoch", (json_int_t)d->epoch),
      NULL, 0, ended, d);
  }
}
