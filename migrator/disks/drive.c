/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <string.h>

#include "disks/drive.h"
#include "base/say.h"

/* Nobody who looks on waits for longer. */
#define ROUND_MS 100

/* A proxy that does not answer for so long counts as lost; longer than the
 * longest gate it may have to wait for.  Who interrupts a migration, or sees it
 * fail, need not wait as long, unless for a commit.
 */
#define ANSWER_TIMEOUT_US (INT64_C (60) * 1000000)
#define INTERRUPTED_TIMEOUT_US (INT64_C (10) * 1000000)

/* ---- a round ----------------------------------------------------------- */

static int64_t
answer_timeout_us (const struct disks *disks)
{
  return disks->failure.stop != STOP_NO && !disks->in_pause
           ? INTERRUPTED_TIMEOUT_US
           : ANSWER_TIMEOUT_US;
}

/* What waits for the copying need not wait any more. */
static void
fail_copying (struct disk *d, const char *error)
{
  if (d->disks->failure.stop == STOP_NO)
    loop_wake_at (&d->disks->loop, 0);
  failure_note (&d->disks->failure, "%s", error);
}

/* It is noted once; then the copier waits for its return. */
static void
lose_destination (struct disk *d, const char *error)
{
  if (reconnect_is_away (d))
    return;
  loop_wake_at (&d->disks->loop, 0);
  reconnect_note_loss (d, error);
}

static void
run_disk (struct disk *d, int64_t now)
{
  const char *error;

  if (!d->begun)
    return;
  disk_feed (d);
  copier_run (d->copier);
  error = copier_error (d->copier);
  if (error != NULL && copier_has_lost (d->copier))
    lose_destination (d, error);
  else if (error != NULL)
    fail_copying (d, error);
  disk_report (d);
  checkpoint_run (d, now);
}

/* In turns: who got something of what the rate allows comes last.  (Changing
 * turns in every round is not enough: one disk can always be the first when the
 * bucket has filled.)
 */
static void
run_disks (struct disks *disks, int64_t now)
{
  const size_t first = disks->turn;
  size_t i;

  for (i = 0; i < disks->n; ++i) {
    const size_t turn = (first + i) % disks->n;
    const uint64_t takes = disks->bucket.takes;

    run_disk (&disks->v[turn], now);
    if (disks->bucket.takes != takes)
      disks->turn = (turn + 1) % disks->n;
  }
}

static int
wait_ms (struct disks *disks, int timeout_ms, int64_t now)
{
  int ms = bucket_wait_ms (&disks->bucket, now);

  if (ms > 0 && ms < timeout_ms)
    timeout_ms = ms;
  return timeout_ms < ROUND_MS ? timeout_ms : ROUND_MS;
}

/* A server that is slow is waited for; that it is shall be known, and once,
 * also where further connections to it are an endpoint of their own ('further',
 * or NULL).
 */
static void
watch_silence (const struct disk *d, struct endpoint *e,
               const struct endpoint *further, const char *what, int64_t now)
{
  const char *place = e == d->source ? d->place : NULL;
  int64_t us = endpoint_silent_us (e, now);

  if (further != NULL && endpoint_silent_us (further, now) > us)
    us = endpoint_silent_us (further, now);

  if (us >= ENDPOINT_SILENT_US && !e->silence_said) {
    e->silence_said = true;
    say_info ("the %s %s%s%s%s has answered nothing for %d s: waiting for it",
              what, e->uri, place ? " (the disk is at " : "",
              place ? place : "", place ? ")" : "", (int)(us / 1000000));
  }
  else if (us < ENDPOINT_SILENT_US && e->silence_said) {
    e->silence_said = false;
    if (endpoint_broken (e) == NULL &&
        (further == NULL || endpoint_broken (further) == NULL))
      say_info ("the %s %s answers again", what, e->uri);
  }
}

static void
check_disk (struct disk *d, int64_t now)
{
  const struct {
    struct endpoint *e, *further;
    const char *what;
  } sides[] = {
    { d->source, NULL, "source" },
    { d->destination, d->reader, "destination" },
    { d->base, NULL, "shared base" },
  };
  size_t i;

  /* Before it begins it waits for requests from before, however long. */
  if (d->control != NULL && !d->beginning)
    control_check_timeout (d->control, now, answer_timeout_us (d->disks));
  for (i = 0; i < sizeof sides / sizeof sides[0]; ++i)
    if (sides[i].e != NULL) {
      endpoint_check (sides[i].e, now, d->disks->stopped_us);
      watch_silence (d, sides[i].e, sides[i].further, sides[i].what, now);
    }
  if (d->reader != NULL)
    endpoint_check (d->reader, now, d->disks->stopped_us);
}

/* Only after the sockets were read: an answer that is there has come in time,
 * however long we were stopped ourselves.
 */
static void
check_disks (struct disks *disks, int64_t now)
{
  size_t i;

  if (disks->failure.stop != STOP_NO && disks->stopped_us == 0)
    disks->stopped_us = now;
  for (i = 0; i < disks->n; ++i)
    check_disk (&disks->v[i], now);
}

/* What is much longer than the waiting of a round is no work of ours. */
static void
note_round (struct disks *disks, int64_t now)
{
  const int64_t us = now - disks->round_us;

  if (disks->round_us != 0 && us > disks->longest_us)
    disks->longest_us = us;
  disks->round_us = disks->n > 0 && disks->v[disks->n - 1].begun ? now : 0;
}

void
drive (struct disks *disks, int timeout_ms)
{
  int64_t now = loop_now_us ();

  note_round (disks, now);
  disks->before_round (disks, now);
  run_disks (disks, now);
  if (loop_run_once (&disks->loop, wait_ms (disks, timeout_ms, now)) == -1)
    failure_note (&disks->failure, "poll: %s", strerror (errno));
  now = loop_now_us ();
  check_disks (disks, now);
  disks->after_round (disks, now);
}

/* ---- questions --------------------------------------------------------- */

static bool
all_answered (const struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (!disks->v[i].answer.done)
      return false;
  return true;
}

int
drive_ask_all (struct disks *disks, const char *command,
               drive_arguments *arguments)
{
  size_t i;

  for (i = 0; i < disks->n; ++i) {
    struct disk *d = &disks->v[i];

    control_answer_clear (&d->answer);
    control_ask (d->control, command,
                 arguments ? arguments (d) : CONTROL_NO_ARGUMENTS, &d->answer);
  }
  while (!all_answered (disks))
    drive (disks, 1000);
  return drive_refused (disks) == NULL ? 0 : -1;
}

int
drive_ask (struct disk *d, const char *command, json_t *arguments)
{
  control_answer_clear (&d->answer);
  control_ask (d->control, command, arguments, &d->answer);
  while (!d->answer.done)
    drive (d->disks, 1000);
  return d->answer.value != NULL ? 0 : -1;
}

struct disk *
drive_refused (struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (disks->v[i].answer.done && disks->v[i].answer.value == NULL)
      return &disks->v[i];
  return NULL;
}

void
drive_fail_refused (struct disks *disks, const char *doing)
{
  const struct disk *d = drive_refused (disks);

  if (d != NULL)
    failure_note (&disks->failure, "%s %s: %s", doing, d->pair->source,
                  d->answer.desc);
}

bool
drive_refused_with (const struct disk *d, const char *error_class)
{
  return d->answer.error_class != NULL &&
         strcmp (d->answer.error_class, error_class) == 0;
}

int
drive_refresh (struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    disk_ask_status (&disks->v[i]);
  if (drive_ask_all (disks, "status", NULL) == -1) {
    drive_fail_refused (disks, "asking for the state of");
    return -1;
  }
  for (i = 0; i < disks->n; ++i)
    disk_note_status (&disks->v[i], disks->v[i].answer.value);
  return 0;
}
