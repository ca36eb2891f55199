/* SPDX-License-Identifier: BSD-3-Clause */

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "options.h"
#include "progress.h"
#include "proxy.h"
#include "say.h"
#include "status.h"
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

  if (json_is_true (json_object_get (s, "session")))
    return "running";
  if (strcmp (last_end, "interrupted") == 0)
    return "interrupted; run it again to go on";
  if (strcmp (last_end, "detached") == 0)
    return "detached; writes since then are tracked";
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
print_status (const char *uri, const json_t *s)
{
  const json_t *progress = json_object_get (s, "progress");
  const bool running = json_is_true (json_object_get (s, "session"));
  char rate[UNITS_TEXT_MAX];

  printf ("%-12s %s\n", "source", uri);
  printf ("%-12s %s\n", "owner", string (s, "owner", "unknown"));
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
  print_guest (json_object_get (s, "guest"));
  if (running && json_is_object (progress)) {
    CLEANUP_FREE char *text = progress_text (progress, 0);

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

static int
ask (struct proxy *p, bool json)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  int r = 0;

  control_wait (p->control, "status", NULL, 5000, &a);
  if (a.value == NULL) {
    say_error ("asking %s for its status: %s", p->uri, a.desc);
    return EXIT_FAILED;
  }
  if (json)
    r = print_json (a.value);
  else
    print_status (p->uri, a.value);
  return r == 0 && fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

int
status_main (int argc, char *argv[])
{
  static const struct option long_options[] = {
    { "json", no_argument, NULL, 'j' },
    { "control", required_argument, NULL, 'c' },
    { NULL, 0, NULL, 0 },
  };
  const char *control = NULL;
  struct proxy p;
  bool json = false;
  int opt, status;

  while ((opt = getopt_long (argc, argv, "", long_options, NULL)) != -1) {
    if (opt == 'j')
      json = true;
    else if (opt == 'c')
      control = optarg;
    else
      return EXIT_USAGE;
  }
  if (optind != argc - 1) {
    say_usage ("status takes one argument, SOURCE");
    return EXIT_USAGE;
  }
  status = proxy_open (&p, argv[optind], control);
  if (status == EXIT_DONE)
    status = ask (&p, json);
  proxy_close (&p);
  return status;
}
