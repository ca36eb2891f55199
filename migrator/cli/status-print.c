/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/no-memory.h"
#include "cleanup.h"
#include "show/fold.h"
#include "show/progress-text.h"
#include "cli/status-print.h"
#include "units.h"

#define LABEL "%-12s "
#define SLOW_MS 3000 /* unanswered for so long is worth a line */

static uint64_t
number (const json_t *o, const char *name)
{
  return (uint64_t)json_integer_value (json_object_get (o, name));
}

static const char *
string (const json_t *o, const char *name, const char *otherwise)
{
  const char *s = json_string_value (json_object_get (o, name));

  return s ? s : otherwise;
}

static void
print_bytes (FILE *fp, const char *label, const json_t *o, const char *name)
{
  char text[UNITS_TEXT_MAX];

  fprintf (fp, LABEL "%s\n", label,
           units_format_bytes (text, number (o, name)));
}

static const char *
describe (const json_t *s)
{
  const char *last_end = string (s, "last_end", "none");
  const bool tracking = json_is_true (json_object_get (s, "tracking")) ||
                        json_is_true (json_object_get (s, "resumable"));

  const json_t *progress = json_object_get (s, "progress");

  if (json_is_true (json_object_get (s, "session")))
    return json_is_true (json_object_get (progress, "paused"))
             ? "running, paused until 'nbdmigrate resume'"
             : "running";
  if (strcmp (last_end, "interrupted") == 0)
    return tracking ? "interrupted; run it again to copy the rest"
                    : "interrupted; the next run copies everything";
  if (strcmp (last_end, "detached") == 0)
    return tracking ? "detached; writes since then are tracked"
                    : "detached; writes since then were not tracked";
  if (strcmp (last_end, "handed-over") == 0)
    return "done: handed over, the guest here is fenced off";
  if (strcmp (last_end, "pivoted") == 0)
    return "done: pivoted";
  if (strcmp (last_end, "aborted") == 0)
    return "cancelled";
  return "none";
}

/* In two lines, as one would be too long for a terminal. */
static void
print_guest (FILE *fp, const json_t *guest)
{
  char text[UNITS_TEXT_MAX];

  fprintf (fp, LABEL "writes %" PRIu64 " (%s)\n", "requests",
           number (guest, "writes"),
           units_format_bytes (text, number (guest, "written_bytes")));
  fprintf (fp, LABEL "reads %" PRIu64 " (%s)\n", "", number (guest, "reads"),
           units_format_bytes (text, number (guest, "read_bytes")));
  fprintf (fp,
           LABEL "zeroes %" PRIu64 ", trims %" PRIu64 ", flushes %" PRIu64 "\n",
           "", number (guest, "zeroes"), number (guest, "trims"),
           number (guest, "flushes"));
}

/* What becomes of the guest's requests, if they go there at all. */
static const char *
describe_relay (const json_t *relay, bool relays)
{
  const bool held = json_is_true (json_object_get (relay, "held"));
  const bool failing = json_is_true (json_object_get (relay, "failing"));
  const bool again = number (relay, "losses") > 0;

  if (json_is_true (json_object_get (relay, "up")))
    return "up,";
  if (!relays)
    return again ? "connecting again," : "connecting,";
  if (held)
    return failing ? "held until 'reopen' is repeated, guest requests fail;"
                   : "held until 'reopen' is repeated, guest requests wait;";
  if (!again)
    return failing ? "connecting, guest requests fail until then;"
                   : "connecting, guest requests wait;";
  return failing ? "connecting again, guest requests fail until then;"
                 : "connecting again, guest requests wait;";
}

/* The proxy's own connection to the server where the disk is, or that it is
 * about to go to.  'relay' is NULL in what comes from a state file.
 */
static void
print_relay (FILE *fp, const json_t *s, const json_t *relay)
{
  const bool relays = json_is_string (json_object_get (s, "place"));
  const uint64_t losses = number (relay, "losses");
  const uint64_t oldest_ms = number (relay, "oldest_request_ms");
  char text[UNITS_TEXT_MAX];

  if (json_is_null (relay) && relays)
    fprintf (fp, LABEL "not made yet, the next client makes the proxy try\n",
             "connection");
  if (!json_is_object (relay))
    return;
  fprintf (fp, LABEL "%s ", "connection", describe_relay (relay, relays));
  if (losses == 0)
    fprintf (fp, "never lost\n");
  else
    fprintf (fp, "lost %" PRIu64 " time%s\n", losses, losses == 1 ? "" : "s");
  if (oldest_ms >= SLOW_MS)
    fprintf (fp, LABEL "a request is unanswered for %s: it is waited for\n", "",
             units_format_ms (text, oldest_ms));
}

/* How much is in flight at one side of the copy. */
static void
print_in_flight (FILE *fp, const json_t *progress, const char *what)
{
  const json_t *l = json_object_get (progress, what);
  char text[UNITS_TEXT_MAX];

  if (number (l, "connections") == 0)
    return;
  fprintf (fp, LABEL "up to %" PRIu64 " of %s in flight on ", what,
           number (l, "depth"),
           units_format_bytes (text, number (l, "request_bytes")));
  if (number (l, "connections") == 1)
    fprintf (fp, "one connection\n");
  else
    fprintf (fp, "each of %" PRIu64 " connections\n",
             number (l, "connections"));
}

/* What is done for guests' sake. */
static void
print_background (FILE *fp, const json_t *progress)
{
  const uint64_t rate = number (progress, "background_rate");
  char text[UNITS_TEXT_MAX];

  if (!json_is_integer (json_object_get (progress, "background")))
    return;
  fprintf (fp, LABEL "%" PRIu64, "background", number (progress, "background"));
  if (rate > 0)
    fprintf (fp, ", no more than %s/s are copied for now",
             units_format_bytes (text, rate));
  fprintf (fp, "\n");
}

/* What may be done to guests for the copy's sake, and what is. */
static void
print_guests (FILE *fp, const json_t *progress)
{
  const char *mirror = string (progress, "mirror", "off");
  const uint64_t throttle = number (progress, "throttle");
  const bool only = json_is_true (json_object_get (progress, "explained_only"));
  char text[UNITS_TEXT_MAX];

  print_background (fp, progress);
  if (!json_is_string (json_object_get (progress, "converge")))
    return;
  fprintf (fp, LABEL "%s%s%s", "converge", string (progress, "converge", "?"),
           only ? ", only explained" : "",
           strcmp (mirror, "on") == 0 ? ", mirroring" : "");
  if (throttle > 0)
    fprintf (fp, ", guests limited to %s/s",
             units_format_bytes (text, throttle));
  fprintf (fp, "\n");
}

/* The values in force, whoever set them. */
static void
print_limits (FILE *fp, const json_t *progress)
{
  const time_t when = (time_t)number (progress, "finish_at");
  const uint64_t rate = number (progress, "rate");
  const bool wait = json_is_true (json_object_get (progress, "wait"));
  struct tm tm;
  char text[UNITS_TEXT_MAX];

  fprintf (fp, LABEL "%s%s\n", "rate",
           rate ? units_format_bytes (text, rate) : "unlimited",
           rate ? "/s" : "");
  fprintf (fp, LABEL "%s\n", "max pause",
           units_format_ms (text, number (progress, "max_pause_ms")));
  if (when != 0 && localtime_r (&when, &tm) != NULL)
    strftime (text, sizeof text, ", not before %a %H:%M", &tm);
  fprintf (fp, LABEL "%s%s\n", "finish", string (progress, "finish", "?"),
           when   ? text
           : wait ? ", when 'nbdmigrate finish' asks for it"
                  : "");
  print_guests (fp, progress);
  print_in_flight (fp, progress, "reads");
  print_in_flight (fp, progress, "writes");
}

static void
print_reading (FILE *fp, const json_t *progress)
{
  const char *why = string (progress, "shared_memory_why", NULL);

  if (why != NULL)
    fprintf (fp, LABEL "over NBD: %s\n", "reading", why);
  else if (json_is_true (json_object_get (progress, "shared_memory")))
    fprintf (fp, LABEL "through shared memory\n", "reading");
}

/* Behind the label and the prefix; 0: there is no limit. */
static unsigned
room_for_text (unsigned columns, const char *prefix)
{
  const size_t used = STATUS_LABEL_WIDTH + strlen (prefix);

  if (columns == 0)
    return 0;
  return columns > used ? columns - (unsigned)used : 1;
}

/* A destination that was lost. */
static void
print_away (FILE *fp, const json_t *progress)
{
  const json_t *o = json_object_get (progress, "reconnecting");
  const char *why = string (o, "attempt_reason", string (o, "reason", "?"));
  char away[UNITS_TEXT_MAX], limit[UNITS_TEXT_MAX], again[UNITS_TEXT_MAX];

  if (!json_is_object (o))
    return;
  fprintf (fp, LABEL "%s\n", "lost", string (o, "destination", "?"));
  fprintf (fp, LABEL "for %s of %s at most; %s dirty again\n", "",
           units_format_ms (away, number (o, "away_ms")),
           units_format_ms (limit, number (o, "reconnect_ms")),
           units_format_bytes (again, number (o, "dirty_again_bytes")));
  fprintf (fp, LABEL "%" PRIu64 " attempts to reconnect: %s\n", "",
           number (o, "attempts"), why);
}

static void
print_progress (FILE *fp, const json_t *progress)
{
  const unsigned terminal = progress_columns (STDOUT_FILENO);
  const uint64_t disks = number (progress, "disk_count");
  CLEANUP_FREE char *text = NULL;
  char all[48] = "";

  /* The other lines are about one disk. */
  if (disks > 1)
    snprintf (all, sizeof all, "%" PRIu64 " disks: ", disks);
  text = progress_text (progress, false, room_for_text (terminal, all));
  if (text != NULL)
    fprintf (fp, LABEL "%s%s\n", "progress", all, text);
  print_away (fp, progress);
  print_limits (fp, progress);
  print_reading (fp, progress);
}

/* What an earlier run has sent and nobody has answered (R17). */
static void
print_late (FILE *fp, const json_t *s)
{
  const uint64_t connections = number (s, "old_connections");
  char bytes[UNITS_TEXT_MAX], ms[UNITS_TEXT_MAX];

  if (number (s, "quarantined_bytes") == 0)
    return;
  units_format_bytes (bytes, number (s, "quarantined_bytes"));
  if (connections > 0)
    fprintf (fp, LABEL "%s may change: a write is unanswered for %s\n",
             "uncertain", bytes,
             units_format_ms (ms, number (s, "unanswered_ms")));
  else if (number (s, "quarantine_ms") > 0)
    fprintf (fp, LABEL "%s may change: read back in %s\n", "uncertain", bytes,
             units_format_ms (ms, number (s, "quarantine_ms")));
  else
    fprintf (fp, LABEL "%s, to be read back\n", "uncertain", bytes);
}

/* What it costs to keep what is tracked for a restart of the proxy. */
static void
print_map (FILE *fp, const json_t *map)
{
  if (strcmp (string (map, "state", "none"), "live") == 0)
    fprintf (fp, LABEL "%" PRIu64 " syncs for %" PRIu64 " first writes\n",
             "dirty map", number (map, "syncs"), number (map, "first_touches"));
  else
    fprintf (fp, LABEL "none: a restart of the proxy means a full copy\n",
             "dirty map");
}

/* What is tracked means something only to a migration that runs, or could go
 * on.
 */
static void
print_tracked (FILE *fp, const json_t *s)
{
  const char *last_end = string (s, "last_end", "");
  char rate[UNITS_TEXT_MAX];

  if (json_is_true (json_object_get (s, "session"))) {
    print_bytes (fp, "dirty", s, "dirty_bytes");
    print_bytes (fp, "left", s, "remaining_bytes");
    fprintf (fp, LABEL "%s/s\n", "dirty rate",
             units_format_bytes (rate, number (s, "dirty_bytes_per_second")));
    fprintf (fp, LABEL "%s\n", "gate", string (s, "gate", "?"));
    print_map (fp, json_object_get (s, "dirty_map"));
  }
  else if (strcmp (last_end, "interrupted") == 0 ||
           strcmp (last_end, "detached") == 0)
    print_bytes (fp, "left", s, "remaining_bytes");
}

/* What a proxy that has ended could not get rid of (R13, R17). */
static void
print_kept (FILE *fp, const json_t *s)
{
  if (json_is_string (json_object_get (s, "kept")))
    fprintf (fp,
             LABEL "unflushed or unanswered writes, in %s:\n" LABEL
                   "settled before anybody is served again\n",
             "kept", string (s, "kept", ""), "");
}

/* Who answered is running, and "running" is said in what comes from a state
 * file only.
 */
static void
print_proxy (FILE *fp, const json_t *s)
{
  const char *proxy = string (s, "proxy", "running");
  const bool known = json_object_get (s, "running") == NULL;

  fprintf (fp, LABEL "%s%s\n", "proxy", proxy,
           !known && strcmp (proxy, "running") == 0
             ? "; no client has opened this disk yet"
             : "");
}

/* Where the disk is, whatever its place was called in a migration. */
static void
print_place (FILE *fp, const json_t *s)
{
  const char *owner = string (s, "owner", "unknown");

  if (strcmp (owner, "fenced") == 0)
    fprintf (fp, LABEL "handed over; nobody is served here (fenced)\n",
             "place");
  else if (strcmp (owner, "unknown") == 0)
    fprintf (fp, LABEL "unknown; nobody is served until 'reopen' tells it\n",
             "place");
  else
    fprintf (fp, LABEL "%s\n", "place",
             string (s, "place", "the proxy's local image"));
}

/* While they mean something: a migration runs, could go on, or be undone. */
static void
print_ends (FILE *fp, const json_t *s)
{
  const bool session = json_is_true (json_object_get (s, "session"));
  const char *last_end = string (s, "last_end", "none");
  const char *owner = string (s, "owner", "unknown");
  const bool moves = strcmp (last_end, "interrupted") == 0 ||
                     strcmp (last_end, "detached") == 0 ||
                     strcmp (last_end, "aborted") == 0;
  const bool is_here =
    strcmp (owner, "source") == 0 || strcmp (owner, "destination") == 0;

  if (!is_here && json_is_string (json_object_get (s, "source")))
    fprintf (fp, LABEL "%s\n", "source", string (s, "source", ""));
  if ((!is_here || session || moves) &&
      json_is_string (json_object_get (s, "destination")))
    fprintf (fp, LABEL "%s\n", "destination", string (s, "destination", ""));
}

static void
print_text (FILE *fp, const char *where, const json_t *s)
{
  const json_t *progress = json_object_get (s, "progress");

  fprintf (fp, LABEL "%s\n", "disk", where);
  if (string (s, "export", "")[0] != '\0')
    fprintf (fp, LABEL "%s\n", "export", string (s, "export", ""));
  print_proxy (fp, s);
  print_place (fp, s);
  if (json_is_integer (json_object_get (s, "disk_bytes")))
    print_bytes (fp, "size", s, "disk_bytes");
  fprintf (fp, LABEL "%s\n", "migration", describe (s));
  print_ends (fp, s);
  if (json_is_true (json_object_get (s, "tracking")))
    print_tracked (fp, s);
  print_late (fp, s);
  print_kept (fp, s);
  if (json_is_object (json_object_get (s, "guest")))
    print_guest (fp, json_object_get (s, "guest"));
  print_relay (fp, s, json_object_get (s, "relay"));
  if (json_is_true (json_object_get (s, "session")) &&
      json_is_object (progress))
    print_progress (fp, progress);
}

static void
print_json (const json_t *s)
{
  CLEANUP_FREE char *text = need_memory (json_dumps (s, JSON_INDENT (2)));

  puts (text);
}

char *
status_text (const char *where, const json_t *s)
{
  char *text = NULL;
  size_t size;
  FILE *fp = open_memstream (&text, &size);

  if (fp == NULL)
    no_memory ();
  print_text (fp, where, s);
  if (fclose (fp) != 0)
    no_memory ();
  return text;
}

void
status_print (const char *where, const json_t *s, bool json)
{
  CLEANUP_FREE char *text = NULL, *folded = NULL;

  if (json) {
    print_json (s);
    return;
  }
  text = status_text (where, s);
  folded = need_memory (fold_text (text, progress_columns (STDOUT_FILENO),
                                   STATUS_LABEL_WIDTH, false));
  fputs (folded, stdout);
}
