/* SPDX-License-Identifier: BSD-3-Clause */
/* The phases of a migration, in order:
 *
 *   connect and check -> begin -> bulk pass -> dirty passes -> cut-over
 *
 * Nothing is written before all destinations have passed all checks.  Until
 * the cut-over every failure leaves the guests on their sources (R11).
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "base/no-memory.h"
#include "base/output.h"
#include "base/signals.h"
#include "show/events.h"
#include "show/metrics.h"
#include "show/notify.h"
#include "run/migration.h"
#include "run/background.h"
#include "run/check.h"
#include "run/heartbeat.h"
#include "run/hook.h"
#include "run/liveness.h"
#include "run/measure.h"
#include "run/migrate.h"
#include "run/pass.h"
#include "run/recover.h"
#include "run/schedule.h"
#include "run/snapshot.h"
#include "run/tell.h"
#include "run/converge.h"
#include "trust/canary.h"
#include "trust/evidence.h"
#include "trust/digest.h"
#include "trust/tail.h"
#include "show/progress.h"
#include "protocol.h"
#include "base/say.h"
#include "units.h"
#include "uri.h"

/* How long what is still asked of a destination may take after a good end,
 * before its connections are left without a goodbye.
 */
#define GOODBYE_US (INT64_C (1) * 1000000)

/* How long the proxies may take to end their sessions. */
#define END_US (INT64_C (5) * 1000000)

/* What it has to say when all has failed is not worth a long wait. */
#define AWAY_MS 1000

/* How often the progress is shown. */
#define SHOW_US 100000

const char *
phase_name (enum phase phase)
{
  static const char *const names[] = {
    [PHASE_CONNECT] = "connect",  [PHASE_BULK] = "bulk",
    [PHASE_DIRTY] = "dirty",      [PHASE_VERIFY] = "verify",
    [PHASE_LATE] = "late-writes", [PHASE_RECONNECT] = "reconnect",
    [PHASE_READY] = "ready",      [PHASE_FINAL] = "final",
    [PHASE_DIGEST] = "digest",    [PHASE_DONE] = "done",
  };

  return names[phase];
}

void
migrate_enter (struct migration *m, enum phase phase)
{
  struct snapshot s;

  m->phase = phase;
  s = snapshot_of (m);
  event_phase (s.phase, s.pass, s.remaining_bytes);
}

/* ---- output ------------------------------------------------------------ */

static int
open_events (const struct options *options)
{
  CLEANUP_FREE char *why = NULL;
  const int fd = events_open (options->events, &why);

  if (fd == -1 && why == NULL)
    no_memory ();
  if (fd == -1) {
    say_error ("%s", why);
    return -1;
  }
  if (output_open (fd) == -1) {
    say_error ("setting up the output: %s", strerror (errno));
    return -1;
  }
  events_to (fd, options->events);
  return 0;
}

/* What is wrong was said.  A file that cannot be there is a slip, and better
 * found now; what fails later ends no migration.
 */
static int
open_metrics (const struct options *options)
{
  const char *const why = metrics_refused (options->metrics);

  if (why != NULL) {
    say_error ("writing the metrics to %s: %s", options->metrics, why);
    return -1;
  }
  if (!options->check && metrics_open (options->metrics) == -1)
    say_error ("writing the metrics to %s: %s; the migration goes on without "
               "them",
               options->metrics, strerror (errno));
  return 0;
}

/* What is wrong was said. */
static int
open_output (const struct options *options)
{
  if (output_open (STDERR_FILENO) == -1 ||
      (options->json && output_open (STDOUT_FILENO) == -1)) {
    say_error ("setting up the output: %s", strerror (errno));
    return -1;
  }
  if (options->json)
    events_to (STDOUT_FILENO, "stdout");
  if (options->metrics != NULL && open_metrics (options) == -1)
    return -1;
  return options->events != NULL ? open_events (options) : 0;
}

/* Of a reader that does not read this is the end. */
static void
end_output (const struct options *options)
{
  if (options->progress_fd >= 0)
    output_wait (options->progress_fd, OUTPUT_STILL_MS, OUTPUT_END_MS);
  output_wait (STDERR_FILENO, OUTPUT_STILL_MS, OUTPUT_END_MS);
}

/* ---- start and end ----------------------------------------------------- */

/* The server has hung up on the proxy. */
static bool
was_turned_away (const struct disk *d)
{
  return strstr (d->answer.desc, "disconnected unexpectedly") != NULL ||
         strstr (d->answer.desc, "closed the connection") != NULL;
}

/* The filter's answer says what a server needs that lets another client wait.
 * One that admits more may have given all its places to us.
 */
static void
prepare_failed (struct migration *m)
{
  const struct disk *d = drive_refused (&m->disks);
  const unsigned n = d ? d->destination->nr_connections : 0;

  if (n > 1)
    failure_note (
      &m->disks.failure,
      "preparing the cut-over of %s: %s; nbdmigrate holds %u "
      "connections to that server itself: if it admits no more, let "
      "it, or use --connections=%u",
      d->pair->source, d->answer.desc, n, n / 2);
  else if (n == 1 && was_turned_away (d))
    failure_note (
      &m->disks.failure,
      "preparing the cut-over of %s: %s; after a pivot the proxy needs a "
      "connection to that server, besides the one that nbdmigrate holds now: "
      "if it admits one client only, let it admit more; --finish=detach and "
      "--finish=handover do with one",
      d->pair->source, d->answer.desc);
  else
    drive_fail_refused (&m->disks, "preparing the cut-over of");
}

/* Before it begins the proxy waits for what it was asked for earlier (R1, R17).
 */
static void
say_not_begun (const struct disk *d)
{
  const char *source = d->pair->source;
  char ms[UNITS_TEXT_MAX];

  if (d->settle_ms * 1000 > ENDPOINT_SILENT_US)
    say_info ("%s: what an earlier run has sent before the proxy was started "
              "again may still be written: waiting %s for that",
              source, units_format_ms (ms, d->settle_ms));
  else if (d->place != NULL)
    say_info ("%s: %s, where the disk is, has not answered what the proxy has "
              "sent there before: waiting for it",
              source, d->place);
  else
    say_info ("%s: requests of its clients from before have not ended: waiting "
              "for them",
              source);
}

static int
begin_disk (struct disk *d)
{
  const int64_t begin_us = loop_now_us ();
  bool said = false;

  disk_begin (d);
  while (d->beginning && d->disks->failure.stop == STOP_NO) {
    drive (d->disks, 100);
    if (!said && loop_now_us () - begin_us >= ENDPOINT_SILENT_US) {
      said = true;
      say_not_begun (d);
    }
  }
  return disk_check_begun (d);
}

/* Whatever can be asked without a session. */
static int
open_disks (struct migration *m)
{
  struct disks *disks = &m->disks;
  size_t i;

  if (disks_allocate (disks) == -1)
    no_memory ();
  for (i = 0; i < disks->options->nr_pairs; ++i)
    if (disks_open_next (disks) == -1)
      return -1;
  if (disks_check_unique (disks) == -1 || tail_check (disks) == -1)
    return -1;
  for (i = 0; i < disks->n; ++i)
    if (disk_widen (&disks->v[i]) == -1)
      return -1;
  return 0;
}

static int
begin_disks (struct migration *m)
{
  struct disks *disks = &m->disks;
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (begin_disk (&disks->v[i]) == -1)
      return -1;
  if (converge_prepare (m) == -1) {
    prepare_failed (m);
    return -1;
  }
  return evidence_before (disks) == -1 ? -1 : canary_check (disks);
}

static unsigned
unanswered (const struct disk *d)
{
  return (d->destination != NULL ? endpoint_in_flight (d->destination) : 0) +
         (d->reader != NULL ? endpoint_in_flight (d->reader) : 0);
}

/* After a good end these can only be probes. */
static void
await_answers (struct migration *m)
{
  const int64_t deadline_us = loop_now_us () + GOODBYE_US;
  size_t i;

  for (i = 0; i < m->disks.n && m->complete; ++i)
    while (unanswered (&m->disks.v[i]) > 0) {
      const int64_t left_us = deadline_us - loop_now_us ();

      if (left_us <= 0 ||
          loop_run_once (&m->disks.loop, (int)(left_us / 1000)) == -1)
        return;
    }
}

/* The destination is read once more, over these connections. */
static bool
wants_digest (const struct migration *m)
{
  return m->disks.options->digest && m->disks.finish == FINISH_DETACH;
}

static bool
will_digest (const struct migration *m)
{
  return m->complete && wants_digest (m);
}

/* The proxy shuts what it holds of these connections when its session ends,
 * which would cut off a goodbye that comes later.
 */
static void
say_goodbye (struct disk *d)
{
  if (d->destination != NULL)
    endpoint_goodbye (d->destination);
  if (d->reader != NULL)
    endpoint_goodbye (d->reader);
}

static void
ask_to_end (struct disk *d)
{
  const bool forget =
    migration_of (d->disks)->forget || disks_distrusted (d->disks);

  /* A refusal, and no mark was made before that. */
  const bool untouched =
    migration_of (d->disks)->phase == PHASE_CONNECT && d->marked_bytes == 0;

  control_answer_clear (&d->answer);
  d->answer.done = !d->begun || control_broken (d->control) != NULL;
  if (d->answer.done)
    return;
  endpoint_leave (d->destination, true); /* R17 */
  if (forget)
    control_ask (d->control, "abort", CONTROL_NO_ARGUMENTS, &d->answer);
  else
    control_ask (d->control, "end",
                 json_pack ("{s:b}", "untouched", (int)untouched), &d->answer);
}

/* A proxy that does not answer may not be there to wait for anything. */
static void
note_end (struct disk *d)
{
  if (d->begun && d->answer.value == NULL)
    endpoint_leave (d->destination, false);
  d->begun = false;
}

/* End the sessions in good order; tracking goes on unless it is to be
 * forgotten.  All of them at once: no heartbeat goes out any more, and those
 * whose proxy answers must not run out while another one is waited for.
 */
static void
end_sessions (struct migration *m)
{
  int64_t deadline_us;
  size_t i;

  await_answers (m);
  deadline_us = loop_now_us () + END_US;
  for (i = 0; i < m->disks.n; ++i) {
    if (!will_digest (m))
      say_goodbye (&m->disks.v[i]);
    ask_to_end (&m->disks.v[i]);
  }
  for (i = 0; i < m->disks.n; ++i)
    while (!m->disks.v[i].answer.done) {
      const int64_t left_us = deadline_us - loop_now_us ();
      const int ms = left_us > 0 ? (int)(left_us / 1000) : 0;

      if ((loop_run_once (&m->disks.loop, ms) == -1 || left_us <= 0) &&
          !m->disks.v[i].answer.done)
        control_give_up (m->disks.v[i].control,
                         "the proxy did not answer in time");
    }
  for (i = 0; i < m->disks.n; ++i)
    note_end (&m->disks.v[i]);
}

static const char *
what_may_help (const struct migration *m)
{
  if (m->disks.options->explain)
    return "; raise --max-pause or leave out --policy=explain, and run it "
           "again";
  if (m->converge != CONVERGE_AUTO && m->disks.bucket.rate > 0)
    return "; raise --max-pause or --rate, or allow more with --converge, and "
           "run it again, or with --wait until guests write less";
  if (m->converge != CONVERGE_AUTO)
    return "; raise --max-pause or allow more with --converge, and run it "
           "again, or with --wait until guests write less";
  if (m->disks.bucket.rate > 0)
    return "; raise --max-pause or --rate and run it again, or with --wait "
           "until guests write less";
  return "; raise --max-pause and run it again, or with --wait until guests "
         "write less";
}

static const char *
what_next (const struct migration *m, int status)
{
  if (status == EXIT_CANCELLED || m->timed_out)
    return m->disks.options->restart
             ? "; run the same command without --restart to go on"
             : "; run the same command again to go on";
  if (status == EXIT_NOT_CONVERGED && !m->hook_failed)
    return what_may_help (m);
  return "; once that is settled, run it again";
}

/* After a cut-over of which it is not known that it took place everywhere. */
static void
say_unsettled (const struct disk *d)
{
  const char *source = d->pair->source, *destination = d->pair->destination;
  const char *owner = d->owner ? d->owner : "";

  if (strcmp (owner, "source") == 0)
    say_error (
      "the source %s is intact and authoritative; to cut it over, too, "
      "run it again with the pairs of which this is said",
      source);
  else if (strcmp (owner, "destination") == 0)
    say_error ("the destination %s is authoritative; %s %s", destination,
               source,
               uri_is_local (destination) ? "serves it" : "relays to it");
  else if (strcmp (owner, "fenced") == 0)
    say_error ("the destination %s is authoritative; %s is fenced off; as long "
               "as no guest has used the destination, 'nbdmigrate reopen %s' "
               "takes it back",
               destination, source, source);
  else if (strcmp (owner, "unknown") == 0)
    say_error ("which side of %s is authoritative is not known to its proxy, "
               "which serves nobody: settle it with 'nbdmigrate reopen %s "
               "owner=source|destination'",
               source, source);
  else
    say_error ("which side of %s is authoritative is not known: ask with "
               "'nbdmigrate status %s' before any guest is started on %s",
               source, source, destination);
}

static void
say_owner (const struct migration *m, const struct disk *d, int status)
{
  const struct pair *p = d->pair;

  if (status == EXIT_UNKNOWN)
    say_unsettled (d);
  else if (status != EXIT_DONE)
    say_error ("the source %s%s%s%s is intact and authoritative%s", p->source,
               d->place ? " (the disk is at " : "", d->place ? d->place : "",
               d->place ? ")" : "", m->forget ? "" : what_next (m, status));
  else if (m->disks.finish == FINISH_DETACH)
    say_info ("the source %s is authoritative; %s holds the disk as it was "
              "at the pause",
              p->source, p->destination);
  else if (m->disks.finish == FINISH_HANDOVER && uri_is_local (p->destination))
    say_info ("the local image of %s is authoritative; the proxy is fenced off",
              p->source);
  else if (m->disks.finish == FINISH_HANDOVER)
    say_info ("the destination %s is authoritative; %s is fenced off",
              p->destination, p->source);
  else if (uri_is_local (p->destination))
    say_info ("the local image of %s is authoritative, and serves it",
              p->source);
  else
    say_info ("the destination %s is authoritative; %s relays to it",
              p->destination, p->source);
}

/* However it was noticed that the disk is there already. */
static void
say_stays (const struct disk *d)
{
  if (d->place != NULL)
    say_error ("nothing was done: the disk %s stays at %s, which is "
               "authoritative",
               d->pair->source, d->place);
  else
    say_error ("nothing was done: the disk %s stays in the proxy's local "
               "image, which is authoritative",
               d->pair->source);
}

/* The last lines: which side is authoritative, disk by disk. */
static void
say_authority (const struct migration *m, int status)
{
  size_t i;

  for (i = 0; i < m->disks.options->nr_pairs; ++i) {
    const struct pair *p = &m->disks.options->pairs[i];

    if (i < m->disks.n && m->disks.v[i].is_there)
      say_stays (&m->disks.v[i]);
    else if (i < m->disks.n && m->disks.v[i].owned_elsewhere)
      say_error ("the source %s is not authoritative: see 'nbdmigrate status "
                 "%s'",
                 p->source, p->source);
    else if (i < m->disks.n && m->disks.v[i].attached)
      say_owner (m, &m->disks.v[i], status);
    else
      say_error ("nothing was done to %s and %s", p->source, p->destination);
  }
}

static void
say_summary (const struct migration *m)
{
  char copied[UNITS_TEXT_MAX], duration[UNITS_TEXT_MAX];
  size_t i;

  say_info ("%s copied in %u pass%s and %s, pause %.1f ms",
            units_format_bytes (copied, m->meter.copied_bytes), m->passes,
            m->passes == 1 ? "" : "es",
            units_format_ms (duration,
                             (uint64_t)(loop_now_us () - m->started_us) / 1000),
            m->pause.ms);
  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].digest[0] != '\0')
      say_info ("SHA-256 of %s: %s", m->disks.v[i].pair->destination,
                m->disks.v[i].digest);
  if (m->disks.options->digest && m->disks.finish != FINISH_DETACH)
    say_info ("no digest: 'finish' made it end by %s, and a guest may write to "
              "the destination since",
              finish_name (m->disks.finish));
}

/* The digests of the destinations, while nobody writes to them: not if 'finish'
 * chose another end, when a guest may.  The migration is over for everybody
 * else by then, who need not wait for it, nor could change it.
 */
static int
digest_all (struct migration *m)
{
  uint64_t bytes = 0;
  size_t i;

  end_sessions (m);
  for (i = 0; i < m->disks.n; ++i)
    bytes += m->disks.v[i].disk_bytes;
  migrate_enter (m, PHASE_DIGEST);
  measure (m);
  meter_forget_pace (&m->meter);
  meter_start_pass (&m->meter, bytes);
  for (i = 0; i < m->disks.n; ++i)
    if (digest_disk (&m->disks.v[i]) == -1)
      return EXIT_FAILED;
  return EXIT_DONE;
}

static void
say_not_incremental (const struct disk *d)
{
  /* Another destination has ended it, and the next copy there ends that one. */
  static const char one_chain[] =
    "a disk has one chain of incremental copies, and any other migration ends "
    "it; make a second copy from the first one";
  const char *const latest = d->latest ? d->latest : "no memory";

  if (d->no_detach == NULL)
    say_info ("%s was last detached to %s, not to %s: full copy (%s)",
              d->pair->source, latest, d->pair->destination, one_chain);
  else if (d->latest == NULL || strcmp (latest, d->pair->destination) == 0)
    say_info ("%s has no detach to go on from (%s): full copy", d->pair->source,
              d->no_detach);
  else
    say_info ("%s has no detach to go on from (%s; its latest migration went "
              "to %s): full copy (%s)",
              d->pair->source, d->no_detach, latest, one_chain);
}

/* R18: the user's word would not do. */
static void
say_past_unknown (const struct disk *d)
{
  const char *option = d->base != NULL ? "--shared-base"
                       : d->disks->options->destination_is_zero
                         ? "--destination-is-zero"
                         : NULL;

  if (d->past_unknown && option != NULL && !d->resumed)
    say_info ("%s may have been written to before, or nobody knows: %s is not "
              "relied upon, and everything is written",
              d->pair->destination, option);
}

static void
say_resumed (const struct migration *m)
{
  char left[UNITS_TEXT_MAX];
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    say_past_unknown (d);

    if (d->resumed)
      say_info ("%s goes on from the run before: %s left", d->pair->source,
                units_format_bytes (left, d->remaining_bytes));
    else if (m->disks.options->incremental)
      say_not_incremental (d);
  }
}

static void
show_start (const struct migration *m)
{
  CLEANUP_ACCOUNT struct account a = account_of (m);

  event_started (&a);
}

static int
failed (const struct migration *m)
{
  if (m->timed_out)
    return EXIT_NOT_CONVERGED;
  return m->disks.failure.stop == STOP_CANCELLED ? EXIT_CANCELLED : EXIT_FAILED;
}

static int
run (struct migration *m)
{
  bool drained = false;
  int status;

  if (open_disks (m) == -1)
    return failed (m);
  if (m->disks.options->check)
    return check_run (m) == EXIT_DONE ? EXIT_DONE : failed (m);
  if (begin_disks (m) == -1)
    return failed (m);
  show_start (m);
  notify_ready ();
  say_resumed (m);
  migrate_enter (m, PHASE_BULK);
  m->next_heartbeat_us = 0; /* others should not see 'connect' any more */
  status = converge (m);
  if (status == EXIT_FAILED && m->disks.failure.stop == STOP_CANCELLED)
    status = EXIT_CANCELLED;
  if (status != EXIT_DONE && status != EXIT_UNKNOWN)
    drained = pass_drain (m);
  /* What was copied need not be copied again. */
  if (status == EXIT_CANCELLED && drained && !m->forget &&
      !recover_is_waiting (m))
    pass_flush (m);
  if (status == EXIT_CANCELLED && m->timed_out)
    status = EXIT_NOT_CONVERGED;
  if (status == EXIT_DONE) {
    m->complete = true;
    if (wants_digest (m))
      status = digest_all (m);
  }
  if (status == EXIT_DONE)
    migrate_enter (m, PHASE_DONE);
  return status;
}

/* Not only this session of it ended: nobody listens any more. */
static bool
proxy_has_gone (struct disk *d)
{
  struct control *c;
  char *why;

  if (!d->attached || d->control == NULL ||
      (control_broken (d->control) == NULL &&
       endpoint_broken (d->source) == NULL))
    return false;
  c =
    control_open (&d->disks->loop, d->control_path, CONTROL_GREETING_MS, &why);
  control_close (c);
  free (why);
  return c == NULL;
}

/* Nor the server that it relays to. */
static bool
place_is_away (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  if (d->place == NULL || !disk_is_connected (d))
    return false;
  control_wait (d->control, "status", CONTROL_NO_ARGUMENTS, AWAY_MS, &a);
  return json_is_false (
    json_object_get (json_object_get (a.value, "relay"), "up"));
}

/* For so long that its session has ended. */
static bool
stood_still (const struct disk *d)
{
  return d->disks->longest_us >= (int64_t)PROTOCOL_SILENCE_MS * 1000 &&
         d->attached && d->control != NULL &&
         (control_broken (d->control) != NULL ||
          endpoint_broken (d->source) != NULL ||
          endpoint_broken (d->destination) != NULL);
}

static char *
explain (struct disk *d, const char *why)
{
  char *text;
  int r;

  if (proxy_has_gone (d))
    r = asprintf (&text,
                  "the proxy of %s has gone (%s): start it again; the next "
                  "run copies the rest",
                  d->pair->source, why);
  else if (place_is_away (d))
    r = asprintf (&text,
                  "%s, where the disk %s is, is away, and the proxy is "
                  "connecting to it again (%s)",
                  d->place, d->pair->source, why);
  else if (stood_still (d))
    r = asprintf (&text,
                  "this process stood still for %d s (stopped, or without "
                  "a processor), and the proxy of %s ends a session after %d s "
                  "without a sign of life (%s)",
                  (int)(d->disks->longest_us / 1000000), d->pair->source,
                  PROTOCOL_SILENCE_MS / 1000, why);
  else
    return NULL;
  return r == -1 ? NULL : text;
}

/* When a server dies, what is noticed first is one of many requests; what is to
 * be done does not depend on which.
 */
static void
explain_failure (struct migration *m)
{
  const char *before = m->disks.failure.why;
  char *why = NULL;
  size_t i;

  for (i = 0; i < m->disks.n && why == NULL; ++i)
    why = explain (&m->disks.v[i], before ? before : "it does not answer");
  if (why == NULL)
    return;
  free (m->disks.failure.why);
  m->disks.failure.why = why;
}

static void
show_end (struct migration *m, int status)
{
  CLEANUP_ACCOUNT struct account a = account_of (m);
  const struct snapshot s = snapshot_of (m);

  notify_stopping ();
  progress_end (&s, status == EXIT_DONE);
  metrics_end (&s, &a, status);
  if (status == EXIT_DONE)
    event_completed (&a);
  else
    event_failed (&a, status, m->disks.failure.why);
  events_end ();
}

static void
finish (struct migration *m, int status)
{
  end_sessions (m);
  if (m->disks.options->check && status == EXIT_DONE) {
    events_end ();
    return;
  }
  measure (m);
  if (status == EXIT_FAILED && !m->complete)
    explain_failure (m);
  show_end (m, status);
  if (m->complete)
    say_summary (m);
  if (m->disks.failure.why != NULL && status != EXIT_DONE)
    say_error ("%s", m->disks.failure.why);
  if (m->complete && status != EXIT_DONE)
    say_error ("everything is done but the digest; compute it at the "
               "destination, or run it again with --incremental");
  say_authority (m, m->complete ? EXIT_DONE : status);
}

/* ---- looking on -------------------------------------------------------- */

static void
before_round (struct disks *disks, int64_t now_us)
{
  liveness_run (migration_of (disks), now_us);
  rounds_run (migration_of (disks), now_us);
}

/* --timeout: as if it was interrupted, but not in the pause, which is short. */
static void
check_time (struct migration *m, int64_t now_us)
{
  const uint64_t limit_ms = m->disks.options->timeout_ms;
  char text[UNITS_TEXT_MAX];

  if (limit_ms == 0 || m->timed_out || m->complete || m->committing ||
      m->disks.in_pause ||
      (uint64_t)(now_us - m->started_us) / 1000 < limit_ms ||
      !failure_cancel (&m->disks.failure))
    return;
  m->timed_out = true;
  say_error (
    "not cut over within --timeout, %s: letting requests in flight end",
    units_format_ms (text, limit_ms));
}

static void
after_round (struct disks *disks, int64_t now_us)
{
  struct migration *m = migration_of (disks);
  struct snapshot s;

  if (now_us >= m->next_show_us) {
    m->next_show_us = now_us + SHOW_US;
    measure (m);
    s = snapshot_of (m);
    progress_show (&s);
  }
  heartbeat_run (m, now_us);
  background_run (m, now_us);
  tell_run (m, now_us);
  schedule_run (m);
  hook_watch (m, now_us);
  check_time (m, now_us);
}

/* Nobody is asked any more.  After the pause that has committed it is known all
 * the same.
 */
static int
say_last (struct migration *m, int status)
{
  const bool done = m->complete || m->pause.committed;

  if (done)
    status =
      wants_digest (m) && m->phase != PHASE_DONE ? EXIT_FAILED : EXIT_DONE;
  else if (m->may_be_done)
    status = EXIT_UNKNOWN;
  hook_leave (m);
  say_authority (m, done ? EXIT_DONE : status);
  end_output (m->disks.options);
  return status;
}

static int
last_words (void *opaque)
{
  return say_last (opaque, EXIT_FAILED);
}

/* ---- signals ----------------------------------------------------------- */

/* Whatever is in flight: the filter sees the end, and does what is to be done
 * (R7).  Only what is asked for twice is not waited for.
 */
static void __attribute__ ((noreturn)) end_at_once (struct migration *m)
{
  say_error ("interrupted again: ending at once");
  _exit (say_last (m, failed (m)));
}

static void
got_signal (struct watch *w, short revents)
{
  struct migration *m =
    (struct migration *)((char *)w -
                         offsetof (struct migration, disks.signals));
  struct signalfd_siginfo info;

  (void)revents;
  if (read (w->fd, &info, sizeof info) != sizeof info)
    return;
  if (info.ssi_signo == SIGUSR1) {
    tell_progress (m);
    return;
  }
  if (m->interrupted) {
    if (info.ssi_signo == SIGINT)
      end_at_once (m);
    return; /* it is ending already */
  }
  m->interrupted = true;
  failure_cancel (&m->disks.failure);
  say_info ("interrupted by %s: letting requests in flight end, for some "
            "seconds at most",
            signals_name ((int)info.ssi_signo));
}

static int
catch_signals (struct migration *m)
{
  signal (SIGPIPE, SIG_IGN);
  m->disks.signals = (struct watch){ .fd = signals_open (),
                                     .events = POLLIN,
                                     .ready = got_signal };
  return m->disks.signals.fd == -1
           ? -1
           : loop_add (&m->disks.loop, &m->disks.signals);
}

int
migrate (const struct options *options)
{
  struct migration m = {
    .wait = options->wait || options->window || options->finish_at != 0,
    .max_pause_ms = options->max_pause_ms,
    .converge = options->converge,
    .measures = { .max_pause_ms = options->max_pause_ms },
    .predicted_ms = FORECAST_NEVER,
    .started_us = loop_now_us (),
  };
  int status = EXIT_FAILED;

  say_quiet (options->quiet);
  progress_init (options->bar, options->progress_fd);
  disks_init (&m.disks, options, event_policy, &recover_observer);
  no_memory_last_words (last_words, &m);
  m.disks.before_round = before_round;
  m.disks.after_round = after_round;
  policy_init (&m.policy);
  background_init (&m.background, options->background);
  notify_open ();
  if (open_output (options) == -1)
    ; /* was said */
  else if (catch_signals (&m) == -1)
    say_error ("setting up signals: %s", strerror (errno));
  else
    status = run (&m);
  finish (&m, status);
  if (m.disks.signals.fd >= 0)
    close (m.disks.signals.fd);
  disks_free (&m.disks);
  end_output (options);
  return status;
}
