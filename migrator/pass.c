/* SPDX-License-Identifier: BSD-3-Clause */
/* Passes over all disks, and the flush of the destinations. */

#include <stdlib.h>

#include "migration.h"
#include "protocol.h"

#define ROUND_MS 100
#define DRAIN_US (INT64_C (5) * 1000000)

uint64_t
pass_remaining (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    bytes += m->disks[i].remaining_bytes;
  return bytes;
}

uint64_t
pass_quarantined (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    bytes += m->disks[i].quarantined_bytes;
  return bytes;
}

uint64_t
pass_unverified (const struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    bytes += disk_unverified_bytes (&m->disks[i]);
  return bytes;
}

static bool
running (const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    if (disk_pass_running (&m->disks[i]))
      return true;
  return false;
}

/* A pass ends early: what was asked for must not be answered in the next. */
static void
stop_taking (struct migration *m)
{
  size_t i;

  for (i = 0; i < m->nr_disks; ++i) {
    m->disks[i].swept = true;
    while (m->disks[i].take_pending)
      drive (m, ROUND_MS);
  }
}

/* 'nbdmigrate finish' ends the waiting at once, however slow the rate makes
 * the copying: the pause copies the rest.
 */
static bool
is_asked_to_finish (const struct migration *m)
{
  return m->phase == PHASE_READY && m->finish_wished;
}

static void
break_off (struct migration *m)
{
  size_t i;

  stop_taking (m);
  for (i = 0; i < m->nr_disks; ++i)
    copier_drop_queue (m->disks[i].copier);
}

bool
pass_run (struct migration *m, enum pass_kind kind, int64_t deadline_us)
{
  size_t i;

  drive_measure (m);
  if (m->phase == PHASE_VERIFY) /* nothing that went before tells its pace */
    meter_forget_pace (&m->meter);
  meter_start_pass (&m->meter, kind == PASS_COPY     ? pass_remaining (m)
                               : kind == PASS_VERIFY ? pass_unverified (m)
                                                     : pass_quarantined (m));
  for (i = 0; i < m->nr_disks; ++i)
    disk_start_pass (&m->disks[i], kind);
  while (m->stop == STOP_NO && running (m)) {
    drive (m, ROUND_MS);
    if (deadline_us != 0 && loop_now_us () >= deadline_us) {
      stop_taking (m);
      return false;
    }
    if (is_asked_to_finish (m))
      break_off (m);
  }
  return m->stop == STOP_NO;
}

/* ---- the end of copying ------------------------------------------------ */

/* Chunks whose copying did not begin go back at once.  What is in flight gets
 * five seconds; after that the session's end deals with it (R7).
 */
bool
pass_drain (struct migration *m)
{
  const int64_t deadline = loop_now_us () + DRAIN_US;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];

    d->swept = true;
    if (d->copier != NULL)
      copier_drop_queue (d->copier);
  }
  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];

    while (d->begun && control_broken (d->control) == NULL &&
           disk_pass_running (d) && loop_now_us () < deadline) {
      /* An answer to a take may still bring ranges. */
      copier_drop_queue (d->copier);
      drive (m, ROUND_MS);
    }
  }
  return !running (m);
}

/* ---- flush ------------------------------------------------------------- */

static bool
flushing (const struct migration *m, bool *ok)
{
  bool busy = false, disk_ok;
  size_t i;

  *ok = true;
  for (i = 0; i < m->nr_disks; ++i) {
    busy |= copier_flushing (m->disks[i].copier, &disk_ok);
    *ok &= disk_ok;
  }
  return busy;
}

static json_t *
flush_end_arguments (struct disk *d)
{
  bool ok;

  copier_flushing (d->copier, &ok);
  return json_pack ("{s:b, s:I}", "success", ok, "epoch", (json_int_t)d->epoch);
}

int
pass_flush (struct migration *m)
{
  const int64_t begin = loop_now_us ();
  bool ok;
  size_t i;

  if (drive_ask_all (m, "flush-begin", NULL) == -1) {
    drive_fail_refused (m, "beginning a flush of the destination of");
    return -1;
  }
  for (i = 0; i < m->nr_disks; ++i)
    copier_flush (m->disks[i].copier);
  while (flushing (m, &ok))
    drive (m, ROUND_MS);
  if (drive_ask_all (m, "flush-end", flush_end_arguments) == -1) {
    drive_fail_refused (m, "ending a flush of the destination of");
    return -1;
  }
  m->flush_us = (uint64_t)(loop_now_us () - begin);
  if (!ok)
    drive_fail (m, "flushing the destinations failed; the first error was lost "
                   "for lack of memory");
  return m->stop == STOP_FAILED ? -1 : 0;
}

/* ---- what remains ------------------------------------------------------ */

int
pass_refresh (struct migration *m)
{
  size_t i;

  if (drive_ask_all (m, "status", NULL) == -1) {
    drive_fail_refused (m, "asking for the state of");
    return -1;
  }
  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];

    protocol_get_u64 (d->answer.value, "remaining_bytes", &d->remaining_bytes);
    protocol_get_u64 (d->answer.value, "quarantined_bytes",
                      &d->quarantined_bytes);
    protocol_get_u64 (d->answer.value, "dirty_bytes_per_second",
                      &d->dirty_rate);
  }
  drive_measure (m);
  return m->stop == STOP_FAILED ? -1 : 0;
}
