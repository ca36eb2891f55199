/* SPDX-License-Identifier: BSD-3-Clause */
/* What the destination is believed, and how that is looked into.
 *
 *   before anything is left out     --destination-is-zero is somebody's word
 *   before a run goes on            what an earlier one copied may be gone
 *   before the commit               it may not hold what it was given
 *
 * Each is a sample: random places, more of them where it tells most.  A promise
 * is broken as a rule in large parts (another image, an empty one, a disk of
 * its own for each client), so some dozens of places find it; --verify is for
 * single bytes.  The seed is told, so that a run can be repeated.
 */

#include <inttypes.h>
#include <string.h>

#include "cleanup.h"
#include "trust/map.h"
#include "run/migration.h"
#include "trust/sample.h"

#define ZERO_ANYWHERE 64 /* places of a disk, wherever they are */
#define ZERO_DATA 192    /* where the destination says that there is data */
#define EARLIER_ANYWHERE 64
#define EARLIER_DATA 192   /* where the source says so */
#define COPIED_ANYWHERE 32 /* and EVIDENCE_KEPT of what was copied as data */

/* ---- where to look ----------------------------------------------------- */

static void
add_anywhere (struct sample *s, struct disk *d, unsigned n)
{
  while (n-- > 0)
    sample_add (s, d, random_below (&d->m->random, d->disk_bytes), false);
}

/* Where there is said to be data. */
static void
add_data (struct sample *s, struct disk *d, const struct extents *data,
          unsigned n)
{
  const uint64_t bytes = extents_bytes (data);

  while (bytes > 0 && n-- > 0)
    sample_add (s, d, map_byte (data, random_below (&d->m->random, bytes)),
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
  CLEANUP_SAMPLE struct sample s = { .m = d->m, .lease = SAMPLE_DIRTY };
  CLEANUP_EXTENTS struct extents data = EXTENTS_EMPTY;
  int result;
  size_t i;

  add_anywhere (&s, d, ZERO_ANYWHERE);
  map_data (d->m, d->destination, d->disk_bytes, &data);
  add_data (&s, d, &data, ZERO_DATA);
  result = sample_read (&s);
  for (i = 0; result == 0 && i < s.n; ++i)
    if (breaks_promise (&s.v[i])) {
      failure_note (
        &d->m->failure,
        "the destination %s is not zero, as --destination-is-zero "
        "says: at offset %" PRIu64 " (%u bytes), where the source %s "
        "is zero and nothing would be written, it holds something "
        "else; leave that option out, or make the destination anew",
        d->pair->destination, s.v[i].offset, s.v[i].bytes, d->pair->source);
      result = -1;
    }
  return sample_give_back (&s, NULL, NULL, NULL) == -1 ? -1 : result;
}

/* ---- what an earlier run copied ---------------------------------------- */

static int
check_earlier (struct disk *d)
{
  CLEANUP_SAMPLE struct sample s = { .m = d->m, .lease = SAMPLE_CLEAN };
  CLEANUP_EXTENTS struct extents data = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *wrong_disk = NULL;
  int result;

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
    &d->m->failure,
    "the destination %s does not hold what an earlier run copied: in "
    "the chunk at offset %" PRIu64 " (%" PRIu64 " bytes), which would "
    "not be copied again, it differs from the source %s, where nobody "
    "has written since.  Was it replaced, emptied or written to?  If "
    "it is the wrong one, name the right one; otherwise run it again "
    "with --restart, which copies everything",
    d->pair->destination, wrong.v[0].offset, wrong.v[0].length,
    d->pair->source);
  return -1;
}

/* A server that still owes an earlier run an answer is the one that it wrote
 * to; it may not answer questions before (a qemu-nbd in front of it does not
 * always).
 */
int
evidence_before (struct migration *m)
{
  size_t i;

  if (pass_refresh (m) == -1)
    return -1;
  for (i = 0; i < m->nr_disks; ++i) {
    struct disk *d = &m->disks[i];

    if (d->disk_bytes == 0 || d->old_connections > 0)
      continue;
    if (d->resumed && check_earlier (d) == -1)
      return -1;
    if (m->options->destination_is_zero && !d->past_unknown &&
        check_zero (d) == -1)
      return -1;
  }
  return m->failure.stop == STOP_NO ? 0 : -1;
}

/* ---- what this run copied ---------------------------------------------- */

static struct kept *
largest (struct disk *d)
{
  struct kept *most = &d->kept[0];
  unsigned i;

  for (i = 1; i < d->nr_kept; ++i)
    if (d->kept[i].hash > most->hash)
      most = &d->kept[i];
  return most;
}

/* Of all that is written those with the smallest hashes are kept: a choice that
 * does not depend on the order of the answers, nor on how often something is
 * written again, so that the seed repeats it.
 */
void
evidence_note (struct disk *d, uint64_t offset, uint64_t length)
{
  struct kept k = { random_hash (offset, d->m->sample_seed), 0 };
  struct kept *to =
    d->nr_kept < EVIDENCE_KEPT ? &d->kept[d->nr_kept] : largest (d);
  unsigned i;

  if (d->nr_kept == EVIDENCE_KEPT && k.hash >= to->hash)
    return;
  for (i = 0; i < d->nr_kept; ++i)
    if (d->kept[i].hash == k.hash)
      return;
  k.offset = offset + k.hash % ((length + SAMPLE_BYTES - 1) / SAMPLE_BYTES) *
                        SAMPLE_BYTES;
  *to = k;
  if (d->nr_kept < EVIDENCE_KEPT)
    d->nr_kept++;
}

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

  for (i = 0; i < s->m->nr_disks; ++i) {
    struct disk *d = &s->m->disks[i];

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
fail_copied (struct migration *m, const struct disk *d,
             const struct extents *wrong)
{
  const char *hint = disk_wrong_hint (d);

  m->distrusted = true;
  failure_note (
    &m->failure,
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
evidence_copied (struct migration *m)
{
  CLEANUP_SAMPLE struct sample s = {
    .m = m,
    .lease = SAMPLE_CLEAN,
    .over = m->finish == FINISH_PIVOT ? SAMPLE_OVER_RELAY : SAMPLE_OVER_READER,
  };
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *wrong_disk = NULL;
  int result;
  size_t i;

  for (i = 0; i < m->nr_disks; ++i)
    if (m->disks[i].disk_bytes > 0)
      add_copied (&s, &m->disks[i]);
  result = sample_read (&s);
  if (sample_give_back (&s, result == 0 ? sample_differs : NULL, &wrong_disk,
                        &wrong) == -1 ||
      result == -1)
    return -1;
  note_found (&s);
  return wrong_disk == NULL ? 0 : fail_copied (m, wrong_disk, &wrong);
}
