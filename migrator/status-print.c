/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "progress-text.h"
#include "status-print.h"
#include "units.h"

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

  printf ("%-12s %s\n", label, units_format_bytes (text, number (o, name)));
}

static const char *
describe (const json_t *s)
{
  const char *last_end = string (s, "last_end", "none");
  const bool tracking = json_is_true (json_object_get (s, "tracking"));

  if (json_is_true (json_object_get (s, "session")))
    return "running";
  if (strcmp (last_end, "interrupted") == 0)
    return tracking ? "interrupted; run it again to copy the rest"
                    : "interrupted; the next run copies everything";
  if (strcmp (last_end, "detached") == 0)
    return tracking ? "detached; writes since then are tracked"
                    : "detached; writes since then were not tracked";
  if (strcmp (last_end, "handed-over") == 0)
    return "done: handed over, the guest here is fenced off";
  if (strcmp (last_end, "pivoted") == 0)
    return "done: the proxy relays to the destination";
  if (strcmp (last_end, "aborted") == 0)
    return "cancelled";
  return "none";
}

static void
print_guest (const json_t *guest)
{
  char written[UNITS_TEXT_MAX], read_bytes[UNITS_TEXT_MAX];

  printf ("%-12s %" PRIu64 " writes (%s), %" PRIu64 " zeroes, %" PRIu64
          " trims, %" PRIu64 " flushes, %" PRIu64 " reads (%s)\n",
          "requests", number (guest, "writes"),
          units_format_bytes (written, number (guest, "written_bytes")),
          number (guest, "zeroes"), number (guest, "trims"),
          number (guest, "flushes"), number (guest, "reads"),
          units_format_bytes (read_bytes, number (guest, "read_bytes")));
}

/* After a pivot: how the destination is doing.  'relay' is NULL in what comes
 * from a state file.
 */
static void
print_relay (const json_t *s, const json_t *relay)
{
  const bool up = json_is_true (json_object_get (relay, "up"));

  if (json_is_null (relay) &&
      strcmp (string (s, "owner", "unknown"), "destination") == 0)
    printf ("%-12s not connected yet, the next client makes it try\n", "relay");
  if (!json_is_object (relay))
    return;
  printf ("%-12s %s, lost %" PRIu64 " times\n", "relay",
          up ? "connected" : "connecting again", number (relay, "losses"));
}

/* The values in force, whoever set them. */
static void
print_limits (const json_t *progress)
{
  const uint64_t rate = number (progress, "rate");
  char text[UNITS_TEXT_MAX];

  printf ("%-12s %s%s\n", "rate",
          rate ? units_format_bytes (text, rate) : "unlimited",
          rate ? "/s" : "");
  printf ("%-12s %s\n", "max pause",
          units_format_ms (text, number (progress, "max_pause_ms")));
  printf ("%-12s %s\n", "finish", string (progress, "finish", "?"));
}

static void
print_text (const char *where, const json_t *s)
{
  const json_t *progress = json_object_get (s, "progress");
  const bool running = json_is_true (json_object_get (s, "session"));
  char rate[UNITS_TEXT_MAX];

  printf ("%-12s %s\n", "disk", where);
  if (string (s, "export", "")[0] != '\0')
    printf ("%-12s %s\n", "export", string (s, "export", ""));
  printf ("%-12s %s\n", "owner", string (s, "owner", "unknown"));
  if (json_is_integer (json_object_get (s, "disk_bytes")))
    print_bytes ("size", s, "disk_bytes");
  printf ("%-12s %s\n", "migration", describe (s));
  if (json_object_get (s, "destination") != NULL &&
      !json_is_null (json_object_get (s, "destination")))
    printf ("%-12s %s\n", "destination", string (s, "destination", ""));
  if (json_is_true (json_object_get (s, "tracking"))) {
    print_bytes ("dirty", s, "dirty_bytes");
    print_bytes ("remaining", s, "remaining_bytes");
    printf ("%-12s %s/s\n", "dirty rate",
            units_format_bytes (rate, number (s, "dirty_bytes_per_second")));
    printf ("%-12s %s\n", "gate", string (s, "gate", "?"));
  }
  if (json_is_object (json_object_get (s, "guest")))
    print_guest (json_object_get (s, "guest"));
  print_relay (s, json_object_get (s, "relay"));
  if (running && json_is_object (progress)) {
    CLEANUP_FREE char *text = progress_text (progress, false, 0);

    if (text != NULL)
      printf ("%-12s %s\n", "progress", text);
    print_limits (progress);
  }
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
