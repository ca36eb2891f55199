/* SPDX-License-Identifier: BSD-3-Clause */
/* The proxy is asked again and again: whoever runs the migration tells it twice
 * a second how far it is, so it is known a moment later.
 */

#include <string.h>
#include <time.h>

#include "base/options.h"
#include "base/say.h"
#include "cli/request.h"
#include "cli/wait.h"
#include "units.h"

#define ANSWER_MS 5000
#define ASK_MS 100

/* A 'finish' that was taken shows with the next heartbeat. */
#define TAKEN_US (INT64_C (2) * 1000000)

static const char *
text_of (const json_t *o, const char *name)
{
  const char *text = json_string_value (json_object_get (o, name));

  return text ? text : "";
}

/* How a migration that has ended did so. */
static int
say_end (const struct proxy *p, const json_t *status)
{
  const char *end = text_of (status, "last_end");
  /* Then the end is that of the one before. */
  const bool untouched = json_is_true (json_object_get (status, "untouched"));

  if (untouched)
    end = "";
  if (strcmp (end, "pivoted") == 0 || strcmp (end, "detached") == 0 ||
      strcmp (end, "handed-over") == 0)
    return EXIT_DONE;
  if (strcmp (end, "aborted") == 0) {
    say_error ("the migration of %s was cancelled", p->uri);
    return EXIT_CANCELLED;
  }
  say_error ("the migration of %s ended without a cut-over: the disk is where "
             "it was%s",
             p->uri, untouched ? "" : ", and the next run goes on from there");
  return EXIT_FAILED;
}

/* When our 'finish' was read, and the progress that was told then. */
struct taken {
  bool seen;
  int64_t at_us;
  json_int_t elapsed_ms;
};

/* It still waits for a 'finish' although it has read ours.  What it told before
 * says nothing: while the proxy connects to the destination, which may take
 * many seconds, nothing new is told.
 */
static bool
is_refused (const json_t *status, struct taken *t)
{
  const json_t *progress = json_object_get (status, "progress");
  const json_int_t elapsed_ms =
    json_integer_value (json_object_get (progress, "elapsed_ms"));
  const bool seen =
    json_object_size (json_object_get (status, "wishes")) == 0 &&
    json_is_true (json_object_get (progress, "wait"));

  if (!seen || !t->seen) {
    *t = (struct taken){ seen, loop_now_us (), elapsed_ms };
    return false;
  }
  return elapsed_ms != t->elapsed_ms && loop_now_us () - t->at_us >= TAKEN_US;
}

static bool
is_over (const json_t *status)
{
  return !json_is_true (json_object_get (status, "session"));
}

static bool
is_ready (const json_t *status)
{
  const json_t *progress = json_object_get (status, "progress");

  return strcmp (text_of (progress, "phase"), "ready") == 0 &&
         !json_is_true (json_object_get (progress, "paused"));
}

int
wait_for_migration (struct proxy *p, bool ready, bool asked,
                    uint64_t timeout_ms)
{
  const int64_t begin_us = loop_now_us ();
  struct taken taken = { .seen = false };
  char text[UNITS_TEXT_MAX];

  for (;;) {
    CLEANUP_ANSWER struct control_answer a = { 0 };

    control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, ANSWER_MS, &a);
    if (a.value == NULL) {
      say_error ("asking %s for its status: %s", p->uri, a.desc);
      return EXIT_FAILED;
    }
    if (is_over (a.value))
      return say_end (p, a.value);
    if (ready && is_ready (a.value))
      return EXIT_DONE;
    if (asked && is_refused (a.value, &taken)) {
      say_error (
        "the migration of %s cannot end so, and stays in sync: its own "
        "messages tell why",
        p->uri);
      return EXIT_FAILED;
    }
    if (timeout_ms != 0 &&
        (uint64_t)(loop_now_us () - begin_us) / 1000 >= timeout_ms) {
      say_error ("the migration of %s is not %s after %s, and goes on", p->uri,
                 ready ? "ready" : "done", units_format_ms (text, timeout_ms));
      return EXIT_NOT_CONVERGED;
    }
    nanosleep (&(struct timespec){ .tv_nsec = ASK_MS * 1000000 }, NULL);
  }
}

static int
wait_if_there_is_one (struct proxy *p, bool ready, uint64_t timeout_ms)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, ANSWER_MS, &a);
  if (a.value != NULL && is_over (a.value)) {
    say_error ("no migration of %s is running; 'nbdmigrate status' tells how "
               "the last one ended",
               p->uri);
    return EXIT_FAILED;
  }
  say_info ("waiting until the migration of %s is %s", p->uri,
            ready ? "ready" : "done");
  return wait_for_migration (p, ready, false, timeout_ms);
}

int
wait_main (int argc, char *argv[])
{
  struct request r;
  struct proxy p;
  bool ready;
  int status;

  if (request_parse (&r, argc, argv, 0, 1, REQUEST_TIMEOUT) == -1)
    return EXIT_USAGE;
  ready = r.nr_args == 1 && strcmp (r.args[0], "ready") == 0;
  if (r.nr_args == 1 && !ready && strcmp (r.args[0], "done") != 0) {
    say_usage ("wait: '%s' must be ready or done", r.args[0]);
    return EXIT_USAGE;
  }
  status = proxy_open (&p, r.source, r.control, r.export);
  if (status == EXIT_DONE)
    status = wait_if_there_is_one (&p, ready, r.timeout_ms);
  proxy_close (&p);
  return status;
}
