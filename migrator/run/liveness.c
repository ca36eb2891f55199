/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "run/liveness.h"
#include "run/migration.h"
#include "nbd/probe.h"
#include "protocol.h"
#include "base/say.h"

/* Routers forget what was idle for minutes, some for one. */
#define PROBE_US (INT64_C (2) * 1000000)

/* The proxy waits for its destination for so long before it answers that there
 * is no answer.  Other commands wait meanwhile.
 */
#define RELAY_MS 500

/* A server that takes longer for a few bytes is talked about. */
#define LATE_US (INT64_C (1) * 1000000)

/* ---- the proxy's connections ------------------------------------------- */

static void
relay_answered (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct relay_life *life = &d->relay_life;
  const char *text =
    json_string_value (json_object_get (a->value, "destination"));
  uint64_t silent_ms = 0;

  life->pending = false;
  if (text == NULL)
    return; /* the heartbeat says so, too */
  life->away = strcmp (text, "away") == 0;
  if (json_is_true (json_object_get (a->value, "begun")))
    life->begun_us = life->sent_us;
  if (strcmp (text, "answers") == 0)
    life->asked_us = life->begun_us;
  protocol_get_u64 (a->value, "silent_ms", &silent_ms);
  life->silent_since_us =
    silent_ms > 0 ? loop_now_us () - (int64_t)silent_ms * 1000 : 0;
}

static void
ask_relay (struct disk *d, int64_t now_us, int wait_ms)
{
  struct relay_life *life = &d->relay_life;

  if (life->pending || !disk_is_connected (d))
    return;
  life->pending = true;
  life->sent_us = now_us;
  control_send (d->control, "probe", json_pack ("{s:i}", "timeout_ms", wait_ms),
                NULL, 0, relay_answered, d);
}

int64_t
liveness_relay_silent_us (const struct disk *d, int64_t now_us)
{
  const int64_t since_us = d->relay_life.silent_since_us;

  return since_us != 0 && now_us > since_us ? now_us - since_us : 0;
}

/* ---- now and then ------------------------------------------------------ */

/* In the pause nothing is asked that need not be. */
static bool
may_ask (const struct migration *m)
{
  return m->disks.failure.stop == STOP_NO && m->phase >= PHASE_BULK &&
         m->phase <= PHASE_READY;
}

void
liveness_run (struct migration *m, int64_t now_us)
{
  const int64_t since_us = now_us - PROBE_US;
  size_t i;

  for (i = 0; i < m->disks.n && may_ask (m); ++i) {
    struct disk *d = &m->disks.v[i];

    if (!d->begun)
      continue;
    renew_run (d, now_us);
    widen_run (d, now_us);
    probe_idle (d->destination, since_us);
    if (d->reader != NULL)
      probe_idle (d->reader, since_us);
    if (d->base != NULL)
      probe_idle (d->base, since_us);
    if (d->relay_life.sent_us < since_us)
      ask_relay (d, now_us, 0);
  }
}

static void
note_loss (struct disk *d, const char *why)
{
  CLEANUP_FREE char *what = NULL;

  if (asprintf (&what, "keeping %s in sync: a connection to %s broke: %s",
                d->pair->source, d->pair->destination, why) == -1)
    what = NULL;
  reconnect_note_loss (d, what ? what : why);
}

/* While nothing is copied no request tells that a server has gone.  Connections
 * to a destination that held nothing are made anew (renew.h).
 */
void
liveness_check (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    struct disk *d = &m->disks.v[i];
    const char *why = endpoint_broken (d->source);

    if (why != NULL)
      failure_note (&m->disks.failure,
                    "keeping %s in sync: a connection to it broke: %s",
                    d->pair->source, why);
    why = endpoint_lost (d->destination);
    if (why != NULL)
      note_loss (d, why);
  }
}

/* ---- before the pause -------------------------------------------------- */

/* A silent one is asked again as soon as it has answered what it was asked
 * before; one that is away when it may be back.
 */
static void
ask_again (struct disk *d, int64_t since_us)
{
  const struct relay_life *life = &d->relay_life;
  const int64_t now_us = loop_now_us ();

  probe_idle (d->destination, since_us);
  if (d->disks->finish == FINISH_PIVOT && life->asked_us < since_us &&
      (!life->away || now_us - life->sent_us > RELAY_MS * 1000))
    ask_relay (d, now_us, RELAY_MS);
}

/* R11.  The first disk whose destination has not answered; NULL: all have. */
static const struct disk *
find_unproven (const struct migration *m, int64_t since_us)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    if (!probe_answered (d->destination, since_us) || d->renewal.telling ||
        (m->disks.finish == FINISH_PIVOT && d->relay_life.asked_us < since_us))
      return d;
  }
  return NULL;
}

static void
say_late (const struct disk *d)
{
  if (d->relay_life.away)
    say_info ("the proxy of %s has lost its connections to %s and is "
              "connecting again: the cut-over waits for that",
              d->pair->source, d->pair->destination);
  else
    say_info ("%s does not answer: the cut-over of %s waits for it",
              d->pair->destination, d->pair->source);
}

/* Until until_us; 0: without a limit.  Who has not answered by then, or when it
 * was stopped; NULL: all have.
 */
static const struct disk *
prove (struct migration *m, int64_t until_us)
{
  const int64_t since_us = loop_now_us ();
  const struct disk *late;
  bool said = until_us != 0;
  size_t i;

  for (;;) {
    for (i = 0; i < m->disks.n; ++i)
      ask_again (&m->disks.v[i], since_us);
    late = find_unproven (m, since_us);
    if (late == NULL || m->disks.failure.stop != STOP_NO || m->finish_wished ||
        (until_us != 0 && loop_now_us () >= until_us))
      return late;
    if (!said && loop_now_us () - since_us >= LATE_US) {
      said = true;
      say_late (late);
    }
    drive (&m->disks, 100);
    liveness_check (m);
  }
}

bool
liveness_prove (struct migration *m)
{
  return prove (m, 0) == NULL && m->disks.failure.stop == STOP_NO;
}

bool
liveness_prove_soon (struct migration *m)
{
  const int64_t limit_us = (int64_t)m->disks.options->hook_timeout_ms * 1000;
  const struct disk *late = prove (m, loop_now_us () + limit_us);

  if (m->disks.failure.stop != STOP_NO)
    return false;
  if (late != NULL && !m->finish_wished)
    say_info ("%s does not answer: the pause is called off, and will be tried "
              "again",
              late->pair->destination);
  return late == NULL;
}
