/* SPDX-License-Identifier: BSD-3-Clause */
/* The answer to a commit was lost: ask what became of it (R11).
 *
 * If only the connection broke, the filter may still have the command before
 * it: that there is no commit is known only when our session is over.  If the
 * proxy died, its owner record tells, once the proxy was started again: who
 * watches over it usually does that within seconds, so it is asked for as long.
 */

#include <stdlib.h>
#include <string.h>

#include "migration.h"

#define ASK_US (INT64_C (5) * 1000000)
#define ANSWER_MS 5000

/* A new proxy knows only the exports that somebody has opened there. */
static void
open_export (struct disk *d)
{
  const struct connection_options none = { 0 };
  struct endpoint *e;
  char *why;

  e = endpoint_open (&d->m->loop, d->pair->source, &none, -1, &why);
  free (why);
  endpoint_close (e);
}

static int
attach (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (d->control, "attach",
                json_pack ("{s:s}", "export", d->source->export_name),
                ANSWER_MS, &a);
  return a.value != NULL ? 0 : -1;
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

static int
judge (const struct disk *d, const json_t *status)
{
  const char *owner = json_string_value (json_object_get (status, "owner"));
  const char *end = json_string_value (json_object_get (status, "last_end"));

  if (owner == NULL || end == NULL || strcmp (owner, "unknown") == 0)
    return -1;
  if (is_committed (d->m->finish, owner, end))
    return 1;
  return json_is_false (json_object_get (status, "session")) ? 0 : -1;
}

/* A new control connection; -1: it cannot be had now. */
static int
connect_again (struct disk *d)
{
  char *why;

  control_close (d->control);
  d->control = control_open (&d->m->loop, d->control_path, &why);
  free (why);
  if (d->control == NULL)
    return -1;
  if (attach (d) == 0)
    return 0;
  open_export (d);
  return attach (d);
}

static int
ask_once (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer status = { 0 };

  if (connect_again (d) == -1)
    return -1;
  control_wait (d->control, "status", NULL, ANSWER_MS, &status);
  return judge (d, status.value);
}

int
outcome_ask (struct disk *d)
{
  const int64_t deadline = loop_now_us () + ASK_US;
  int r;

  d->begun = false; /* the session ended with its connection */
  while ((r = ask_once (d)) == -1 && loop_now_us () < deadline)
    drive (d->m, 100);
  return r;
}
