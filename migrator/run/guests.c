/* SPDX-License-Identifier: BSD-3-Clause */

#include <string.h>

#include "base/say.h"
#include "disks/drive.h"
#include "run/guests.h"
#include "run/migration.h"
#include "show/events.h"

/* ---- how it is --------------------------------------------------------- */

/* The worst of all disks. */
static enum mirror_state
mirror_state (const struct migration *m)
{
  enum mirror_state worst = MIRROR_ON;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].load.mirror < worst)
      worst = m->disks.v[i].load.mirror;
  return m->disks.n > 0 ? worst : MIRROR_OFF;
}

/* Over several connections at once: R12.  The filter would refuse it. */
static bool
can_be_mirrored (const struct migration *m, size_t i)
{
  return m->disks.v[i].destination == NULL ||
         m->disks.v[i].destination->multi_conn;
}

bool
guests_can_be_mirrored (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (!can_be_mirrored (m, i))
      return false;
  return true;
}

bool
guests_are_refused (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].load.mirror_refused)
      return true;
  return false;
}

void
guests_measure (const struct migration *m, struct policy_snapshot *s)
{
  size_t i;

  s->mirror = mirror_state (m);
  for (i = 0; i < m->disks.n; ++i) {
    const struct disk_load *l = &m->disks.v[i].load;
    const struct copier *copier = m->disks.v[i].copier;
    const uint64_t us = copier ? copier_write_us (copier) : 0;

    s->disk_bytes += m->disks.v[i].disk_bytes;
    s->write_rate += l->write_rate;
    s->touch_rate += l->touch_rate;
    s->dirty_rate += m->disks.v[i].dirty_rate;
    s->redirty_rate += l->redirty_rate;
    s->guest_bytes += l->guest_bytes;
    s->hot_bytes += l->hot_bytes;
    s->demotions += (unsigned)l->demotions;
    s->mirrored_writes += l->mirrored_writes;
    s->not_mirrored_writes += l->not_mirrored_writes;
    s->throttle += l->throttle;
    s->mirror_refused |= l->mirror_refused || !can_be_mirrored (m, i);
    if (us > s->destination_us)
      s->destination_us = us;
  }
}

/* ---- mirror ------------------------------------------------------------ */

/* Of what was asked for, and will be so again. */
static bool
is_final (const char *error_class)
{
  return error_class != NULL && (strcmp (error_class, "BadArgument") == 0 ||
                                 strcmp (error_class, "Unsupported") == 0);
}

static void ask_mirror (struct disk *d, const struct policy_measures *measures);

/* What is wanted may have changed meanwhile, and nobody need come here again:
 * while the copying is paused nothing is decided.  What was refused is asked
 * for again if it is still wanted: something of an earlier session may have to
 * be answered first (Busy), memory or a thread may be had later (Failed), or a
 * wish came between.
 */
static void
mirror_answered (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->load.mirror_pending = false;
  if (a->value != NULL) {
    ask_mirror (d, &migration_of (d->disks)->measures);
    return;
  }
  d->load.mirror_asked_ms = 0;
  if (!is_final (a->error_class) || d->load.mirror_refused)
    return;
  d->load.mirror_refused = true;
  say_info ("guests' writes to %s cannot be mirrored: %s", d->pair->source,
            a->desc);
}

static void
ask_mirror (struct disk *d, const struct policy_measures *measures)
{
  const uint64_t wait_ms = measures->mirror ? measures->mirror_wait_ms : 0;

  if (d->load.mirror_pending || d->load.mirror_asked_ms == wait_ms ||
      (measures->mirror && d->load.mirror_refused))
    return;
  d->load.mirror_pending = true;
  d->load.mirror_asked_ms = wait_ms;
  control_send (d->control, "mirror",
                json_pack ("{s:b, s:I}", "enabled", (int)measures->mirror,
                           "max_ms", (json_int_t)measures->mirror_wait_ms),
                NULL, 0, mirror_answered, d);
}

/* ---- throttle ---------------------------------------------------------- */

static void ask_throttle (struct migration *m, struct disk *d, uint64_t limit);

/* As for the mirror. */
static void
throttle_answered (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct migration *m = migration_of (d->disks);

  d->load.throttle_pending = false;
  if (a->value != NULL)
    ask_throttle (m, d, m->measures.throttle);
  else
    d->load.throttle_asked = 0;
}

/* A disk's part is as large as what its guest writes, and each gets a quarter
 * of an equal part at least, so that one that begins to write can be seen to.
 */
static uint64_t
share_of (const struct migration *m, const struct disk *d, uint64_t limit)
{
  const double n = (double)m->disks.n;
  double sum = 0, part;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    sum += (double)m->disks.v[i].load.write_rate;
  part = sum > 0 ? (double)d->load.write_rate / sum : 1 / n;
  part = part * 0.75 + 0.25 / n;
  return 1 + (uint64_t)((double)limit * part);
}

static void
ask_throttle (struct migration *m, struct disk *d, uint64_t limit)
{
  const uint64_t share = limit > 0 ? share_of (m, d, limit) : 0;

  if (d->load.throttle_pending || d->load.throttle_asked == share)
    return;
  d->load.throttle_pending = true;
  d->load.throttle_asked = share;
  control_send (d->control, "throttle",
                json_pack ("{s:I}", "bytes_per_second", (json_int_t)share),
                NULL, 0, throttle_answered, d);
}

/* ---- all of it --------------------------------------------------------- */

static void
tell (const struct policy_change *c)
{
  event_measure (c->what, c->reason, c->would);
  say_info ("%s%s", c->would ? "not done, only explained: " : "", c->reason);
}

void
guests_apply (struct migration *m, const struct policy_decision *d)
{
  unsigned c;
  size_t i;

  for (c = 0; c < d->nr_changes; ++c)
    tell (&d->changes[c]);
  m->measures = d->measures;
  m->disks.max_pause_ms = d->measures.max_pause_ms;
  for (i = 0; i < m->disks.n; ++i)
    if (disk_is_connected (&m->disks.v[i]) && m->disks.v[i].begun) {
      ask_mirror (&m->disks.v[i], &d->measures);
      ask_throttle (m, &m->disks.v[i], d->measures.throttle);
    }
}

void
guests_let_go (struct migration *m)
{
  size_t i;

  m->measures.throttle = 0;
  for (i = 0; i < m->disks.n; ++i)
    if (disk_is_connected (&m->disks.v[i]) && m->disks.v[i].begun)
      ask_throttle (m, &m->disks.v[i], 0);
}
