/* SPDX-License-Identifier: BSD-3-Clause */

#include <stddef.h>

#include "base/options.h"
#include "base/say.h"
#include "cli/request.h"

enum { OPT_CONTROL = OPTIONS_FIRST, OPT_EXPORT, OPT_TIMEOUT, OPT_NO_WAIT };

static int
next_option (struct request *r, int argc, char *argv[], unsigned takes)
{
  static const struct option all[] = {
    { "control", required_argument, NULL, OPT_CONTROL },
    { "export", required_argument, NULL, OPT_EXPORT },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "no-wait", no_argument, NULL, OPT_NO_WAIT },
  };
  struct option known[sizeof all / sizeof all[0] + 1] = { all[0], all[1] };
  size_t n = 2;
  int opt;

  if (takes & REQUEST_TIMEOUT)
    known[n++] = all[2];
  if (takes & REQUEST_NO_WAIT)
    known[n++] = all[3];
  opt = options_next (argc, argv, known);
  if (opt == OPT_CONTROL)
    return options_control (optarg, &r->control) == -1 ? '?' : opt;
  if (opt == OPT_EXPORT)
    r->export = optarg;
  else if (opt == OPT_NO_WAIT)
    r->no_wait = true;
  else if (opt == OPT_TIMEOUT)
    return options_pause ("--timeout", optarg, &r->timeout_ms) == -1 ? '?'
                                                                     : opt;
  return opt;
}

int
request_parse (struct request *r, int argc, char *argv[], int min_args,
               int max_args, unsigned takes)
{
  int opt;

  *r = (struct request){ .control = NULL };
  while ((opt = next_option (r, argc, argv, takes)) != -1)
    if (opt < OPTIONS_FIRST)
      return -1;
  if (optind == argc) {
    say_usage ("%s: SOURCE or DIR is missing", argv[0]);
    return -1;
  }
  r->source = argv[optind];
  r->args = argv + optind + 1;
  r->nr_args = argc - optind - 1;
  if (r->nr_args < min_args)
    say_usage ("%s: an argument is missing after '%s'", argv[0], r->source);
  else if (r->nr_args > max_args)
    say_usage ("%s: '%s' is one argument too many", argv[0], r->args[max_args]);
  else if (r->no_wait && r->timeout_ms != 0)
    say_usage ("%s: --no-wait and --timeout contradict each other", argv[0]);
  else
    return 0;
  return -1;
}
