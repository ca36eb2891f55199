/* SPDX-License-Identifier: BSD-3-Clause */
/* The running migrator reads what is wished here at its next heartbeat, at
 * most a second away.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "base/no-memory.h"
#include "base/options.h"
#include "proxy/proxy.h"
#include "base/say.h"
#include "cli/request.h"
#include "cli/steer.h"
#include "cli/wait.h"
#include "units.h"
#include "uri.h"

#define ANSWER_MS 5000

/* How long the migrator's progress may take to show a wish, at most. */
#define SHOWN_US (INT64_C (3) * 1000000)

/* How long a migrator may take to cancel by itself. */
#define CANCEL_US (INT64_C (5) * 1000000)

/* What is given twice may be a slip: which of them was meant?  -1 after saying
 * so.
 */
static int
add_once (json_t *o, const char *name, json_t *value, const char *text)
{
  if (json_object_get (o, name) != NULL) {
    json_decref (value);
    say_usage ("%.*s is given twice", (int)strcspn (text, "="), text);
    return -1;
  }
  if (json_object_set_new (o, name, value) == -1)
    no_memory (); /* nobody would know what is wished */
  return 0;
}

/* What takes nothing but the disk. */
static int
without_arguments (int argc, char *argv[], int (*command) (struct proxy *p))
{
  struct request r;
  struct proxy p;
  int status;

  if (request_parse (&r, argc, argv, 0, 0, 0) == -1)
    return EXIT_USAGE;
  status = proxy_open (&p, r.source, r.control, r.export);
  if (status == EXIT_DONE)
    status = command (&p);
  proxy_close (&p);
  return status;
}

/* ---- wishes ------------------------------------------------------------ */

enum wished {
  WISH_LEFT,     /* the migrator reads it before it commits */
  WISH_TOO_LATE, /* it has committed, or is doing so */
  WISH_NOBODY,   /* there is no migrator */
  WISH_ERROR,    /* was said */
};

/* Leave a wish; stolen. */
static enum wished
wish (struct proxy *p, json_t *wishes)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "wish", wishes, ANSWER_MS, &a);
  if (a.value != NULL)
    return json_is_true (json_object_get (a.value, "session")) ? WISH_LEFT
                                                               : WISH_NOBODY;
  if (strcmp (a.error_class, "Committing") == 0)
    return WISH_TOO_LATE;
  say_error ("steering the migration of %s: %s", p->uri, a.desc);
  return WISH_ERROR;
}

static int
wish_or_refuse (struct proxy *p, json_t *wishes)
{
  const enum wished w = wish (p, wishes);

  if (w == WISH_NOBODY)
    say_error ("no migration of %s is running", p->uri);
  else if (w == WISH_TOO_LATE)
    say_error ("too late: %s is being cut over, or was; 'nbdmigrate status' "
               "tells in the end from where it is served",
               p->uri);
  return w == WISH_LEFT ? EXIT_DONE : EXIT_FAILED;
}

/* ---- set --------------------------------------------------------------- */

static int
add_setting (json_t *wishes, const char *setting, uint64_t *max_pause_ms)
{
  uint64_t value;
  unsigned number;

  if (strncmp (setting, "rate=", 5) == 0) {
    if (options_rate ("rate", setting + 5, &value) == -1)
      return -1;
    return add_once (wishes, "rate", json_integer ((json_int_t)value), setting);
  }
  if (strncmp (setting, "max-pause=", 10) == 0) {
    if (options_pause ("max-pause", setting + 10, max_pause_ms) == -1)
      return -1;
    return add_once (wishes, "max_pause_ms",
                     json_integer ((json_int_t)*max_pause_ms), setting);
  }
  if (strncmp (setting, "background=", 11) == 0) {
    if (options_background ("background", setting + 11, &number) == -1)
      return -1;
    return add_once (wishes, "background", json_integer (number), setting);
  }
  if (strncmp (setting, "converge=", 9) == 0) {
    if (options_converge ("converge", setting + 9, &number) == -1)
      return -1;
    return add_once (wishes, "converge", json_string (setting + 9), setting);
  }
  say_usage ("set: '%s' is none of rate=SIZE, background=N, "
             "max-pause=DURATION and converge=auto|mirror|throttle|off",
             setting);
  return -1;
}

/* What the proxies of all disks of its migration allow a pause to be. */
static uint64_t
most_pause_ms (struct proxy *p)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  json_int_t ms = -1;

  control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, ANSWER_MS, &a);
  json_unpack (a.value, "{s:{s:I}}", "progress", "most_pause_ms", &ms);
  return ms >= 0 && (uint64_t)ms < p->max_gate_ms ? (uint64_t)ms
                                                  : p->max_gate_ms;
}

/* -1 after saying that the pause is longer than it may be. */
static int
check_max_pause (struct proxy *p, uint64_t max_pause_ms)
{
  char asked[UNITS_TEXT_MAX], allowed[UNITS_TEXT_MAX];
  const uint64_t most_ms = max_pause_ms > 0 ? most_pause_ms (p) : 0;

  if (max_pause_ms <= most_ms)
    return 0;
  units_format_ms (asked, max_pause_ms);
  units_format_ms (allowed, most_ms);
  if (most_ms < p->max_gate_ms)
    say_error ("max-pause of %s is above what the proxy of another disk of "
               "this migration allows: %s (migrate-max-gate); nothing is "
               "changed",
               asked, allowed);
  else
    say_error ("max-pause of %s is above what the proxy of %s allows: %s "
               "(migrate-max-gate); nothing is changed",
               asked, p->uri, allowed);
  return -1;
}

static int
set (const struct request *r, const json_t *wishes, uint64_t max_pause_ms)
{
  struct proxy p;
  int status;

  status = proxy_open (&p, r->source, r->control, r->export);
  if (status == EXIT_DONE)
    status = check_max_pause (&p, max_pause_ms) == -1
               ? EXIT_FAILED
               : wish_or_refuse (&p, json_deep_copy (wishes));
  proxy_close (&p);
  return status;
}

int
set_main (int argc, char *argv[])
{
  CLEANUP_JSON json_t *wishes = json_object ();
  uint64_t max_pause_ms = 0;
  struct request r;
  int i;

  if (request_parse (&r, argc, argv, 1, 16, 0) == -1)
    return EXIT_USAGE;
  for (i = 0; i < r.nr_args; ++i)
    if (add_setting (wishes, r.args[i], &max_pause_ms) == -1)
      return EXIT_USAGE;
  return set (&r, wishes, max_pause_ms);
}

/* ---- pause and resume --------------------------------------------------- */

/* The status; the caller frees it.  NULL after saying that it cannot be had. */
static json_t *
ask_status (struct proxy *p)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, ANSWER_MS, &a);
  if (a.value == NULL)
    say_error ("asking %s for its status: %s", p->uri, a.desc);
  return json_incref (a.value);
}

static bool
is_paused (const json_t *status)
{
  const json_t *progress = json_object_get (status, "progress");

  return json_is_true (json_object_get (progress, "paused"));
}

/* Until everybody can see it: a 'finish' that comes next is refused after
 * 'pause', and is not after 'resume'.  By way of the progress, as each of
 * several disks' proxies has it.
 */
static int
wish_pause (struct proxy *p, bool pause)
{
  const int exit_status =
    wish_or_refuse (p, json_pack ("{s:b}", "pause", pause));
  const int64_t begin_us = loop_now_us ();

  if (exit_status != EXIT_DONE)
    return exit_status;
  do {
    CLEANUP_JSON json_t *status = ask_status (p);

    if (status == NULL)
      return EXIT_FAILED;
    if (is_paused (status) == pause ||
        !json_is_true (json_object_get (status, "session")))
      return EXIT_DONE;
    nanosleep (&(struct timespec){ .tv_nsec = 50 * 1000000 }, NULL);
  } while (loop_now_us () - begin_us < SHOWN_US);
  say_info ("%s: its nbdmigrate has been told, and has not shown within %d s "
            "that it does so; 'nbdmigrate status' tells",
            p->uri, (int)(SHOWN_US / 1000000));
  return EXIT_DONE;
}

static int
pause_copying (struct proxy *p)
{
  return wish_pause (p, true);
}

static int
resume_copying (struct proxy *p)
{
  return wish_pause (p, false);
}

int
pause_main (int argc, char *argv[])
{
  return without_arguments (argc, argv, pause_copying);
}

int
resume_main (int argc, char *argv[])
{
  return without_arguments (argc, argv, resume_copying);
}

/* ---- finish ------------------------------------------------------------ */

/* The mode that the running migration was started with, if none is given. */
static int
wish_finish (struct proxy *p, const char *mode)
{
  CLEANUP_JSON json_t *status = ask_status (p);

  if (status == NULL)
    return EXIT_FAILED;
  if (is_paused (status)) {
    say_error ("the copying of %s is paused: 'nbdmigrate resume' comes first",
               p->uri);
    return EXIT_FAILED;
  }
  if (mode == NULL)
    json_unpack (status, "{s:{s:s}}", "progress", "finish", &mode);
  if (mode == NULL) {
    say_error ("no migration of %s is running", p->uri);
    return EXIT_FAILED;
  }
  return wish_or_refuse (p, json_pack ("{s:s}", "finish", mode));
}

static int
finish (struct proxy *p, const struct request *r)
{
  const int status = wish_finish (p, r->nr_args == 1 ? r->args[0] : NULL);

  if (status != EXIT_DONE || r->no_wait)
    return status;
  return wait_for_migration (p, false, true, r->timeout_ms);
}

int
finish_main (int argc, char *argv[])
{
  enum finish mode;
  struct request r;
  struct proxy p;
  int status;

  if (request_parse (&r, argc, argv, 0, 1, REQUEST_TIMEOUT | REQUEST_NO_WAIT) ==
      -1)
    return EXIT_USAGE;
  if (r.nr_args == 1 && finish_parse (r.args[0], &mode) == -1) {
    say_usage ("finish: '%s' must be pivot, handover or detach", r.args[0]);
    return EXIT_USAGE;
  }
  status = proxy_open (&p, r.source, r.control, r.export);
  if (status == EXIT_DONE)
    status = finish (&p, &r);
  proxy_close (&p);
  return status;
}

/* ---- cancel ------------------------------------------------------------ */

/* The status when the session was over; NULL: it is not, or who knows. */
static json_t *
session_is_over (struct proxy *p)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, ANSWER_MS, &a);
  if (!json_is_false (json_object_get (a.value, "session")))
    return NULL;
  return json_incref (a.value);
}

/* The same; the caller frees it. */
static json_t *
wait_for_the_end (struct proxy *p)
{
  const int64_t deadline = loop_now_us () + CANCEL_US;
  json_t *status;

  while ((status = session_is_over (p)) == NULL &&
         control_broken (p->control) == NULL && loop_now_us () < deadline)
    nanosleep (&(struct timespec){ .tv_nsec = 50 * 1000000 }, NULL);
  return status;
}

static const char *
member (const json_t *o, const char *name)
{
  const char *text = json_string_value (json_object_get (o, name));

  return text ? text : "unknown";
}

/* The source does not own the disk: there is nothing to go back to. */
static int
say_too_late (const struct proxy *p, const json_t *found, const char *what)
{
  const char *owner = member (found, "owner");

  if (strcmp (owner, "destination") == 0 &&
      uri_is_local (member (found, "destination")))
    say_error ("%s: %s was pivoted, and is in the proxy's local image now",
               what, p->uri);
  else if (strcmp (owner, "destination") == 0)
    say_error ("%s: %s was pivoted, and is at %s now", what, p->uri,
               member (found, "destination"));
  else if (strcmp (owner, "fenced") == 0)
    say_error ("%s: %s was handed over, and its guest is to use the "
               "destination %s; if it never did, 'nbdmigrate reopen DIR' "
               "takes the disk back",
               what, p->uri, member (found, "destination"));
  else
    say_error ("%s: the owner of %s is unknown; settle it with 'nbdmigrate "
               "reopen DIR owner=source', or owner=destination",
               what, p->uri);
  return EXIT_FAILED;
}

/* 'found' is what the filter had before it dropped everything.  A migration
 * that was running may have come to its end before it could be cancelled.
 */
static int
say_cancelled (const struct proxy *p, const json_t *found, bool was_running)
{
  static const char nothing_runs[] = "there is no migration to cancel";
  const bool detached = strcmp (member (found, "last_end"), "detached") == 0;
  const bool session = json_is_true (json_object_get (found, "session"));

  if (strcmp (member (found, "owner"), "source") != 0)
    return say_too_late (p, found,
                         was_running ? "too late to cancel" : nothing_runs);
  if (session || (was_running && !detached))
    say_info ("the migration of %s is cancelled; the next run copies "
              "everything",
              p->uri);
  else if (json_is_true (json_object_get (found, "tracking")))
    say_info ("no migration of %s is running; the tracking since the %s is "
              "dropped, the next run copies everything",
              p->uri, detached ? "detach" : "interruption");
  else {
    say_error ("no migration of %s is running and nothing is tracked, so there "
               "is nothing to cancel",
               p->uri);
    return EXIT_FAILED;
  }
  return EXIT_DONE;
}

/* It ended by a detach before it could be cancelled, and that is not undone. */
static bool
is_detached (const json_t *status)
{
  return status != NULL && strcmp (member (status, "owner"), "source") == 0 &&
         strcmp (member (status, "last_end"), "detached") == 0;
}

/* The migrator is asked first, so that it can tell its own user.  Whatever it
 * does, the end is the same: no session, no tracking; unless it has committed.
 */
static int
cancel (struct proxy *p)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  CLEANUP_JSON json_t *end = NULL;
  const enum wished w = wish (p, json_pack ("{s:b}", "cancel", 1));

  if (w == WISH_ERROR)
    return EXIT_FAILED;
  if (w == WISH_TOO_LATE)
    say_info ("%s is being cut over, or was: waiting for the end of that",
              p->uri);
  if (w != WISH_NOBODY)
    end = wait_for_the_end (p);
  if (w == WISH_TOO_LATE && is_detached (end)) {
    say_error ("too late to cancel: %s was detached to %s; it is tracked on, "
               "until 'cancel' is repeated",
               p->uri, member (end, "destination"));
    return EXIT_FAILED;
  }
  control_wait (p->control, "abort", CONTROL_NO_ARGUMENTS, ANSWER_MS, &a);
  if (a.value != NULL)
    return say_cancelled (p, a.value, w != WISH_NOBODY);
  if (strcmp (a.error_class, "Committing") == 0) {
    say_error ("too late to cancel: %s is being cut over; 'nbdmigrate status' "
               "tells in the end from where it is served",
               p->uri);
    return EXIT_FAILED;
  }
  say_error ("cancelling the migration of %s: %s", p->uri, a.desc);
  return EXIT_FAILED;
}

int
cancel_main (int argc, char *argv[])
{
  return without_arguments (argc, argv, cancel);
}

/* ---- reopen ------------------------------------------------------------ */

/* "owner=..." or "destination=..."; -1 after saying what is wrong. */
static int
add_reopen_argument (json_t *args, const char *text)
{
  if (strcmp (text, "owner=source") == 0 ||
      strcmp (text, "owner=destination") == 0) {
    return add_once (args, "owner", json_string (text + strlen ("owner=")),
                     text);
  }
  if (strncmp (text, "destination=", 12) == 0) {
    CLEANUP_FREE char *uri = options_uri ("destination", text + 12);

    if (uri == NULL)
      return -1;
    return add_once (args, "destination", json_string (uri), text);
  }
  say_usage ("reopen: '%s' must be owner=source, owner=destination or "
             "destination=URI",
             text);
  return -1;
}

static int
reopen (struct proxy *p, const json_t *args)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  const char *place;

  control_wait (p->control, "reopen", json_deep_copy (args), ANSWER_MS * 4, &a);
  if (a.value == NULL) {
    say_error ("reopening %s: %s", p->uri, a.desc);
    return EXIT_FAILED;
  }
  place = json_string_value (json_object_get (a.value, "place"));
  say_info ("%s is served from %s%s", p->uri,
            place ? place : "the proxy's local image",
            json_is_false (json_object_get (a.value, "connected"))
              ? ", to which the proxy is connecting again"
              : "");
  if (json_object_get (args, "destination") != NULL)
    say_info ("the server at the old address must have ended: a write in its "
              "queue would land on what guests write from now on");
  return EXIT_DONE;
}

int
reopen_main (int argc, char *argv[])
{
  CLEANUP_JSON json_t *args = json_object ();
  struct request r;
  struct proxy p;
  int i, status;

  if (request_parse (&r, argc, argv, 0, 2, 0) == -1)
    return EXIT_USAGE;
  for (i = 0; i < r.nr_args; ++i)
    if (add_reopen_argument (args, r.args[i]) == -1)
      return EXIT_USAGE;
  status = proxy_open (&p, r.source, r.control, r.export);
  if (status == EXIT_DONE)
    status = reopen (&p, args);
  proxy_close (&p);
  return status;
}
