/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast it would be is guessed from some reads at both ends: a destination
 * cannot be written to for that.  So zeroes count as fast as data there, and
 * what is told is the best that can be expected.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/say.h"
#include "disks/drive.h"
#include "protocol.h"
#include "run/check.h"
#include "run/migration.h"
#include "show/events.h"
#include "trust/look.h"
#include "trust/map.h"
#include "units.h"

/* At each end, in this time. */
#define READS 48
#define READ_BYTES (256 * 1024)
#define READS_US (INT64_C (1) * 1000000)

/* For so long at least it is looked at what guests write. */
#define WATCH_US (INT64_C (1) * 1000000)

/* As converge.c has it. */
#define ROUND_TRIPS 8

/* ---- what is to be copied ---------------------------------------------- */

static const json_t *
member (const json_t *o, const char *name)
{
  return json_object_get (o, name);
}

/* What the run before left out it may have left out for this one. */
static bool
is_promise_kept (const struct disk *d, const json_t *status)
{
  const char *before = json_string_value (member (status, "promise"));
  CLEANUP_FREE char *now = disk_promise (d);

  return before == NULL || *before == '\0' || strcmp (before, now) == 0;
}

/* The earlier work that this run would go on with, as the filter decides at
 * 'begin'; NULL: none.
 */
static const char *
earlier_work (const struct disk *d, const json_t *status)
{
  const struct options *o = d->disks->options;
  const char *end = json_string_value (member (status, "last_end"));
  const char *to = json_string_value (member (status, "destination"));

  if (end == NULL || to == NULL || strcmp (to, d->pair->destination) != 0 ||
      !json_is_true (member (status, "tracking")))
    return NULL;
  if (strcmp (end, "interrupted") == 0 && !o->restart)
    return is_promise_kept (d, status) ? "interrupted" : NULL;
  return strcmp (end, "detached") == 0 && o->incremental ? "detached" : NULL;
}

/* Of what was looked at, that much is data. */
static uint64_t
data_bytes (struct disk *d)
{
  CLEANUP_EXTENTS struct extents data = EXTENTS_EMPTY;
  const uint64_t seen = map_data (d->disks, d->source, d->disk_bytes, &data);
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < data.n; ++i)
    bytes += data.v[i].length;
  if (seen == 0)
    return d->disk_bytes;
  return seen == d->disk_bytes
           ? bytes
           : (uint64_t)((double)bytes / (double)seen * (double)d->disk_bytes);
}

static int
plan_disk (struct disk *d, struct plan_disk *p)
{
  const char *why = NULL;

  if (drive_ask (d, "status", CONTROL_NO_ARGUMENTS) == -1)
    why = d->answer.desc;
  else if (json_is_true (member (d->answer.value, "session")))
    why = "another migration of this disk is running";
  if (why != NULL) {
    failure_note (&d->disks->failure, "checking %s: %s", d->pair->source, why);
    return -1;
  }
  *p = (struct plan_disk){
    .source = d->pair->source,
    .destination = d->pair->destination,
    .disk_bytes = d->disk_bytes,
    .goes_on = earlier_work (d, d->answer.value),
  };
  if (p->goes_on != NULL)
    protocol_get_u64 (d->answer.value, "remaining_bytes", &p->copy_bytes);
  else
    p->copy_bytes = data_bytes (d);
  protocol_get_u64 (d->answer.value, "record_us", &d->record_us);
  return 0;
}

/* ---- how fast ---------------------------------------------------------- */

static void
add_reads (struct disks *disks, struct looks *p, const struct endpoint *e,
           uint64_t disk_bytes)
{
  uint32_t bytes = READ_BYTES;
  unsigned i;

  if (bytes > e->maximum_bytes)
    bytes = e->maximum_bytes;
  if (bytes > disk_bytes)
    bytes = (uint32_t)disk_bytes;
  for (i = 0; i < READS && bytes > 0; ++i)
    looks_add (p, LOOK_READ, e, NULL,
               random_below (&disks->random, disk_bytes - bytes + 1), bytes,
               NULL);
}

/* Bytes per second, 0: not known.  -1 after failure_note. */
static int
measure_reads (struct migration *m, bool source, uint64_t *rate)
{
  const int64_t begin_us = loop_now_us ();
  CLEANUP_LOOKS struct looks p = LOOKS_EMPTY;
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    add_reads (&m->disks, &p,
               source ? m->disks.v[i].source : m->disks.v[i].destination,
               m->disks.v[i].disk_bytes);
  p.until_us = begin_us + READS_US;
  if (looks_run (&m->disks, &p) == -1)
    return -1;
  for (i = 0; i < p.n; ++i)
    bytes += p.v[i].state == LOOK_ENDED ? p.v[i].bytes : 0;
  *rate = bytes * 1000000 / (uint64_t)(loop_now_us () - begin_us + 1);
  return 0;
}

/* Of all destinations at once, as in the pause. */
static int
measure_flush (struct migration *m, uint64_t *us)
{
  const int64_t begin_us = loop_now_us ();
  CLEANUP_LOOKS struct looks p = LOOKS_EMPTY;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    looks_add (&p, LOOK_FLUSH, m->disks.v[i].destination, NULL, 0, 0, NULL);
  if (looks_run (&m->disks, &p) == -1)
    return -1;
  *us = (uint64_t)(loop_now_us () - begin_us);
  return 0;
}

/* What guests have written so far; *us: how long asking for it took. */
static int
count_writes (struct migration *m, uint64_t *bytes, uint64_t *us)
{
  const int64_t begin_us = loop_now_us ();
  size_t i;

  *bytes = 0;
  if (drive_ask_all (&m->disks, "status", NULL) == -1) {
    drive_fail_refused (&m->disks, "asking for the state of");
    return -1;
  }
  for (i = 0; i < m->disks.n; ++i) {
    const json_t *guest = member (m->disks.v[i].answer.value, "guest");
    uint64_t written = 0;

    protocol_get_u64 (guest, "written_bytes", &written);
    *bytes += written;
  }
  *us = (uint64_t)(loop_now_us () - begin_us);
  return 0;
}

static uint64_t
lowest (uint64_t a, uint64_t b)
{
  return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Everything is measured while guests are watched, so that nothing waits for
 * nothing.
 */
static int
measure_all (struct migration *m, struct plan *p)
{
  const int64_t begin_us = loop_now_us ();
  uint64_t before, after, from = 0, to = 0, flush_us = 0, trip_us = 0;
  size_t i;

  if (count_writes (m, &before, &trip_us) == -1 ||
      measure_reads (m, true, &from) == -1 ||
      measure_reads (m, false, &to) == -1 || measure_flush (m, &flush_us) == -1)
    return -1;
  while (m->disks.failure.stop == STOP_NO &&
         loop_now_us () - begin_us < WATCH_US)
    drive (&m->disks, 100);
  if (count_writes (m, &after, &trip_us) == -1)
    return -1;
  p->guest_rate =
    (after - before) * 1000000 / (uint64_t)(loop_now_us () - begin_us);
  p->rate = lowest (lowest (from, to), m->disks.bucket.rate);
  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].record_us > p->pause_us)
      p->pause_us = m->disks.v[i].record_us;
  p->pause_us += flush_us + ROUND_TRIPS * trip_us;
  return m->disks.failure.stop == STOP_NO ? 0 : -1;
}

/* ---- telling ----------------------------------------------------------- */

static void
say_disk (const struct plan_disk *p, bool incremental)
{
  const bool rest =
    p->goes_on != NULL && strcmp (p->goes_on, "interrupted") == 0;
  char size[UNITS_TEXT_MAX], copy[UNITS_TEXT_MAX];

  say_info ("%s to %s: a disk of %s, of which %s%s are to be copied%s",
            p->source, p->destination, units_format_bytes (size, p->disk_bytes),
            p->goes_on == NULL ? "about " : "",
            units_format_bytes (copy, p->copy_bytes),
            rest                 ? ", the rest of a run"
            : p->goes_on != NULL ? " since the detach"
            : incremental        ? ": there is no detach to it to go on from"
                                 : "");
}

static void
say_plan (const struct migration *m, const struct plan *p)
{
  char rate[UNITS_TEXT_MAX], time[UNITS_TEXT_MAX], guest[UNITS_TEXT_MAX];
  char pause[UNITS_TEXT_MAX], limit[UNITS_TEXT_MAX];
  size_t i;

  for (i = 0; i < p->nr_disks; ++i)
    say_disk (&p->disks[i], m->disks.options->incremental);
  if (p->rate > 0)
    say_info ("expected: %s at best, with %s/s; guests write %s/s%s",
              units_format_ms (time, p->expected_ms),
              units_format_bytes (rate, p->rate),
              units_format_bytes (guest, p->guest_rate),
              p->guest_rate >= p->rate
                ? ", which is too fast for the copy: see --converge"
                : "");
  say_info ("expected: a pause of %s, without what guests write then; "
            "--max-pause is %s%s",
            units_format_ms (pause, p->pause_us / 1000),
            units_format_ms (limit, m->disks.max_pause_ms),
            p->pause_us / 1000 > m->disks.max_pause_ms
              ? ", which is too short for that"
              : "");
  say_info ("all checks have passed; nothing was changed");
}

static int
make_plan (struct migration *m, struct plan *p)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    if (plan_disk (&m->disks.v[i], &p->disks[p->nr_disks++]) == -1)
      return -1;
    p->copy_bytes += p->disks[i].copy_bytes;
  }
  if (measure_all (m, p) == -1)
    return -1;
  p->expected_ms =
    p->rate > 0 ? (uint64_t)((double)p->copy_bytes * 1000 / (double)p->rate)
                : SNAPSHOT_UNKNOWN;
  return 0;
}

int
check_run (struct migration *m)
{
  CLEANUP_FREE struct plan_disk *disks = calloc (m->disks.n, sizeof *disks);
  struct plan p = { .disks = disks };

  if (disks == NULL) {
    failure_note (&m->disks.failure, "no memory to check the disks");
    return EXIT_FAILED;
  }
  if (make_plan (m, &p) == -1)
    return EXIT_FAILED;
  event_checked (&p);
  say_plan (m, &p);
  return EXIT_DONE;
}
