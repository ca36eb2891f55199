/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "show/progress-text.h"
#include "cli/status-print.h"
#include "units.h"

#define LABEL "%-12s "
#define SLOW_MS 3000 /* unanswered for so long is worth a line */
#define LABEL_WIDTH 13

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
print_bytes (const char *label, const json_t *o, const char *name)
{
  char text[UNITS_TEXT_MAX];

  printf (LABEL "%s\n", label, units_format_bytes (text, number (o, name)));
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
print_guest (const json_t *guest)
{
  char text[UNITS_TEXT_MAX];

  printf (LABEL "writes %" PRIu64 " (%s)\n", "requests",
          number (guest, "writes"),
          units_format_bytes (text, number (guest, "written_bytes")));
  printf (LABEL "reads %" PRIu64 " (%s)\n", "", number (guest, "reads"),
          units_format_bytes (text, number (guest, "read_bytes")));
  printf (LABEL "zeroes %" PRIu64 ", trims %" PRIu64 ", flushes %" PRIu64 "\n",
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
print_relay (const json_t *s, const json_t *relay)
{
  const bool relays = json_is_string (json_object_get (s, "place"));
  const uint64_t losses = number (relay, "losses");
  const uint64_t oldest_ms = number (relay, "oldest_request_ms");
  char text[UNITS_TEXT_MAX];

  if (json_is_null (relay) && relays)
    printf (LABEL "not made yet, the next client makes the proxy try\n",
            "connection");
  if (!json_is_object (relay))
    return;
  printf (LABEL "%s ", "connection", describe_relay (relay, relays));
  if (losses == 0)
    printf ("never lost\n");
  else
    printf ("lost %" PRIu64 " time%s\n", losses, losses == 1 ? "" : "s");
  if (oldest_ms >= SLOW_MS)
    printf (LABEL "a request is unanswered for %s: it is waited for\n", "",
            units_format_ms (text, oldest_ms));
}

/* How much is in flight at one side of the copy. */
static void
print_in_flight (const json_t *progress, const char *what)
{
  const json_t *l = json_object_get (progress, what);
  char text[UNITS_TEXT_MAX];

  if (number (l, "connections") == 0)
    return;
  printf (LABEL "up to %" PRIu64 " of %s in flight on ", what,
          number (l, "depth"),
          units_format_bytes (text, number (l, "request_bytes")));
  if (number (l, "connections") == 1)
    printf ("one connection\n");
  else
    printf ("each of %" PRIu64 " connections\n", number (l, "connections"));
}

/* What may be done to guests for the copy's sake, and what is; the other way
 * round 'background'.
 */
static void
print_guests (const json_t *progress)
{
  const char *mirror = string (progress, "mirror", "off");
  const uint64_t throttle = number (progress, "throttle");
  char text[UNITS_TEXT_MAX];

  if (json_is_integer (json_object_get (progress, "background")))
    printf (LABEL "%" PRIu64 "\n", "background",
            number (progress, "background"));
  if (!json_is_string (json_object_get (progress, "converge")))
    return;
  printf (LABEL "%s%s", "converge", string (progress, "converge", "?"),
          strcmp (mirror, "on") == 0 ? ", mirroring" : "");
  if (throttle > 0)
    printf (", guests limited to %s/s", units_format_bytes (text, throttle));
  printf ("\n");
}

/* The values in force, whoever set them. */
static void
print_limits (const json_t *progress)
{
  const time_t when = (time_t)number (progress, "finish_at");
  const uint64_t rate = number (progress, "rate");
  const bool wait = json_is_true (json_object_get (progress, "wait"));
  struct tm tm;
  char text[UNITS_TEXT_MAX];

  printf (LABEL "%s%s\n", "rate",
          rate ? units_format_bytes (text, rate) : "unlimited",
          rate ? "/s" : "");
  printf (LABEL "%s\n", "max pause",
          units_format_ms (text, number (progress, "max_pause_ms")));
  if (when != 0 && localtime_r (&when, &tm) != NULL)
    strftime (text, sizeof text, ", not before %a %H:%M", &tm);
  printf (LABEL "%s%s\n", "finish", string (progress, "finish", "?"),
          when   ? text
          : wait ? ", when 'nbdmigrate finish' asks for it"
                 : "");
  print_guests (progress);
  print_in_flight (progress, "reads");
  print_in_flight (progress, "writes");
}

static void
print_reading (const json_t *progress)
{
  const char *why = string (progress, "shared_memory_why", NULL);

  if (why != NULL)
    printf (LABEL "over NBD: %s\n", "reading", why);
  else if (json_is_true (json_object_get (progress, "shared_memory")))
    printf (LABEL "through shared memory\n", "reading");
}

/* Behind the label and the prefix; 0: there is no limit. */
static unsigned
room_for_text (unsigned columns, const char *prefix)
{
  const size_t used = LABEL_WIDTH + strlen (prefix);

  if (columns == 0)
    return 0;
  return columns > used ? columns - (unsigned)used : 1;
}

/* A destination that was lost. */
static void
print_away (const json_t *progress)
{
  const json_t *o = json_object_get (progress, "reconnecting");
  const char *why = string (o, "attempt_reason", string (o, "reason", "?"));
  char away[UNITS_TEXT_MAX], limit[UNITS_TEXT_MAX], again[UNITS_TEXT_MAX];

  if (!json_is_object (o))
    return;
  printf (LABEL "%s\n", "lost", string (o, "destination", "?"));
  printf (LABEL "for %s of %s at most; %s dirty again\n", "",
          units_format_ms (away, number (o, "away_ms")),
          units_format_ms (limit, number (o, "reconnect_ms")),
          units_format_bytes (again, number (o, "dirty_again_bytes")));
  printf (LABEL "%" PRIu64 " attempts to reconnect: %s\n", "",
          number (o, "attempts"), why);
}

static void
print_progress (const json_t *progress)
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
    printf (LABEL "%s%s\n", "progress", all, text);
  print_away (progress);
  print_limits (progress);
  print_reading (progress);
}

/* What an earlier run has sent and nobody has answered (R17). */
static void
print_late (const json_t *s)
{
  const uint64_t connections = number (s, "old_connections");
  char bytes[UNITS_TEXT_MAX], ms[UNITS_TEXT_MAX];

  if (number (s, "quarantined_bytes") == 0)
    return;
  units_format_bytes (bytes, number (s, "quarantined_bytes"));
  if (connections > 0)
    printf (LABEL "%s may change: a write is unanswered for %s\n", "uncertain",
            bytes, units_format_ms (ms, number (s, "unanswered_ms")));
  else if (number (s, "quarantine_ms") > 0)
    printf (LABEL "%s may change: read back in %s\n", "uncertain", bytes,
            units_format_ms (ms, number (s, "quarantine_ms")));
  else
    printf (LABEL "%s, to be read back\n", "uncertain", bytes);
}

/* What it costs to keep what is tracked for a restart of the proxy. */
static void
print_map (const json_t *map)
{
  if (strcmp (string (map, "state", "none"), "live") == 0)
    printf (LABEL "%" PRIu64 " syncs for %" PRIu64 " first writes\n",
            "dirty map", number (map, "syncs"), number (map, "first_touches"));
  else
    printf (LABEL "none: a restart of the proxy means a full copy\n",
            "dirty map");
}

/* What is tracked means something only to a migration that runs, or could go
 * on.
 */
static void
print_tracked (const json_t *s)
{
  const char *last_end = string (s, "last_end", "");
  char rate[UNITS_TEXT_MAX];

  if (json_is_true (json_object_get (s, "session"))) {
    print_bytes ("dirty", s, "dirty_bytes");
    print_bytes ("left", s, "remaining_bytes");
    printf (LABEL "%s/s\n", "dirty rate",
            units_format_bytes (rate, number (s, "dirty_bytes_per_second")));
    printf (LABEL "%s\n", "gate", string (s, "gate", "?"));
    print_map (json_object_get (s, "dirty_map"));
  }
  else if (strcmp (last_end, "interrupted") == 0 ||
           strcmp (last_end, "detached") == 0)
    print_bytes ("left", s, "remaining_bytes");
}

/* What a proxy that has ended could not get rid of (R13, R17). */
static void
print_kept (const json_t *s)
{
  if (json_is_string (json_object_get (s, "kept")))
    printf (LABEL "unflushed or unanswered writes, in %s:\n" LABEL
                  "settled before anybody is served again\n",
            "kept", string (s, "kept", ""), "");
}

/* Who answered is running, and "running" is said in what comes from a state
 * file only.
 */
static void
print_proxy (const json_t *s)
{
  const char *proxy = string (s, "proxy", "running");
  const bool known = json_object_get (s, "running") == NULL;

  printf (LABEL "%s%s\n", "proxy", proxy,
          !known && strcmp (proxy, "running") == 0
            ? "; no client has opened this disk yet"
            : "");
}

/* Where the disk is, whatever its place was called in a migration. */
static void
print_place (const json_t *s)
{
  const char *owner = string (s, "owner", "unknown");

  if (strcmp (owner, "fenced") == 0)
    printf (LABEL "handed over; nobody is served here (fenced)\n", "place");
  else if (strcmp (owner, "unknown") == 0)
    printf (LABEL "unknown; nobody is served until 'reopen' tells it\n",
            "place");
  else
    printf (LABEL "%s\n", "place",
            string (s, "place", "the proxy's local image"));
}

/* While they mean something: a migration runs, could go on, or be undone. */
static void
print_ends (const json_t *s)
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
    printf (LABEL "%s\n", "source", string (s, "source", ""));
  if ((!is_here || session || moves) &&
      json_is_string (json_object_get (s, "destination")))
    printf (LABEL "%s\n", "destination", string (s, "destination", ""));
}

static void
print_text (const char *where, const json_t *s)
{
  const json_t *progress = json_object_get (s, "progress");

  printf (LABEL "%s\n", "disk", where);
  if (string (s, "export", "")[0] != '\0')
    printf (LABEL "%s\n", "export", string (s, "export", ""));
  print_proxy (s);
  print_place (s);
  if (json_is_integer (json_object_get (s, "disk_bytes")))
    print_bytes ("size", s, "disk_bytes");
  printf (LABEL "%s\n", "migration", describe (s));
  print_ends (s);
  if (json_is_true (json_object_get (s, "tracking")))
    print_tracked (s);
  print_late (s);
  print_kept (s);
  if (json_is_object (json_object_get (s, "guest")))
    print_guest (json_object_get (s, "guest"));
  print_relay (s, json_object_get (s, "relay"));
  if (json_is_true (json_object_get (s, "session")) &&
      json_is_object (progress))
    print_progress (progress);
}

static int
print_json (const json_t *s)
{
  CLEANUP_FREE char *text = json_dumps (s, JSON_INDENT (2));

  if (text == NULL)
    return -1;
  puts (text);
  return 0;
}

int
status_print (const char *where, const json_t *s, bool json)
{
  if (json)
    return print_json (s);
  print_text (where, s);
  return 0;
}
