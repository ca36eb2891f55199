/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>

#include "proxy/exports.h"
#include "base/options.h"
#include "proxy/proxy.h"
#include "base/say.h"
#include "cli/status-dir.h"
#include "cli/status-print.h"
#include "cli/status.h"

static int
ask (struct proxy *p, bool json)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  int r;

  control_wait (p->control, "status", CONTROL_NO_ARGUMENTS, 5000, &a);
  if (a.value == NULL) {
    say_error ("asking %s for its status: %s", p->uri, a.desc);
    return EXIT_FAILED;
  }
  r = status_print (p->uri, a.value, json);
  return r == 0 && fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

int
status_main (int argc, char *argv[])
{
  enum { OPT_JSON = OPTIONS_FIRST, OPT_CONTROL };
  static const struct option long_options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "control", required_argument, NULL, OPT_CONTROL },
    { NULL, 0, NULL, 0 },
  };
  const char *control = NULL;
  struct proxy p;
  bool json = false;
  int opt, status;

  while ((opt = options_next (argc, argv, long_options)) != -1) {
    if (opt == OPT_JSON)
      json = true;
    else if (opt == OPT_CONTROL)
      control = optarg;
    else
      return EXIT_USAGE;
  }
  if (optind != argc - 1) {
    say_usage ("status takes one argument, SOURCE or DIR");
    return EXIT_USAGE;
  }
  if (is_directory (argv[optind]))
    return status_of_directory (argv[optind], control, json);
  status = proxy_open (&p, argv[optind], control, NULL);
  if (status == EXIT_DONE)
    status = ask (&p, json);
  proxy_close (&p);
  return status;
}
