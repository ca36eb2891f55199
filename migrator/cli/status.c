/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "proxy/exports.h"
#include "base/options.h"
#include "proxy/proxy.h"
#include "base/say.h"
#include "cli/status-dir.h"
#include "cli/status-print.h"
#include "cli/screen.h"
#include "cli/status.h"

enum manner {
  MANNER_TEXT,
  MANNER_JSON,
  MANNER_FIRST_SCREEN, /* on a terminal that is cleared */
  MANNER_SCREEN,       /* in place of what is there */
};

static int
show (const char *where, const json_t *status, enum manner manner)
{
  CLEANUP_FREE char *text = NULL;

  if (manner == MANNER_TEXT || manner == MANNER_JSON) {
    status_print (where, status, manner == MANNER_JSON);
    return fflush (stdout) == 0 ? 0 : -1;
  }
  text = status_text (where, status);
  return screen_show (text, STATUS_LABEL_WIDTH, manner == MANNER_FIRST_SCREEN);
}

static int
ask (struct proxy *p, enum manner manner)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, 5000, &a);
  if (a.value == NULL) {
    say_error ("asking %s for its status: %s", p->uri, a.desc);
    return EXIT_FAILED;
  }
  return show (p->uri, a.value, manner) == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* ---- again and again --------------------------------------------------- */

struct which {
  const char *source, *control, *export;
};

static int
status_once (const struct which *w, bool json)
{
  struct proxy p;
  int status;

  if (is_directory (w->source))
    return status_of_directory (w->source, w->control, w->export, json);
  status = proxy_open (&p, w->source, w->control, w->export);
  if (status == EXIT_DONE)
    status = ask (&p, json ? MANNER_JSON : MANNER_TEXT);
  proxy_close (&p);
  return status;
}

static void
rest (uint64_t ms)
{
  const struct timespec ts = { .tv_sec = (time_t)(ms / 1000),
                               .tv_nsec = (long)(ms % 1000) * 1000000 };

  nanosleep (&ts, NULL);
}

/* By one connection: who looks on is no new client each time. */
static int
watch_disk (struct proxy *p, bool json, uint64_t ms)
{
  enum manner manner = json                     ? MANNER_JSON
                       : isatty (STDOUT_FILENO) ? MANNER_FIRST_SCREEN
                                                : MANNER_TEXT;
  int status;

  while ((status = ask (p, manner)) == EXIT_DONE) {
    rest (ms);
    if (manner == MANNER_TEXT)
      putchar ('\n');
    if (manner == MANNER_FIRST_SCREEN)
      manner = MANNER_SCREEN;
  }
  return status;
}

static int
watch (const struct which *w, bool json, uint64_t ms)
{
  struct proxy p;
  int status;

  status = proxy_open (&p, w->source, w->control, w->export);
  if (status == EXIT_DONE)
    status = watch_disk (&p, json, ms);
  proxy_close (&p);
  return status;
}

#define WATCH_MS 1000

int
status_main (int argc, char *argv[])
{
  enum { OPT_JSON = OPTIONS_FIRST, OPT_CONTROL, OPT_EXPORT, OPT_WATCH };
  static const struct option long_options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "control", required_argument, NULL, OPT_CONTROL },
    { "export", required_argument, NULL, OPT_EXPORT },
    { "watch", optional_argument, NULL, OPT_WATCH },
    { NULL, 0, NULL, 0 },
  };
  struct which w = { NULL, NULL, NULL };
  uint64_t watch_ms = 0;
  bool json = false;
  int opt;

  while ((opt = options_next (argc, argv, long_options)) != -1) {
    if (opt == OPT_JSON)
      json = true;
    else if (opt == OPT_EXPORT)
      w.export = optarg;
    else if (opt == OPT_CONTROL) {
      if (options_control (optarg, &w.control) == -1)
        return EXIT_USAGE;
    }
    else if (opt == OPT_WATCH && optarg == NULL)
      watch_ms = WATCH_MS;
    else if (opt != OPT_WATCH ||
             options_pause ("--watch", optarg, &watch_ms) == -1)
      return EXIT_USAGE;
  }
  if (optind != argc - 1) {
    say_usage ("status takes one argument, SOURCE or DIR");
    return EXIT_USAGE;
  }
  w.source = argv[optind];
  return watch_ms > 0 ? watch (&w, json, watch_ms) : status_once (&w, json);
}
