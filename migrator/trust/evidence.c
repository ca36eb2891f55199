/* SPDX-License-Identifier: BSD-3-Clause */
/* What the destination is believed, and how that is looked into.
 *
 *   before anything is left out     --destination-is-zero is somebody's word
 *   before a run goes on            what an earlier one copied may be gone, or
 *                                   be in another copy that takes turns with it
 *   before the commit               it may not hold what it was given
 *   when it was lost and is back    it may be another disk, or an older one
 *
 * Each is a sample: random places, more of them where it tells most.  A promise
 * is broken as a rule in large parts (another image, an empty one, a disk of
 * its own for each client), so some dozens of places find it; --verify is for
 * single bytes.  The seed is told, so that a run can be repeated.
 */

#include <inttypes.h>
#include <string.h>

#include "cleanup.h"
#include "trust/evidence.h"
#include "trust/map.h"
#include "disks/drive.h"
#include "trust/sample.h"

#define ZERO_ANYWHERE 64 /* places of a disk, wherever they are */
#define ZERO_DATA 192    /* where the destination says that there is data */
#define EARLIER_ANYWHERE 64
#define EARLIER_DATA 192 /* where the source says so */
#define LATEST_PLACES 16 /* of each chunk that was copied last */
#define BACK_ANYWHERE 96
#define BACK_SILENT_MAX_US (INT64_C (10) * 1000000)
#define COPIED_ANYWHERE 32 /* and DISK_KEPT of what was copied as data */

_Static_assert(DISK_KEPT_BYTES == SAMPLE_BYTES, "what was kept is one sample");

/* ---- where to look ----------------------------------------------------- */

static void
add_anywhere (struct sample *s, struct disk *d, unsigned n)
{
  while (n-- > 0)
    sample_add (s, d, random_below (&d->disks->random, d->disk_bytes), false);
}

/* Where there is said to be data. */
static void
add_data (struct sample *s, struct disk *d, const struct extents *data,
          unsigned n)
{
  const uint64_t bytes = extents_bytes (data);

  while (bytes > 0 && n-- > 0)
    sample_add (s, d, map_byte (data, random_below (&d->disks->random, bytes)),
                true);
}

/* ---- --destination-is-zero --------------------------------------------- */

static bool
is_zero (const char *data, size_t bytes)
{
  return data[0] == 0 && memcmp (data, data + 1, bytes - 1) == 0;
}

/* What would be left out, and is not zero.  (What was touched is not left out:
 * R18.)
 */
static bool
breaks_promise (const struct spot *p)
{
  return p->read && !p->chunk.touched && is_zero (p->source, p->bytes) &&
         !is_zero (p->destination, p->bytes);
}

static int
check_zero (struct disk *d)
{
  CLEANUP_SAMPLE struct sample s = { .disks = d->disks, .lease = SAMPLE_DIRTY };
  CLEANUP_EXTENTS struct extents data = EXTENTS_EMPTY;
  int result;
  size_t i;

  add_anywhere (&s, d, ZERO_ANYWHERE);
  map_data (d->disks, d->destination, d->disk_bytes, &data);
  add_data (&s, d, &data, ZERO_DATA);
  result = sample_read (&s);
  for (i = 0; result == 0 && i < s.n; ++i)
    if (breaks_promise (&s.v[i])) {
      failure_note (
        &d->disks->failure,
        "the destination %s is not zero, as --destination-is-zero "
        "says: at offset %" PRIu64 " (%u bytes), where the source %s "
        "is zero and nothing would be written, it holds something "
        "else; leave that option out, or make the destination anew",
        d->pair->destination, s.v[i].offset, s.v[i].bytes, d->pair->source);
      result = -1;
    }
  return sample_give_back (&s, NULL, NULL, NULL) == -1 ? -1 : result;
}

/* R6a, R20: of the places that were copied last the first chunk, or as much of
 * it: what a guest has written there may be short.
 */
static void
add_latest (struct sample *s, struct disk *d)
{
  const struct latest_places *p = &d->latest_places.flushed;
  const uint64_t step = d->chunk_bytes > LATEST_PLACES * SAMPLE_BYTES
                          ? d->chunk_bytes / LATEST_PLACES
                          : SAMPLE_BYTES;
  unsigned i;

  for (i = 0; i < p->n; ++i) {
    uint64_t at = p->offsets[i];
    const uint64_t rest = d->disk_bytes - at;
    const uint64_t end = at + (rest < d->chunk_bytes ? rest : d->chunk_bytes);

    for (; at < end; at += step)
      sample_add (s, d, at, true);
  }
}

/* ---- what an earlier run copied ---------------------------------------- */

static int
check_earlier (struct disk *d)
{
  CLEANUP_SAMPLE struct sample s = { .disks = d->disks, .lease = SAMPLE_CLEAN };
  CLEANUP_EXTENTS struct extents data = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *wrong_disk = NULL;
  int result;

  add_latest (&s, d);
  add_anywhere (&s, d, EARLIER_ANYWHERE);
  map_source (d, &data);
  add_data (&s, d, &data, EARLIER_DATA);
  result = sample_read (&s);
  if (sample_give_back (&s, result == 0 ? sample_differs : NULL, &wrong_disk,
                        &wrong) == -1 ||
      result == -1)
    return -1;
  if (wrong_disk == NULL)
    return 0;
  failure_note (
    &d->disks->failure,
    "the destination %s does not hold what an earlier run copied: in "
    "the chunk at offset %" PRIu64 " (%" PRIu64 " bytes), which would "
    "not be copied again, it differs from the source %s, where nobody "
    "has written since.  Was it replaced, emptied or written to, or is it "
    "one of several copies that take turns?  If it is the wrong one, name "
    "the right one; otherwise run it again with --restart%s, which copies "
    "everything",
    d->pair->destination, wrong.v[0].offset, wrong.v[0].length, d->pair->source,
    d->disks->options->incremental ? " in place of --incremental" : "");
  return -1;
}

/* A server that still owes an earlier run an answer is the one that it wrote
 * to; it may not answer questions before (a qemu-nbd in front of it does not
 * always).
 */
int
evidence_before (struct disks *disks)
{
  size_t i;

  if (drive_refresh (disks) == -1)
    return -1;
  for (i = 0; i < disks->n; ++i) {
    struct disk *d = &disks->v[i];

    if (d->disk_bytes == 0 || d->old_connections > 0)
      continue;
    if (d->resumed && check_earlier (d) == -1)
      return -1;
    if (disks->options->destination_is_zero && !d->past_unknown &&
        check_zero (d) == -1)
      return -1;
  }
  return disks->failure.stop == STOP_NO ? 0 : -1;
}

/* ---- what this run copied ---------------------------------------------- */

static void
add_copied (struct sample *s, struct disk *d)
{
  unsigned i;

  for (i = 0; i < d->nr_kept; ++i)
    sample_add (s, d, d->kept[i].offset, true);
  add_anywhere (s, d, COPIED_ANYWHERE);
}

static void
note_found (struct sample *s)
{
  size_t i;

  for (i = 0; i < s->disks->n; ++i) {
    struct disk *d = &s->disks->v[i];

    d->sampled_places = 0;
    d->sampled_bytes = 0;
    d->sampled_over = sample_is_over_relay (s, d)    ? "proxy"
                      : disk_reader (d) == d->reader ? "reader"
                                                     : "writer";
  }
  for (i = 0; i < s->n; ++i)
    if (s->v[i].read) {
      s->v[i].d->sampled_places++;
      s->v[i].d->sampled_bytes += s->v[i].bytes;
    }
}

static const char *
over_words (const struct disk *d)
{
  return strcmp (d->sampled_over, "proxy") == 0 ? "the proxy's own connections"
         : strcmp (d->sampled_over, "reader") == 0
           ? "a connection that has not written"
           : "the connections that wrote";
}

static int
fail_copied (struct disks *disks, struct disk *d, const struct extents *wrong)
{
  const char *hint = disk_wrong_hint (d);

  d->distrusted = true;
  failure_note_for_good (
    &disks->failure,
    "the destination %s does not hold what it was given: over %s the "
    "chunk at offset %" PRIu64 " (%" PRIu64 " bytes) is not as at the "
    "source %s, where nobody has written since%s; the next run "
    "copies everything",
    d->pair->destination, over_words (d), wrong->v[0].offset,
    wrong->v[0].length, d->pair->source,
    *hint ? hint
          : "; was it replaced or written to by somebody else, or "
            "does its server give each client a disk of its own?");
  return -1;
}

int
evidence_copied (struct disks *disks)
{
  CLEANUP_SAMPLE struct sample s = {
    .disks = disks,
    .lease = SAMPLE_CLEAN,
    .over =
      disks->finish == FINISH_PIVOT ? SAMPLE_OVER_RELAY : SAMPLE_OVER_READER,
  };
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *wrong_disk = NULL;
  int result;
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (disks->v[i].disk_bytes > 0)
      add_copied (&s, &disks->v[i]);
  result = sample_read (&s);
  if (sample_give_back (&s, result == 0 ? sample_differs : NULL, &wrong_disk,
                        &wrong) == -1 ||
      result == -1)
    return -1;
  note_found (&s);
  return wrong_disk == NULL ? 0 : fail_copied (disks, wrong_disk, &wrong);
}

/* ---- a destination that was lost --------------------------------------- */

static int
fail_back (struct disk *d, const struct extents *wrong)
{
  d->distrusted = true;
  failure_note_for_good (
    &d->disks->failure,
    "the destination %s has come back, and does not hold what was flushed "
    "there: the chunk at offset %" PRIu64 " (%" PRIu64 " bytes) is not as at "
    "the source %s, where nobody has written since; nothing was written there "
    "since it is back.  Is it another disk, an empty one, an older state or "
    "copy of it, or does its server not keep what it was asked to flush?  The "
    "next run copies everything",
    d->pair->destination, wrong->v[0].offset, wrong->v[0].length,
    d->pair->source);
  return -1;
}

/* There is time left for another attempt.  In flight are only reads, so that
 * nothing lands late (R17).
 */
static int64_t
back_silent_us (const struct disk *d)
{
  const int64_t third_us = (int64_t)d->disks->options->reconnect_ms * 1000 / 3;

  return third_us < BACK_SILENT_MAX_US ? third_us : BACK_SILENT_MAX_US;
}

int
evidence_back (struct disk *d)
{
  CLEANUP_SAMPLE struct sample s = {
    .disks = d->disks,
    .lease = SAMPLE_CLEAN,
    .silent_us = back_silent_us (d),
  };
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *wrong_disk = NULL;
  unsigned i;
  int result;

  if (d->disk_bytes == 0)
    return 0;
  add_latest (&s, d);
  for (i = 0; i < d->nr_kept; ++i)
    sample_add (&s, d, d->kept[i].offset, true);
  add_anywhere (&s, d, BACK_ANYWHERE);
  result = sample_read (&s);
  if (sample_give_back (&s, result == 0 ? sample_differs : NULL, &wrong_disk,
                        &wrong) == -1 ||
      result == -1)
    return -1;
  return wrong_disk == NULL ? 0 : fail_back (d, &wrong);
}
