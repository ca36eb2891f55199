/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of one disk's leases.
 *
 * What the migrator took from the filter is always in exactly one place: the
 * copier, or one of the lists of ended parts, until the filter has been told.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "disk/disk.h"
#include "nbd-limits.h"
#include "protocol.h"

/* To be compared: read only, from both sides. */
#define COMPARE_BYTES (UINT64_C (32) * 1024 * 1024)

/* While the copying goes on, ended parts are collected for so long: a message
 * costs the proxy as much as a small read.
 */
#define REPORT_US 5000

/* ---- taking ------------------------------------------------------------ */

void
disk_start_pass (struct disk *d, enum pass_kind kind, bool checkpoints,
                 bool bulk)
{
  d->pass_kind = kind;
  d->bulk = bulk;
  take_begin_pass (&d->take);
  d->checkpoints = checkpoints;
  /* What is read back of a write that may come late is flushed where it was
   * read (R17).
   */
  copier_compare_over_reader (d->copier, kind == PASS_VERIFY &&
                                           disk_reader (d) == d->reader);
  copier_begin_pass (d->copier);
  if (!d->began_to_copy)
    copier_note_distance (d->copier);
  d->began_to_copy = true;
  d->cursor = 0;
  d->taken_bytes = 0;
  d->new_round = checkpoints;
  d->swept = d->stopped = reconnect_is_away (d);
}

void
disk_stop_taking (struct disk *d)
{
  d->swept = true;
  d->stopped = true;
}

bool
disk_is_swept (const struct disk *d)
{
  return d->swept && !d->take_pending && copier_has_ended_all (d->copier) &&
         d->reports_pending == 0 && d->skipped.n == 0 && d->done.n == 0 &&
         d->failed.n == 0 && d->unknown.n == 0 && d->equal.n == 0 &&
         d->different.n == 0;
}

bool
disk_pass_running (const struct disk *d)
{
  return !disk_is_swept (d) || checkpoint_running (d) ||
         !copier_idle (d->copier);
}

bool
disk_is_moving (const struct disk *d)
{
  return d->copier != NULL && copier_is_moving (d->copier);
}

static int
add_ranges (struct disk *d, const struct extents *e)
{
  size_t i;
  int r;

  for (i = 0; i < e->n; ++i) {
    const struct extent *x = &e->v[i];

    d->taken_bytes += x->length;
    if (d->pass_kind == PASS_COPY)
      r = copier_add (d->copier, x->offset, x->length, x->touched);
    else
      r = copier_add_compare (d->copier, x->offset, x->length);
    if (r == -1)
      return -1;
  }
  return 0;
}

static void
taken (void *opaque, const struct control_answer *a)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct disk *d = opaque;
  const char *why = a->desc;

  d->take_pending = false;
  if (a->value == NULL ||
      protocol_parse_extents (json_object_get (a->value, "extents"), &e,
                              &why) == -1 ||
      protocol_get_u64 (a->value, "cursor", &d->cursor) != 1) {
    failure_note_for_good (d->settings->failure,
                           "taking dirty chunks of %s: %s", d->pair->source,
                           why ? why : "the answer has no cursor");
    return;
  }
  d->swept = d->stopped || d->cursor >= d->disk_bytes;
  if (add_ranges (d, &e) == -1)
    failure_note_for_good (d->settings->failure, "queueing chunks of %s: %s",
                           d->pair->source, strerror (errno));
}

/* Disks share it; the pause does not obey it. */
static uint64_t
take_limit (const struct disk *d)
{
  const uint64_t limit = bucket_limit (d->settings->bucket);
  const size_t n = d->bulk ? 1 : d->settings->nr_disks;

  if (limit == 0 || !copier_obeys_rate (d->copier))
    return 0;
  return limit > n ? limit / n : 1;
}

static struct take_input
take_input (const struct disk *d)
{
  struct copier_stats s;

  copier_get_stats (d->copier, &s);
  return (struct take_input){
    .copied_bytes = s.copied_bytes,
    .moved_bytes = s.moved_bytes,
    .busy_us = s.busy_us,
    .limit = take_limit (d),
    .bulk = d->bulk,
  };
}

static uint64_t
next_take_bytes (struct disk *d)
{
  const struct take_input in = take_input (d);

  return take_next (&d->take, &in);
}

/* Where the next compare of a verify pass looks: only what was copied and not
 * yet read back.  Returns false if there is nothing behind the cursor.
 */
static bool
next_unverified (const struct disk *d, uint64_t *cursor, uint64_t *max_bytes)
{
  const struct bitmap *b = &d->unverified;
  const uint64_t first = bitmap_next_set (b, d->cursor / d->chunk_bytes);
  uint64_t end;

  if (first == b->bits)
    return false;
  end = bitmap_next_clear (b, first);
  *cursor = first * d->chunk_bytes;
  *max_bytes = (end - first) * d->chunk_bytes;
  if (*max_bytes > COMPARE_BYTES)
    *max_bytes = COMPARE_BYTES;
  return true;
}

static void
compare_more (struct disk *d)
{
  uint64_t cursor = d->cursor, max_bytes = COMPARE_BYTES;

  if (d->pass_kind == PASS_VERIFY &&
      !next_unverified (d, &cursor, &max_bytes)) {
    d->swept = true;
    loop_wake_at (d->settings->loop, 0); /* somebody waits for that */
    return;
  }
  d->take_pending = true;
  control_send (d->control, "compare",
                json_pack ("{s:I, s:I, s:b}", "cursor", (json_int_t)cursor,
                           "max_bytes", (json_int_t)max_bytes, "quarantined",
                           d->pass_kind == PASS_QUARANTINE),
                NULL, 0, taken, d);
}

/* What was taken as a hole was none: for a crash, and for the guest, it would
 * be leased for too long.  A take is of one chunk at least.
 */
static void
give_back_data (struct disk *d)
{
  const uint64_t least = TAKE_DATA_TIMES * d->chunk_bytes;
  const struct take_input in = take_input (d);
  uint64_t keep = take_data_max (&d->take, &in), from;

  if (d->pass_kind != PASS_COPY || d->take_pending || d->stopped)
    return;
  if (keep < least)
    keep = least;
  from = copier_give_back (d->copier, keep);
  if (from >= d->cursor)
    return;
  d->cursor = from;
  d->swept = false;
  take_data (&d->take, &in);
}

static bool
has_enough (const struct disk *d)
{
  const uint64_t bytes =
    d->pass_kind == PASS_COPY ? d->take.bytes : COMPARE_BYTES;

  return copier_backlog (d->copier) > bytes / 2;
}

/* What went back is told before more is taken: it is to be taken again. */
void
disk_feed (struct disk *d)
{
  if (d->begun && d->settings->failure->stop == STOP_NO)
    give_back_data (d);
  if (!d->begun || d->swept || d->take_pending ||
      d->settings->failure->stop != STOP_NO || d->failed.n > 0 ||
      has_enough (d))
    return;
  if (d->pass_kind != PASS_COPY) {
    compare_more (d);
    return;
  }
  d->take_pending = true;
  control_send (d->control, "take",
                json_pack ("{s:I, s:I, s:b, s:b}", "cursor",
                           (json_int_t)d->cursor, "max_bytes",
                           (json_int_t)next_take_bytes (d), "new_round",
                           (int)d->new_round, "not_hot", (int)d->not_hot),
                NULL, 0, taken, d);
  d->new_round = false;
}

uint64_t
disk_remaining_bytes (const struct disk *d)
{
  const uint64_t since = d->copied_bytes - d->told_bytes;

  return d->remaining_bytes > since ? d->remaining_bytes - since : 0;
}

/* It hears what is reported in that order. */
void
disk_ask_status (struct disk *d)
{
  d->told_bytes = d->reported_bytes;
}

static enum mirror_state
parse_mirror_state (const char *text)
{
  if (text == NULL || strcmp (text, "off") == 0 || strcmp (text, "ending") == 0)
    return MIRROR_OFF;
  return strcmp (text, "on") == 0 ? MIRROR_ON : MIRROR_STARTING;
}

static enum mirror_state
mirror_of (const json_t *status)
{
  const json_t *mirror = json_object_get (status, "mirror");

  return parse_mirror_state (
    json_string_value (json_object_get (mirror, "state")));
}

bool
disk_is_mirrored (const json_t *status)
{
  return mirror_of (status) == MIRROR_ON;
}

static void
note_load (struct disk_load *l, const json_t *status)
{
  const json_t *mirror = json_object_get (status, "mirror");
  const json_t *throttle = json_object_get (status, "throttle");

  protocol_get_u64 (status, "changed_bytes_per_second", &l->write_rate);
  protocol_get_u64 (status, "touched_bytes_per_second", &l->touch_rate);
  protocol_get_u64 (status, "redirtied_bytes_per_second", &l->redirty_rate);
  protocol_get_u64 (status, "guest_bytes", &l->guest_bytes);
  protocol_get_u64 (status, "hot_bytes", &l->hot_bytes);
  l->mirror = mirror_of (status);
  if (mirror != NULL) {
    protocol_get_u64 (mirror, "demotions", &l->demotions);
    protocol_get_u64 (mirror, "writes", &l->mirrored_writes);
    protocol_get_u64 (mirror, "not_mirrored_writes", &l->not_mirrored_writes);
  }
  if (throttle != NULL)
    protocol_get_u64 (throttle, "bytes_per_second", &l->throttle);
}

static void
note_latency (struct disk *d, const json_t *latency)
{
  struct disk_latency *const r = &d->guest_reads, *const w = &d->guest_writes;

  if (latency == NULL)
    return;
  protocol_get_u64 (latency, "reads", &r->requests);
  protocol_get_u64 (latency, "reads_us", &r->mean_us);
  protocol_get_u64 (latency, "reads_99_us", &r->most_us);
  protocol_get_u64 (latency, "writes", &w->requests);
  protocol_get_u64 (latency, "writes_us", &w->mean_us);
  protocol_get_u64 (latency, "writes_99_us", &w->most_us);
}

void
disk_note_status (struct disk *d, const json_t *status)
{
  note_load (&d->load, status);
  note_latency (d, json_object_get (status, "guest_latency"));
  protocol_get_u64 (status, "remaining_bytes", &d->remaining_bytes);
  protocol_get_u64 (status, "quarantined_bytes", &d->quarantined_bytes);
  protocol_get_u64 (status, "quarantine_ms", &d->quarantine_ms);
  protocol_get_u64 (status, "old_connections", &d->old_connections);
  protocol_get_u64 (status, "unanswered_ms", &d->unanswered_ms);
  protocol_get_u64 (status, "source_late_ms", &d->source_late_ms);
  protocol_get_u64 (status, "record_us", &d->record_us);
  protocol_get_u64 (status, "dirty_bytes_per_second", &d->dirty_rate);
}

bool
disk_waits_for_late_writes (const struct disk *d)
{
  return d->quarantined_bytes > 0 &&
         (d->quarantine_ms > 0 || d->old_connections > 0);
}

/* ---- reporting --------------------------------------------------------- */

uint64_t
disk_unverified_bytes (const struct disk *d)
{
  const struct bitmap *b = &d->unverified;
  const uint64_t over = b->bits * d->chunk_bytes - d->disk_bytes;

  if (b->set == 0)
    return 0;
  return b->set * d->chunk_bytes - (bitmap_test (b, b->bits - 1) ? over : 0);
}

static void
note_verified (struct disk *d, uint64_t offset, uint64_t length, bool verified)
{
  const uint64_t first = offset / d->chunk_bytes;
  const uint64_t end = (offset + length + d->chunk_bytes - 1) / d->chunk_bytes;

  if (!d->settings->options->verify)
    return;
  if (verified)
    bitmap_clear (&d->unverified, first, end - first);
  else
    bitmap_set (&d->unverified, first, end - first);
}

void
disk_part_ended (void *opaque, uint64_t offset, uint64_t length,
                 enum copy_outcome outcome)
{
  struct disk *d = opaque;
  struct extents *e = NULL;

  switch (outcome) {
  case COPY_SKIPPED: /* what is promised of the destination is verified, too */
    note_verified (d, offset, length, false);
    d->copied_bytes += length;
    e = &d->skipped;
    break;
  case COPY_DONE:
    note_verified (d, offset, length, false);
    d->copied_bytes += length;
    e = &d->done;
    break;
  case COPY_FAILED:
    e = &d->failed;
    break;
  case COPY_UNKNOWN:
    e = &d->unknown;
    break;
  case COPY_EQUAL:
    note_verified (d, offset, length, true);
    e = &d->equal;
    break;
  case COPY_DIFFERENT:
    e = &d->different;
    break;
  }
  if (extents_append (e, offset, length, false) == -1)
    no_memory (); /* a lease must not be forgotten */
}

static void
reported (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->reports_pending--;
  if (a->value == NULL)
    failure_note_for_good (d->settings->failure,
                           "reporting copied chunks of %s: %s", d->pair->source,
                           a->desc);
}

const char *
disk_wrong_hint (const struct disk *d)
{
  struct copier_stats s;

  if (d->base != NULL)
    return "; is --shared-base that of this disk, and are the destination's "
           "backing images the same as the source's?";
  if (d->settings->options->destination_is_zero)
    return "; was the whole destination zero, as --destination-is-zero says?  "
           "If not, leave that option out";
  copier_get_stats (d->copier, &s);
  if (s.blank_bytes > 0)
    return "; does its server say that something reads as zeroes which does "
           "not?";
  if (d->resumed)
    return "; it did not keep what an earlier run wrote, or somebody else has "
           "written there since";
  return "";
}

/* Where no guest wrote meanwhile, a difference is the destination's fault.  In
 * quarantine it is what was feared and is copied again; after our own flushed
 * copy it means that the destination does not keep what it is given.
 */
static void
compared (void *opaque, const struct control_answer *a)
{
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *d = opaque;
  const char *hint = disk_wrong_hint (d);
  const char *why;

  reported (opaque, a);
  if (a->value == NULL || d->pass_kind != PASS_VERIFY)
    return;
  if (protocol_parse_extents (json_object_get (a->value, "wrong"), &wrong,
                              &why) == -1)
    failure_note_for_good (d->settings->failure, "verifying %s: %s",
                           d->pair->source, why);
  else if (wrong.n > 0) {
    d->distrusted = true;
    failure_note_for_good (
      d->settings->failure,
      "verifying %s: the destination %s returns other bytes than "
      "%s, at offset %" PRIu64 " (%" PRIu64 " bytes)%s; the next "
      "run copies everything",
      d->pair->source, d->pair->destination,
      *hint ? "the source" : "were written", wrong.v[0].offset,
      wrong.v[0].length, hint);
  }
}

/* At most PROTOCOL_EXTENTS_MAX ranges a line. */
static void
report (struct disk *d, struct extents *e, const char *command,
        const char *flag, bool value)
{
  struct extents part;
  size_t i;

  extents_normalise (e);
  for (i = 0; i < e->n; i += PROTOCOL_EXTENTS_MAX) {
    const size_t left = e->n - i;
    json_t *args;

    part = (struct extents){ .v = e->v + i,
                             .n = left < PROTOCOL_EXTENTS_MAX
                                    ? left
                                    : PROTOCOL_EXTENTS_MAX };
    args = json_pack ("{s:o, s:I}", "extents", protocol_extents (&part, false),
                      "epoch", (json_int_t)d->epoch);
    if (args == NULL ||
        (flag != NULL &&
         json_object_set_new (args, flag, json_boolean (value)) == -1))
      no_memory (); /* the filter would take it for another report */
    d->reports_pending++;
    control_send (d->control, command, args, NULL, 0,
                  e == &d->different ? compared : reported, d);
  }
  extents_clear (e);
}

/* While an answer is out, too, ended parts collect and merge: the slower the
 * filter, the fewer the messages.
 */
void
disk_report (struct disk *d)
{
  const int64_t now = loop_now_us ();

  if (d->reports_pending > 0 ||
      (now < d->next_report_us && !copier_has_ended_all (d->copier)))
    return;
  d->next_report_us = now + REPORT_US;
  d->reported_bytes = d->copied_bytes;
  extents_normalise (&d->done);
  latest_copied (&d->latest_places, &d->done);
  report (d, &d->skipped, "done", "skipped", true);
  report (d, &d->done, "done", NULL, false);
  report (d, &d->failed, "failed", "unknown", false);
  report (d, &d->unknown, "failed", "unknown", true);
  report (d, &d->equal, "compared", "equal", true);
  report (d, &d->different, "compared", "equal", false);
}
