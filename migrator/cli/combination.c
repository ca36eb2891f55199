/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/say.h"
#include "cli/combination.h"
#include "policy/policy.h"
#include "policy/window.h"
#include "tls.h"
#include "units.h"
#include "uri.h"

unsigned
times_in_pairs (const struct options *o, const char *uri)
{
  size_t i;
  unsigned n = 0;

  for (i = 0; i < o->nr_pairs; ++i) {
    n += o->pairs[i].source != NULL && strcmp (o->pairs[i].source, uri) == 0;
    n += o->pairs[i].destination != NULL &&
         strcmp (o->pairs[i].destination, uri) == 0;
  }
  return n;
}

/* Writing to a destination that is a base as well would write to the disk that
 * the proxy reads from, behind the guest's back.
 */
static int
check_shared_base (const struct options *o, size_t i)
{
  const char *uri = o->shared_bases[i];
  size_t j;

  if (times_in_pairs (o, uri) > 0) {
    say_usage (
      "--shared-base=%s: this is a SOURCE or DESTINATION as well; give "
      "the URI of the server that the proxy reads from, and another "
      "one as DESTINATION",
      uri);
    return -1;
  }
  for (j = 0; j < i; ++j)
    if (strcmp (o->shared_bases[j], uri) == 0) {
      say_usage ("--shared-base=%s is given twice; every disk has a server of "
                 "its own that its proxy reads from",
                 uri);
      return -1;
    }
  return 0;
}

static int
check_shared_bases (const struct options *o)
{
  size_t i;

  if (o->nr_shared_bases > 0 && o->nr_shared_bases != o->nr_pairs) {
    say_usage ("--shared-base is given %zu time%s for %zu disk%s; give it once "
               "for each, in their order",
               o->nr_shared_bases, o->nr_shared_bases == 1 ? "" : "s",
               o->nr_pairs, o->nr_pairs == 1 ? "" : "s");
    return -1;
  }
  for (i = 0; i < o->nr_shared_bases; ++i)
    if (check_shared_base (o, i) == -1)
      return -1;
  return 0;
}

/* Nobody else can serve the proxy's own image. */
static int
check_local (const struct options *o)
{
  size_t i;

  for (i = 0; i < o->nr_pairs && o->finish == FINISH_HANDOVER; ++i)
    if (uri_is_local (o->pairs[i].destination)) {
      say_usage ("--finish=handover does not go with the DESTINATION '%s': the "
                 "proxy's local image has no other server to hand the guest "
                 "over to; leave the option out",
                 o->pairs[i].destination);
      return -1;
    }
  return 0;
}

static int
check_has_tls (const char *what, const char *uri)
{
  if (tls_is_asked (uri))
    return 0;
  say_usage ("--require-tls: the %s '%s' is without TLS; a URI with it begins "
             "with nbds:// or nbds+unix://",
             what, uri);
  return -1;
}

/* The proxy connects by the destination's URI as well, after a pivot and for a
 * mirror; what leads to "local:" is the source's.
 */
static int
check_all_have_tls (const struct options *o)
{
  size_t i;

  for (i = 0; i < o->nr_pairs; ++i)
    if (check_has_tls ("SOURCE", o->pairs[i].source) == -1 ||
        check_has_tls ("DESTINATION", o->pairs[i].connect) == -1)
      return -1;
  for (i = 0; i < o->nr_shared_bases; ++i)
    if (check_has_tls ("base", o->shared_bases[i]) == -1)
      return -1;
  return 0;
}

/* No error: 'nbdmigrate set' may give it one. */
static void
note_without_effect (const struct options *o)
{
  if (o->throttle_floor > 0 &&
      (o->converge == CONVERGE_OFF || o->converge == CONVERGE_MIRROR))
    say_info ("--throttle-floor has no effect with --converge=%s, which "
              "throttles nothing, unless 'nbdmigrate set' with converge= "
              "changes that",
              policy_converge_name (o->converge));
}

/* ---- what goes together ------------------------------------------------ */

/* -1 after saying the words, if it is so. */
static int
refuse_if (bool wrong, const char *words)
{
  if (wrong)
    say_usage ("%s", words);
  return wrong ? -1 : 0;
}

static int
check_timeout (const struct options *o)
{
  const struct window w = { .given = o->window,
                            .from = o->window_from,
                            .to = o->window_to,
                            .at = o->finish_at };
  const time_t now = time (NULL), opens = window_opens (&w, now);
  const uint64_t left_s = opens == 0 ? UINT64_MAX : (uint64_t)(opens - now);
  char text[UNITS_TEXT_MAX];

  if (o->timeout_ms == 0 || left_s <= (o->timeout_ms - 1) / 1000)
    return 0;
  say_usage ("--timeout ends it after %s, which is before the time of "
             "--finish-at or --window: leave one of them out",
             units_format_ms (text, o->timeout_ms));
  return -1;
}

/* About the end of the migration. */
static int
check_cut_over (const struct options *o)
{
  if (refuse_if (o->digest && o->finish != FINISH_DETACH,
                 "--digest goes with --finish=detach only: otherwise a guest "
                 "writes to the destination at once") == -1 ||
      refuse_if (o->max_pause_late_ms > 0 &&
                   o->max_pause_late_ms <= o->max_pause_ms,
                 "--max-pause-late is no longer than --max-pause; it is what "
                 "is allowed after --patience, so it must be longer") == -1 ||
      refuse_if (o->patience_ms > 0 && o->max_pause_late_ms == 0,
                 "--patience goes with --max-pause-late only, which is what is "
                 "allowed after it") == -1 ||
      refuse_if (o->hook_timeout_ms != 0 && o->hook == NULL,
                 "--hook-timeout goes with --hook only, which it limits") ==
        -1 ||
      refuse_if (o->wait && (o->window || o->finish_at != 0),
                 "--wait stays in sync until 'nbdmigrate finish', and --window "
                 "or --finish-at until their time: leave one of them out") ==
        -1)
    return -1;
  return check_timeout (o);
}

/* About what is copied, and how. */
static int
check_copy (const struct options *o)
{
  if (refuse_if (o->explain && o->converge == CONVERGE_OFF,
                 "--policy=explain says what --converge would do, and with "
                 "--converge=off that is nothing: leave one of them out") ==
        -1 ||
      refuse_if (o->restart && o->incremental,
                 "--restart and --incremental contradict each other") == -1 ||
      refuse_if (o->nr_shared_bases > 0 && o->destination_is_zero,
                 "--shared-base and --destination-is-zero contradict each "
                 "other: zeroes have to hide what the base holds") == -1)
    return -1;
  return refuse_if (o->control != NULL && o->nr_pairs > 1,
                    "--control goes with one disk only");
}

/* The metrics are renamed to their file's name again and again. */
static int
check_files (const struct options *o)
{
  if (o->events == NULL || o->metrics == NULL ||
      strcmp (o->events, o->metrics) != 0)
    return 0;
  say_usage ("--events and --metrics name the same file, '%s': each replaces "
             "it",
             o->events);
  return -1;
}

/* About what is shown. */
static int
check_output (const struct options *o)
{
  if (refuse_if (o->interval_ms > 0 && o->log_ms == 0,
                 "--progress-interval goes with --progress=log only, whose "
                 "lines it is about") == -1 ||
      refuse_if (o->quiet && o->verbose,
                 "--quiet and --verbose contradict each other") == -1 ||
      refuse_if (o->quiet && (o->bar_asked || o->log_ms > 0),
                 "--quiet and --progress contradict each other") == -1)
    return -1;
  return check_files (o);
}

int
combination_check (const struct options *o)
{
  if (check_shared_bases (o) == -1 || check_local (o) == -1 ||
      (o->require_tls && check_all_have_tls (o) == -1) ||
      check_cut_over (o) == -1 || check_copy (o) == -1 ||
      check_output (o) == -1)
    return -1;
  note_without_effect (o);
  return 0;
}
