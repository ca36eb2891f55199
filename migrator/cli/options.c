/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/options.h"
#include "cli/combination.h"
#include "policy/policy.h"
#include "policy/window.h"
#include "protocol.h"
#include "base/say.h"
#include "units.h"
#include "uri.h"
#include "nbd-limits.h"

static const char help[] =
  "Usage: nbdmigrate [OPTIONS] SOURCE DESTINATION [SOURCE DESTINATION ...]\n"
  "       nbdmigrate status [--json] [--watch[=DURATION]] SOURCE|DIR\n"
  "       nbdmigrate list [--json]\n"
  "       nbdmigrate wait [--timeout=DURATION] SOURCE|DIR [ready|done]\n"
  "       nbdmigrate set SOURCE|DIR KEY=VALUE ...\n"
  "       nbdmigrate finish [--no-wait|--timeout=DURATION] SOURCE|DIR "
  "[MODE]\n"
  "       nbdmigrate pause SOURCE|DIR\n"
  "       nbdmigrate resume SOURCE|DIR\n"
  "       nbdmigrate cancel SOURCE|DIR\n"
  "       nbdmigrate reopen SOURCE|DIR [owner=source|destination]\n"
  "                         [destination=URI]\n"
  "\n"
  "Move disks to other NBD servers while their guest keeps writing to them.\n"
  "SOURCE is the NBD URI of a server that runs nbdkit --filter=migrate on "
  "this\n"
  "host, DESTINATION that of any writable NBD export, or local: for the way "
  "back to\n"
  "the proxy's local image.  Several pairs are one migration: one rate, one "
  "pause,\n"
  "all cut over or none.  DIR is the migrate-dir of a proxy; --export=NAME "
  "before\n"
  "DIR chooses one of its disks (without it status shows all).\n"
  "\n"
  "  --finish=MODE          how it ends: pivot (the proxy goes on on the\n"
  "                         destination), handover (the guest is fenced off,\n"
  "                         one elsewhere takes over) or detach (the guest\n"
  "                         stays, the destination is a copy) [pivot]\n"
  "  --wait                 once converged stay in sync until 'nbdmigrate "
  "finish'\n"
  "  --finish-at=TIME       stay in sync, and cut over not before: 04:00, or\n"
  "                         '2027-01-31 04:00'\n"
  "  --window=TIME-TIME     the same, in this part of any day: 22:30-04:00\n"
  "  --hook=PROGRAM         run it before the pause, and after it\n"
  "  --hook-timeout=DURATION  for so long at most, each time [10s]\n"
  "  --check                only check, and say what would be copied and how "
  "long\n"
  "                         that would take; nothing is changed\n"
  "  --max-pause=DURATION   hard limit of the guest's pause [300ms]\n"
  "  --max-pause-late=DURATION  the same after --patience [none]\n"
  "  --patience=DURATION    how long --max-pause is tried [60s]\n"
  "  --converge=HOW         against a guest that is too fast: auto, mirror\n"
  "                         (its writes to the destination, too), throttle\n"
  "                         (it, gently) or off (give up) [auto]\n"
  "  --reconnect=DURATION   how long a destination that is lost may be away\n"
  "                         before it ends; 0: it ends at once [30s]\n"
  "  --throttle-floor=SIZE  bytes per second that it may always write [1M]\n"
  "  --policy=explain       only say what would be done to the guest\n"
  "  --rate=SIZE            bytes per second, all disks together [unlimited]\n"
  "  --background=N         0 to 100: how much the guest comes first while "
  "the\n"
  "                         bulk is copied [50]\n"
  "  --connections=N        NBD connections to each server, 1 to 16 [found]\n"
  "  --depth=N              requests in flight on a connection to the\n"
  "                         destination, 1 to 64 [found]\n"
  "  --request-size=SIZE    bytes of one copy request [found]\n"
  "  --no-shared-memory     read the source by NBD only\n"
  "  --destination-is-zero  the destination reads as zeroes: skip holes\n"
  "  --shared-base=URI      copy only what the top image layer holds; URI of "
  "the\n"
  "                         server that the proxy reads from; once a disk\n"
  "  --restart              ignore what an interrupted run copied\n"
  "  --incremental          after a detach: copy only what changed since\n"
  "  --verify               read back and compare before the cut-over\n"
  "  --digest               after a detach: SHA-256 of the destination\n"
  "  --sample-seed=N        look at the same random places as a run before\n"
  "  --require-tls          refuse a URI without TLS, also of a Unix socket\n"
  "  --control=SOCKET       control socket of the proxy [announced by it]\n"
  "  --timeout=DURATION     give up if it is not cut over by then\n"
  "  -p, --progress[=log|FD]  progress bar on stderr, or lines N/100 on FD, "
  "or\n"
  "                         a line now and then [a bar if stderr is a "
  "terminal]\n"
  "  --progress-interval=DURATION  how often --progress=log writes one [10s]\n"
  "  -q, --quiet            print errors only\n"
  "  -v, --verbose          say what is decided, and why\n"
  "  --json                 print one JSON event per line on stdout\n"
  "  --events=FILE          write the events to this file\n"
  "  --metrics=FILE         keep the state there for node_exporter\n"
  "  -h, --help             print this and exit\n"
  "  -V, --version          print the version and exit\n"
  "\n"
  "Keys of set: rate, background, max-pause, converge.  Sizes: 64K, 1M, 1.5G.\n"
  "Durations: 300ms, 2s.\n"
  "Exit status: 0 done, 1 failed, 2 usage, 3 cancelled, 4 did not converge,\n"
  "5 outcome unknown.  See nbdmigrate(1).\n";

enum {
  OPT_FINISH = OPTIONS_FIRST,
  OPT_WAIT,
  OPT_CHECK,
  OPT_HOOK,
  OPT_HOOK_TIMEOUT,
  OPT_WINDOW,
  OPT_FINISH_AT,
  OPT_SHARED_BASE,
  OPT_INCREMENTAL,
  OPT_VERIFY,
  OPT_DIGEST,
  OPT_MAX_PAUSE,
  OPT_MAX_PAUSE_LATE,
  OPT_PATIENCE,
  OPT_RECONNECT,
  OPT_CONVERGE,
  OPT_THROTTLE_FLOOR,
  OPT_POLICY,
  OPT_RATE,
  OPT_CONNECTIONS,
  OPT_DEPTH,
  OPT_REQUEST_SIZE,
  OPT_NO_SHARED_MEMORY,
  OPT_SAMPLE_SEED,
  OPT_DESTINATION_IS_ZERO,
  OPT_RESTART,
  OPT_BACKGROUND,
  OPT_REQUIRE_TLS,
  OPT_CONTROL,
  OPT_PROGRESS,
  OPT_PROGRESS_INTERVAL,
  OPT_TIMEOUT,
  OPT_VERBOSE,
  OPT_QUIET,
  OPT_JSON,
  OPT_EVENTS,
  OPT_METRICS,
  OPT_HELP,
  OPT_VERSION,
};

static const struct option long_options[] = {
  { "finish", required_argument, NULL, OPT_FINISH },
  { "wait", no_argument, NULL, OPT_WAIT },
  { "check", no_argument, NULL, OPT_CHECK },
  { "hook", required_argument, NULL, OPT_HOOK },
  { "hook-timeout", required_argument, NULL, OPT_HOOK_TIMEOUT },
  { "window", required_argument, NULL, OPT_WINDOW },
  { "finish-at", required_argument, NULL, OPT_FINISH_AT },
  { "max-pause", required_argument, NULL, OPT_MAX_PAUSE },
  { "max-pause-late", required_argument, NULL, OPT_MAX_PAUSE_LATE },
  { "patience", required_argument, NULL, OPT_PATIENCE },
  { "reconnect", required_argument, NULL, OPT_RECONNECT },
  { "converge", required_argument, NULL, OPT_CONVERGE },
  { "throttle-floor", required_argument, NULL, OPT_THROTTLE_FLOOR },
  { "policy", required_argument, NULL, OPT_POLICY },
  { "rate", required_argument, NULL, OPT_RATE },
  { "background", required_argument, NULL, OPT_BACKGROUND },
  { "connections", required_argument, NULL, OPT_CONNECTIONS },
  { "depth", required_argument, NULL, OPT_DEPTH },
  { "request-size", required_argument, NULL, OPT_REQUEST_SIZE },
  { "no-shared-memory", no_argument, NULL, OPT_NO_SHARED_MEMORY },
  { "sample-seed", required_argument, NULL, OPT_SAMPLE_SEED },
  { "destination-is-zero", no_argument, NULL, OPT_DESTINATION_IS_ZERO },
  { "shared-base", required_argument, NULL, OPT_SHARED_BASE },
  { "incremental", no_argument, NULL, OPT_INCREMENTAL },
  { "verify", no_argument, NULL, OPT_VERIFY },
  { "digest", no_argument, NULL, OPT_DIGEST },
  { "restart", no_argument, NULL, OPT_RESTART },
  { "require-tls", no_argument, NULL, OPT_REQUIRE_TLS },
  { "control", required_argument, NULL, OPT_CONTROL },
  { "progress", optional_argument, NULL, OPT_PROGRESS },
  { "progress-interval", required_argument, NULL, OPT_PROGRESS_INTERVAL },
  { "timeout", required_argument, NULL, OPT_TIMEOUT },
  { "verbose", no_argument, NULL, OPT_VERBOSE },
  { "quiet", no_argument, NULL, OPT_QUIET },
  { "json", no_argument, NULL, OPT_JSON },
  { "events", required_argument, NULL, OPT_EVENTS },
  { "metrics", required_argument, NULL, OPT_METRICS },
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

/* "100MB", as many write. */
static bool
has_powers_of_1000 (const char *text)
{
  const size_t len = strlen (text);
  char without[32];
  uint64_t ignored;

  if (len < 2 || len > sizeof without || strchr ("bB", text[len - 1]) == NULL ||
      strchr ("kKmMgGtTpP", text[len - 2]) == NULL)
    return false;
  memcpy (without, text, len - 1);
  without[len - 1] = '\0';
  return units_parse_bytes (without, &ignored) == 0;
}

int
options_bytes (const char *name, const char *text, uint64_t *bytes)
{
  if (units_parse_bytes (text, bytes) == 0)
    return 0;
  if (has_powers_of_1000 (text))
    say_usage ("%s=%s: this is not a size: powers of 1000 are not known; write "
               "%.*s or %.*siB for powers of 1024",
               name, text, (int)strlen (text) - 1, text, (int)strlen (text) - 1,
               text);
  else
    say_usage ("%s=%s: this is not a size; write for example 64K, 1M or 1.5G",
               name, text);
  return -1;
}

/* A forgotten suffix makes a migration that takes years. */
#define RATE_TOLD_BYTES 4096

int
options_rate (const char *name, const char *text, uint64_t *bytes)
{
  if (options_bytes (name, text, bytes) == -1)
    return -1;
  if (*bytes == 0 && strpbrk (text, "123456789") != NULL) {
    say_usage ("%s=%s: this is less than a byte per second", name, text);
    return -1;
  }
  if (*bytes > 0 && *bytes < RATE_TOLD_BYTES)
    say_info ("%s=%s is %" PRIu64 " bytes per second; with the suffix M it "
              "would be MiB",
              name, text, *bytes);
  return 0;
}

/* Longer ones would not be waited for by anybody, and have room in all sums. */
#define DURATION_MAX_MS (UINT64_C (366) * 24 * 3600 * 1000)

int
options_pause (const char *name, const char *text, uint64_t *ms)
{
  if (units_parse_ms (text, ms) == 0 && *ms > 0 && *ms <= DURATION_MAX_MS)
    return 0;
  say_usage ("%s=%s: this is not a duration above 0, and of at most a year; "
             "write for example 300ms, 2s, 5m or 1h",
             name, text);
  return -1;
}

static int
parse_reconnect (const char *text, uint64_t *ms)
{
  if (units_parse_ms (text, ms) == 0 && *ms <= DURATION_MAX_MS)
    return 0;
  say_usage ("--reconnect=%s: this is not a duration of at most a year; write "
             "for example 30s, or 0 to end when the destination is lost",
             text);
  return -1;
}

static int
parse_number (const char *name, const char *text, long min, long max,
              long *value)
{
  char *end;

  errno = 0;
  *value = strtol (text, &end, 10);
  if (errno == 0 && end != text && *end == '\0' && *value >= min &&
      *value <= max)
    return 0;
  say_usage ("%s=%s: it must be a whole number from %ld to %ld", name, text,
             min, max);
  return -1;
}

int
options_background (const char *name, const char *text, unsigned *background)
{
  long n;

  if (parse_number (name, text, 0, OPTIONS_BACKGROUND_MAX, &n) == -1)
    return -1;
  *background = (unsigned)n;
  return 0;
}

int
options_converge (const char *name, const char *text, unsigned *converge)
{
  enum policy_converge parsed;

  if (policy_converge_parse (text, &parsed) == -1) {
    say_usage ("%s=%s: it must be auto, mirror, throttle or off", name, text);
    return -1;
  }
  *converge = parsed;
  return 0;
}

int
options_control (const char *text, const char **path)
{
  if (text[0] == '\0') {
    say_usage ("--control=: it must be the path of a socket");
    return -1;
  }
  *path = text;
  return 0;
}

/* It is opened when all else is right. */
static int
parse_file (const char *name, const char *text, const char **path)
{
  if (text[0] == '\0') {
    say_usage ("%s=: it must be the path of a file", name);
    return -1;
  }
  *path = text;
  return 0;
}

static int
parse_throttle_floor (struct options *o, const char *text)
{
  if (options_rate ("--throttle-floor", text, &o->throttle_floor) == -1)
    return -1;
  if (o->throttle_floor > 0)
    return 0;
  say_usage ("--throttle-floor=%s: no guest can live with that; it must be "
             "above 0",
             text);
  return -1;
}

/* That it cannot be run is better found now than at night. */
static int
parse_hook (struct options *o, const char *text)
{
  struct stat st;

  if (stat (text, &st) == 0 && S_ISREG (st.st_mode) &&
      access (text, X_OK) == 0 && strchr (text, '/') != NULL) {
    o->hook = text;
    return 0;
  }
  say_usage ("--hook=%s: it must be the path of a program that can be run, as "
             "./freeze.sh",
             text);
  return -1;
}

static int
parse_window (struct options *o, const char *text)
{
  struct window w = { .given = false };

  if (window_parse (text, &w) == -1) {
    say_usage ("--window=%s: it must be a part of the day, as 22:30-04:00",
               text);
    return -1;
  }
  o->window = true;
  o->window_from = w.from;
  o->window_to = w.to;
  return 0;
}

static int
parse_finish_at (struct options *o, const char *text)
{
  const time_t now = time (NULL);

  if (window_parse_at (text, now, &o->finish_at) == -1) {
    say_usage ("--finish-at=%s: it must be a time of the clock, as 04:00, or a "
               "date and time, as '2027-01-31 04:00'",
               text);
    return -1;
  }
  if (o->finish_at > now)
    return 0;
  say_usage ("--finish-at=%s: that time is over", text);
  return -1;
}

static int
parse_policy (struct options *o, const char *text)
{
  if (strcmp (text, "explain") == 0) {
    o->explain = true;
    return 0;
  }
  say_usage ("--policy=%s: only explain is possible", text);
  return -1;
}

static int
parse_request_size (struct options *o, const char *text)
{
  if (options_bytes ("--request-size", text, &o->request_bytes) == -1)
    return -1;
  if (o->request_bytes >= 4096 && o->request_bytes <= 32 * 1024 * 1024)
    return 0;
  say_usage ("--request-size=%s: it must be between 4K and 32M", text);
  return -1;
}

#define LOG_MS 10000
#define HOOK_MS 10000

/* What it says takes the place of what an earlier one said. */
static int
parse_progress (struct options *o, const char *text)
{
  long fd;

  o->bar = o->bar_asked = false;
  o->log_ms = 0;
  o->progress_fd = -1;
  if (text == NULL) {
    o->bar = o->bar_asked = true;
    return 0;
  }
  if (strcmp (text, "log") == 0) {
    o->log_ms = LOG_MS;
    return 0;
  }
  if (text[0] == '\0' || text[strspn (text, "0123456789")] != '\0') {
    say_usage ("--progress=%s: it must be log, or the number of an open "
               "descriptor",
               text);
    return -1;
  }
  if (parse_number ("--progress", text, 0, 65535, &fd) == -1)
    return -1;
  if (fcntl ((int)fd, F_GETFD) == -1) {
    say_usage ("--progress=%s: no file is open at this descriptor", text);
    return -1;
  }
  o->progress_fd = (int)fd;
  return 0;
}

/* What was written is right, and the system has failed: no usage error. */
static void __attribute__ ((noreturn)) fail (const char *what, const char *text)
{
  say_error ("%s '%s': %s; nothing was done", what, text, strerror (errno));
  exit (EXIT_FAILED);
}

static int
add_shared_base (struct options *o, const char *text)
{
  char **v = reallocarray (o->shared_bases, o->nr_shared_bases + 1,
                           sizeof *o->shared_bases);

  if (v == NULL)
    fail ("--shared-base", text);
  o->shared_bases = v;
  v[o->nr_shared_bases] = options_uri ("--shared-base", text);
  if (v[o->nr_shared_bases] == NULL)
    return -1;
  o->nr_shared_bases++;
  return 0;
}

static int
parse_finish (struct options *o, const char *text)
{
  if (finish_parse (text, &o->finish) == 0)
    return 0;
  say_usage ("--finish=%s: it must be pivot, handover or detach", text);
  return -1;
}

static int
parse_count (const char *name, const char *text, long max, unsigned *count)
{
  long n;

  if (parse_number (name, text, 1, max, &n) == -1)
    return -1;
  *count = (unsigned)n;
  return 0;
}

static int
parse_sample_seed (struct options *o, const char *text)
{
  long n;

  if (parse_number ("--sample-seed", text, 0, UINT32_MAX, &n) == -1)
    return -1;
  o->sample_seed = n;
  return 0;
}

/* Options without a value; false if it is none of them. */
static bool
parse_flag (struct options *o, int opt)
{
  bool *const flag = opt == OPT_WAIT                  ? &o->wait
                     : opt == OPT_CHECK               ? &o->check
                     : opt == OPT_DESTINATION_IS_ZERO ? &o->destination_is_zero
                     : opt == OPT_NO_SHARED_MEMORY    ? &o->shared_memory
                     : opt == OPT_RESTART             ? &o->restart
                     : opt == OPT_INCREMENTAL         ? &o->incremental
                     : opt == OPT_VERIFY              ? &o->verify
                     : opt == OPT_DIGEST              ? &o->digest
                     : opt == OPT_REQUIRE_TLS         ? &o->require_tls
                     : opt == OPT_QUIET               ? &o->quiet
                     : opt == OPT_VERBOSE             ? &o->verbose
                     : opt == OPT_JSON                ? &o->json
                                                      : NULL;

  if (flag != NULL)
    *flag = opt != OPT_NO_SHARED_MEMORY;
  return flag != NULL;
}

/* Options whose value is a duration above 0; NULL if it is none of them. */
static uint64_t *
duration_of (struct options *o, int opt, const char **name)
{
  switch (opt) {
  case OPT_MAX_PAUSE:
    *name = "--max-pause";
    return &o->max_pause_ms;
  case OPT_MAX_PAUSE_LATE:
    *name = "--max-pause-late";
    return &o->max_pause_late_ms;
  case OPT_PATIENCE:
    *name = "--patience";
    return &o->patience_ms;
  case OPT_PROGRESS_INTERVAL:
    *name = "--progress-interval";
    return &o->interval_ms;
  case OPT_HOOK_TIMEOUT:
    *name = "--hook-timeout";
    return &o->hook_timeout_ms;
  case OPT_TIMEOUT:
    *name = "--timeout";
    return &o->timeout_ms;
  }
  return NULL;
}

/* What is told, and where; the last of the parsers. */
static int
parse_output (struct options *o, int opt, const char *text)
{
  switch (opt) {
  case OPT_PROGRESS:
    return parse_progress (o, text);
  case OPT_EVENTS:
    return parse_file ("--events", text, &o->events);
  case OPT_METRICS:
    return parse_file ("--metrics", text, &o->metrics);
  }
  return -1; /* options_next has said what is wrong */
}

/* How fast, and how. */
static int
parse_tuning (struct options *o, int opt, const char *text)
{
  switch (opt) {
  case OPT_RATE:
    return options_rate ("--rate", text, &o->rate);
  case OPT_BACKGROUND:
    return options_background ("--background", text, &o->background);
  case OPT_CONNECTIONS:
    return parse_count ("--connections", text, 16, &o->connections);
  case OPT_DEPTH:
    return parse_count ("--depth", text, NBD_DEPTH_MAX, &o->depth);
  case OPT_REQUEST_SIZE:
    return parse_request_size (o, text);
  case OPT_SAMPLE_SEED:
    return parse_sample_seed (o, text);
  }
  return parse_output (o, opt, text);
}

static int
parse_option (struct options *o, int opt, const char *text)
{
  const char *name;
  uint64_t *const ms = duration_of (o, opt, &name);

  if (ms != NULL)
    return options_pause (name, text, ms);
  if (parse_flag (o, opt))
    return 0;
  switch (opt) {
  case OPT_FINISH:
    return parse_finish (o, text);
  case OPT_FINISH_AT:
    return parse_finish_at (o, text);
  case OPT_WINDOW:
    return parse_window (o, text);
  case OPT_HOOK:
    return parse_hook (o, text);
  case OPT_RECONNECT:
    return parse_reconnect (text, &o->reconnect_ms);
  case OPT_CONVERGE:
    return options_converge ("--converge", text, &o->converge);
  case OPT_THROTTLE_FLOOR:
    return parse_throttle_floor (o, text);
  case OPT_POLICY:
    return parse_policy (o, text);
  case OPT_SHARED_BASE:
    return add_shared_base (o, text);
  case OPT_CONTROL:
    return options_control (text, &o->control);
  }
  return parse_tuning (o, opt, text);
}

int
options_help (void)
{
  fputs (help, stdout);
  return fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

static size_t
name_length (const char *option)
{
  return strcspn (option, "=");
}

/* What getopt_long does not tell apart: an option that it did not like, in
 * words.
 */
static void
say_bad_option (const char *text, const struct option *known)
{
  const char *name = text + strspn (text, "-");
  const size_t n = name_length (name);
  const struct option *o;
  unsigned begin_so = 0;

  for (o = known; o->name != NULL; ++o) {
    if (strncmp (o->name, name, n) != 0)
      continue;
    begin_so++;
    if (strlen (o->name) == n) {
      begin_so = 1;
      break;
    }
  }
  if (begin_so == 0)
    say_usage ("there is no option '%s'", text);
  else if (begin_so == 1)
    say_usage ("the option '%.*s' takes no value", (int)(name - text + n),
               text);
  else
    say_usage ("the option '%.*s' is ambiguous", (int)(name - text + n), text);
}

int
options_next (int argc, char *argv[], const struct option *known)
{
  return options_next_short (argc, argv, ":", known);
}

int
options_next_short (int argc, char *argv[], const char *letters,
                    const struct option *known)
{
  const int opt = getopt_long (argc, argv, letters, known, NULL);

  if (opt == ':')
    say_usage ("the option '%s' needs a value", argv[optind - 1]);
  else if (opt == '?' && optopt > 0 && optopt < OPTIONS_FIRST)
    say_usage ("there is no option '-%c'", optopt);
  else if (opt == '?')
    say_bad_option (argv[optind - 1], known);
  return opt;
}

/* ---- the disks --------------------------------------------------------- */

char *
options_uri (const char *what, const char *text)
{
  const char *why = uri_wrong (text);
  char *uri;

  if (why != NULL) {
    say_usage ("%s '%s' %s", what, text, why);
    return NULL;
  }
  if (!uri_is_nbd (text)) {
    say_usage ("%s '%s' is not an NBD URI; write for example "
               "'nbd+unix:///?socket=/run/vm1.sock' or 'nbd://host:10809/'%s",
               what, text,
               strcmp (what, "DESTINATION") == 0
                 ? ", or '" URI_LOCAL "' for the proxy's local image"
                 : "");
    return NULL;
  }
  uri = uri_absolute (text);
  if (uri == NULL)
    fail (what, text);
  return uri;
}

/* A URI that another pair uses, too: the same disk twice, or two disks onto
 * one.
 */
static int
check_unique (const struct options *o, const char *uri)
{
  if (times_in_pairs (o, uri) == 1)
    return 0;
  say_usage ("'%s' is named twice; every disk needs a source and a destination "
             "of its own",
             uri);
  return -1;
}

/* The destination is the source's own local image. */
static int
add_local (struct pair *p)
{
  p->destination = strdup (URI_LOCAL);
  p->connect = uri_of_local (p->source);
  if (p->destination != NULL && p->connect != NULL)
    return 0;
  if (errno != EINVAL)
    fail ("DESTINATION", URI_LOCAL);
  say_usage ("'%s' is possible for the default export of a proxy only, and "
             "'%s' asks for another one",
             URI_LOCAL, p->source);
  return -1;
}

static int
parse_pair (struct options *o, char *args[])
{
  struct pair *p = &o->pairs[o->nr_pairs++];

  p->source = options_uri ("SOURCE", args[0]);
  if (p->source == NULL || check_unique (o, p->source) == -1)
    return -1;
  if (uri_is_local (args[1]))
    return add_local (p);
  p->destination = options_uri ("DESTINATION", args[1]);
  if (p->destination == NULL || check_unique (o, p->destination) == -1)
    return -1;
  p->connect = strdup (p->destination);
  if (p->connect == NULL)
    fail ("DESTINATION", p->destination);
  return 0;
}

/* A word that is no URI was meant as a command. */
static bool
is_word (const char *text)
{
  return text[strspn (text, "abcdefghijklmnopqrstuvwxyz-")] == '\0';
}

static void
say_bad_word (const char *text)
{
  static const char *const commands[] = { "status", "list",   "wait",
                                          "set",    "finish", "pause",
                                          "resume", "cancel", "reopen" };
  size_t i;

  for (i = 0; i < sizeof commands / sizeof commands[0]; ++i)
    if (strcmp (text, commands[i]) == 0) {
      say_usage ("the command '%s' must come first: its options follow it",
                 text);
      return;
    }
  say_usage ("'%s' is neither an NBD URI nor a command; the commands, which "
             "come first, are status, list, wait, set, finish, pause, resume, "
             "cancel and reopen",
             text);
}

static int
parse_pairs (struct options *o, int n, char *args[])
{
  int i;

  if (n == 0) {
    say_usage ("SOURCE and DESTINATION are missing");
    return -1;
  }
  if (is_word (args[0])) {
    say_bad_word (args[0]);
    return -1;
  }
  if (n % 2 != 0) {
    say_usage ("the DESTINATION of '%s' is missing", args[n - 1]);
    return -1;
  }
  if (n / 2 > PROTOCOL_DISKS_MAX) {
    say_usage ("%d disks are too many: one migration moves at most %d", n / 2,
               PROTOCOL_DISKS_MAX);
    return -1;
  }
  o->pairs = calloc ((size_t)n / 2, sizeof *o->pairs);
  if (o->pairs == NULL)
    fail ("SOURCE", args[0]);
  for (i = 0; i < n; i += 2)
    if (parse_pair (o, args + i) == -1)
      return -1;
  return 0;
}

/* Some have a letter, too. */
static int
next_option (int argc, char *argv[])
{
  static const struct {
    int letter, option;
  } letters[] = {
    { 'h', OPT_HELP },  { 'V', OPT_VERSION }, { 'p', OPT_PROGRESS },
    { 'q', OPT_QUIET }, { 'v', OPT_VERBOSE },
  };
  const int opt = options_next_short (argc, argv, ":hVpqv", long_options);
  size_t i;

  for (i = 0; i < sizeof letters / sizeof letters[0]; ++i)
    if (opt == letters[i].letter)
      return letters[i].option;
  return opt;
}

int
options_parse (struct options *o, int argc, char *argv[])
{
  int opt;

  *o = (struct options){ .finish = FINISH_PIVOT,
                         .max_pause_ms = 300,
                         .background = OPTIONS_BACKGROUND,
                         .converge = CONVERGE_AUTO,
                         .reconnect_ms = OPTIONS_RECONNECT_MS,
                         .shared_memory = true,
                         .sample_seed = -1,
                         .bar = isatty (STDERR_FILENO),
                         .progress_fd = -1 };
  while ((opt = next_option (argc, argv)) != -1) {
    if (opt == OPT_HELP)
      return options_help ();
    if (opt == OPT_VERSION) {
      puts ("nbdmigrate " NBDMIGRATE_VERSION);
      return fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
    }
    if (parse_option (o, opt, optarg) == -1)
      return EXIT_USAGE;
  }
  if (parse_pairs (o, argc - optind, argv + optind) == -1 ||
      combination_check (o) == -1)
    return EXIT_USAGE;
  if (o->throttle_floor == 0)
    o->throttle_floor = THROTTLE_FLOOR_DEFAULT;
  if (o->patience_ms == 0)
    o->patience_ms = POLICY_PATIENCE_DEFAULT_MS;
  if (o->hook_timeout_ms == 0)
    o->hook_timeout_ms = HOOK_MS;
  if (o->interval_ms > 0)
    o->log_ms = o->interval_ms;
  if (o->quiet) {
    o->bar = false;
    o->log_ms = 0;
  }
  return -1;
}

void
options_free (struct options *o)
{
  size_t i;

  for (i = 0; i < o->nr_pairs; ++i) {
    free (o->pairs[i].source);
    free (o->pairs[i].destination);
    free (o->pairs[i].connect);
  }
  free (o->pairs);
  for (i = 0; i < o->nr_shared_bases; ++i)
    free (o->shared_bases[i]);
  free (o->shared_bases);
}
