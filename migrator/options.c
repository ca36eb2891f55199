/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "say.h"
#include "units.h"
#include "uri.h"

static const char help[] =
  "Usage: nbdmigrate [OPTIONS] SOURCE DESTINATION\n"
  "       nbdmigrate status [--json] [--control=SOCKET] SOURCE\n"
  "\n"
  "Move a disk to another NBD server while its guest keeps writing to it.\n"
  "SOURCE is the NBD URI of a server that runs nbdkit --filter=migrate on "
  "this\n"
  "host, DESTINATION that of any writable NBD export.\n"
  "\n"
  "  --finish=MODE          how it ends: handover (the guest is fenced off,\n"
  "                         one elsewhere takes over) or detach (the guest\n"
  "                         stays, the destination is a copy) [detach]\n"
  "  --max-pause=DURATION   hard limit of the guest's pause [300ms]\n"
  "  --rate=SIZE            bytes per second, all disks together [unlimited]\n"
  "  --connections=N        NBD connections to each server, 1 to 16 [chosen]\n"
  "  --request-size=SIZE    bytes of one copy request [chosen]\n"
  "  --destination-is-zero  the destination reads as zeroes: skip holes\n"
  "  --restart              ignore what an interrupted run copied\n"
  "  --control=SOCKET       control socket of the proxy [announced by it]\n"
  "  --progress[=FD]        progress bar on stderr, or lines N/100 on FD\n"
  "                         [a bar if stderr is a terminal]\n"
  "  --quiet                print errors only\n"
  "  --json                 print one JSON event per line on stdout\n"
  "  --help                 print this and exit\n"
  "  --version              print the version and exit\n"
  "\n"
  "Sizes: 64K, 1M, 1.5G.  Durations: 300ms, 2s.\n"
  "Exit status: 0 done, 1 failed, 2 usage, 3 cancelled, 4 did not converge,\n"
  "5 outcome unknown.  See nbdmigrate(1).\n";

enum {
  OPT_FINISH = 256,
  OPT_MAX_PAUSE,
  OPT_RATE,
  OPT_CONNECTIONS,
  OPT_REQUEST_SIZE,
  OPT_DESTINATION_IS_ZERO,
  OPT_RESTART,
  OPT_CONTROL,
  OPT_PROGRESS,
  OPT_QUIET,
  OPT_JSON,
  OPT_HELP,
  OPT_VERSION,
};

static const struct option long_options[] = {
  { "finish", required_argument, NULL, OPT_FINISH },
  { "max-pause", required_argument, NULL, OPT_MAX_PAUSE },
  { "rate", required_argument, NULL, OPT_RATE },
  { "connections", required_argument, NULL, OPT_CONNECTIONS },
  { "request-size", required_argument, NULL, OPT_REQUEST_SIZE },
  { "destination-is-zero", no_argument, NULL, OPT_DESTINATION_IS_ZERO },
  { "restart", no_argument, NULL, OPT_RESTART },
  { "control", required_argument, NULL, OPT_CONTROL },
  { "progress", optional_argument, NULL, OPT_PROGRESS },
  { "quiet", no_argument, NULL, OPT_QUIET },
  { "json", no_argument, NULL, OPT_JSON },
  { "help", no_argument, NULL, OPT_HELP },
  { "version", no_argument, NULL, OPT_VERSION },
  { NULL, 0, NULL, 0 },
};

static const char *const finish_names[] = { "pivot", "handover", "detach" };

const char *
finish_name (enum finish finish)
{
  return finish_names[finish];
}

int
finish_parse (const char *text, enum finish *finish)
{
  size_t i;

  for (i = 0; i < sizeof finish_names / sizeof finish_names[0]; ++i)
    if (strcmp (text, finish_names[i]) == 0) {
      *finish = (enum finish)i;
      return 0;
    }
  return -1;
}

/* ---- values ------------------------------------------------------------ */

static int
parse_size (const char *option, const char *text, uint64_t *bytes)
{
  if (units_parse_bytes (text, bytes) == 0)
    return 0;
  say_usage ("--%s=%s: this is not a size; write for example 64K, 1M or 1.5G",
             option, text);
  return -1;
}

static int
parse_max_pause (struct options *o, const char *text)
{
  if (units_parse_ms (text, &o->max_pause_ms) == 0 && o->max_pause_ms > 0)
    return 0;
  say_usage ("--max-pause=%s: this is not a duration above 0; write for "
             "example 300ms or 2s",
             text);
  return -1;
}

static int
parse_request_size (struct options *o, const char *text)
{
  if (parse_size ("request-size", text, &o->request_bytes) == -1)
    return -1;
  if (o->request_bytes >= 4096 && o->request_bytes <= 32 * 1024 * 1024)
    return 0;
  say_usage ("--request-size=%s: it must be between 4K and 32M", text);
  return -1;
}

static int
parse_number (const char *option, const char *text, long min, long max,
              long *value)
{
  char *end;

  errno = 0;
  *value = strtol (text, &end, 10);
  if (errno == 0 && end != text && *end == '\0' && *value >= min &&
      *value <= max)
    return 0;
  say_usage ("--%s=%s: it must be a whole number from %ld to %ld", option, text,
             min, max);
  return -1;
}

static int
parse_progress (struct options *o, const char *text)
{
  long fd;

  if (text == NULL) {
    o->bar = true;
    return 0;
  }
  if (parse_number ("progress", text, 0, 65535, &fd) == -1)
    return -1;
  o->bar = false;
  o->progress_fd = (int)fd;
  return 0;
}

static int
parse_option (struct options *o, int opt, const char *text)
{
  long n;

  switch (opt) {
  case OPT_FINISH:
    if (finish_parse (text, &o->finish) == 0 && o->finish != FINISH_PIVOT)
      return 0;
    say_usage ("--finish=%s: it must be handover or detach", text);
    return -1;
  case OPT_MAX_PAUSE:
    return parse_max_pause (o, text);
  case OPT_RATE:
    return parse_size ("rate", text, &o->rate);
  case OPT_CONNECTIONS:
    if (parse_number ("connections", text, 1, 16, &n) == -1)
      return -1;
    o->connections = (unsigned)n;
    return 0;
  case OPT_REQUEST_SIZE:
    return parse_request_size (o, text);
  case OPT_DESTINATION_IS_ZERO:
    o->destination_is_zero = true;
    return 0;
  case OPT_RESTART:
    o->restart = true;
    return 0;
  case OPT_CONTROL:
    o->control = text;
    return 0;
  case OPT_PROGRESS:
    return parse_progress (o, text);
  case OPT_QUIET:
    o->quiet = true;
    return 0;
  case OPT_JSON:
    o->json = true;
    return 0;
  }
  return -1; /* getopt_long has said what is wrong */
}

/* ---- the disks --------------------------------------------------------- */

char *
options_uri (const char *what, const char *text)
{
  char *uri;

  if (!uri_is_nbd (text)) {
    say_usage ("%s '%s' is not an NBD URI; write for example "
               "'nbd+unix:///?socket=/run/vm1.sock' or 'nbd://host:10809/'",
               what, text);
    return NULL;
  }
  uri = uri_absolute (text);
  if (uri == NULL)
    say_error ("%s '%s': %s", what, text, strerror (errno));
  return uri;
}

static int
parse_pairs (struct options *o, int n, char *args[])
{
  int i;

  if (n < 2) {
    say_usage ("%s", n == 0 ? "SOURCE and DESTINATION are missing"
                            : "DESTINATION is missing");
    return -1;
  }
  if (n > 2) {
    say_usage ("'%s' is one argument too many: SOURCE and DESTINATION are "
               "expected",
               args[2]);
    return -1;
  }
  o->pairs = calloc ((size_t)n / 2, sizeof *o->pairs);
  if (o->pairs == NULL)
    return -1;
  for (i = 0; i < n; i += 2) {
    struct pair *p = &o->pairs[o->nr_pairs++];

    p->source = options_uri ("SOURCE", args[i]);
    if (p->source == NULL)
      return -1;
    p->destination = options_uri ("DESTINATION", args[i + 1]);
    if (p->destination == NULL)
      return -1;
    if (strcmp (p->source, p->destination) == 0) {
      say_usage ("SOURCE and DESTINATION are both '%s'", args[i]);
      return -1;
    }
  }
  return 0;
}

int
options_parse (struct options *o, int argc, char *argv[])
{
  int opt;

  *o = (struct options){ .finish = FINISH_DETACH,
                         .max_pause_ms = 300,
                         .bar = isatty (STDERR_FILENO),
                         .progress_fd = -1 };
  while ((opt = getopt_long (argc, argv, "", long_options, NULL)) != -1) {
    if (opt == OPT_HELP) {
      fputs (help, stdout);
      return fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
    }
    if (opt == OPT_VERSION) {
      puts ("nbdmigrate " NBDMIGRATE_VERSION);
      return fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
    }
    if (parse_option (o, opt, optarg) == -1)
      return EXIT_USAGE;
  }
  if (parse_pairs (o, argc - optind, argv + optind) == -1)
    return EXIT_USAGE;
  if (o->quiet)
    o->bar = false;
  return -1;
}

void
options_free (struct options *o)
{
  size_t i;

  for (i = 0; i < o->nr_pairs; ++i) {
    free (o->pairs[i].source);
    free (o->pairs[i].destination);
  }
  free (o->pairs);
}
