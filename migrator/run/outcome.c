/* SPDX-License-Identifier: BSD-3-Clause */
/* The answer to a commit was lost: ask what became of it (R11).
 *
 * If only the connection broke, the filter may still have the command before
 * it: that there is no commit is known only when our session is over.  If the
 * proxy died, its owner record tells, once the proxy was started again: who
 * watches over it usually does that within seconds, so it is asked for as long.
 *
 * Meanwhile other disks may be recorded and wait for what we find out, so that
 * they can be taken back (R10): their sessions must not fall silent.  So all
 * waiting goes on in the event loop, heartbeats included, but for what opens a
 * connection; that is kept far below the time after which a session ends.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "disks/drive.h"
#include "run/outcome.h"

#define ASK_US (INT64_C (5) * 1000000)
#define ANSWER_US (INT64_C (2) * 1000000)
#define GREETING_MS 1000
#define EXPORT_S 2

/* A new proxy knows only the exports that somebody has opened there. */
static void
open_export (struct disk *d)
{
  const struct itimerspec limit = { .it_value.tv_sec = EXPORT_S };
  const struct connection_options none = { 0 };
  const int timer = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC);
  struct endpoint *e;
  char *why;

  if (timer == -1)
    return;
  if (timerfd_settime (timer, 0, &limit, NULL) == 0) {
    e = endpoint_open (&d->disks->loop, d->pair->source, &none, timer, &why);
    free (why);
    endpoint_close (e);
  }
  close (timer);
}

/* As control_wait, while everything else goes on.  A heartbeat that was sent
 * before may have waited for longer: that is no reason not to ask.
 */
static void
ask (struct disk *d, const char *command, json_t *arguments,
     struct control_answer *a)
{
  const int64_t deadline_us = loop_now_us () + ANSWER_US;

  control_ask (d->control, command, arguments, a);
  do {
    drive (d->disks, 100);
    if (!a->done && loop_now_us () >= deadline_us)
      control_give_up (d->control, "the proxy did not answer in time");
  } while (!a->done);
}

static int
attach (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  ask (d, "attach", json_pack ("{s:s}", "export", d->source->export_name), &a);
  return a.value != NULL ? 0 : -1;
}

/* A new control connection; -1: it cannot be had now. */
static int
connect_again (struct disk *d)
{
  char *why;

  control_close (d->control);
  d->control =
    control_open (&d->disks->loop, d->control_path, GREETING_MS, &why);
  free (why);
  if (d->control == NULL)
    return -1;
  if (attach (d) == 0)
    return 0;
  open_export (d);
  return attach (d);
}

static bool
is_committed (enum finish finish, const char *owner, const char *last_end)
{
  switch (finish) {
  case FINISH_PIVOT:
    return strcmp (owner, "destination") == 0;
  case FINISH_HANDOVER:
    return strcmp (owner, "fenced") == 0;
  case FINISH_DETACH:
    return strcmp (last_end, "detached") == 0;
  }
  abort ();
}

/* Where there is no commit, a session that is not ours any more may still make
 * one.
 */
static enum outcome
judge (const struct disk *d, const json_t *status)
{
  const char *owner = json_string_value (json_object_get (status, "owner"));
  const char *end = json_string_value (json_object_get (status, "last_end"));

  if (owner == NULL || end == NULL)
    return OUTCOME_LOST;
  if (is_committed (d->disks->finish, owner, end))
    return OUTCOME_COMMITTED;
  if (strcmp (owner, "source") != 0)
    return OUTCOME_UNKNOWN;
  return d->begun || json_is_false (json_object_get (status, "session"))
           ? OUTCOME_REFUSED
           : OUTCOME_LOST;
}

static void
note_owner (struct disk *d, const json_t *status)
{
  const char *owner = json_string_value (json_object_get (status, "owner"));

  free (d->owner);
  d->owner = owner ? strdup (owner) : NULL;
}

static void
ask_once (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer status = { 0 };

  if (!disk_is_connected (d)) {
    d->begun = false; /* the session ended with its connection */
    if (connect_again (d) == -1)
      return;
  }
  ask (d, "status", CONTROL_NO_ARGUMENTS, &status);
  d->outcome = judge (d, status.value);
  note_owner (d, status.value);
}

/* Ask all of whom it is not known; whether there still is one. */
static bool
ask_lost (struct disks *disks, int64_t deadline_us)
{
  bool lost = false;
  size_t i;

  for (i = 0; i < disks->n; ++i) {
    struct disk *d = &disks->v[i];

    if (d->outcome != OUTCOME_LOST)
      continue;
    if (loop_now_us () < deadline_us)
      ask_once (d);
    lost |= d->outcome == OUTCOME_LOST;
  }
  return lost;
}

void
outcome_ask_lost (struct disks *disks)
{
  const int64_t deadline_us = loop_now_us () + ASK_US;

  while (ask_lost (disks, deadline_us) && loop_now_us () < deadline_us)
    drive (disks, 100);
}

void
outcome_ask_all (struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    disks->v[i].outcome = OUTCOME_LOST;
  outcome_ask_lost (disks);
}
