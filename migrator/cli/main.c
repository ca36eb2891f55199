/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run/migrate.h"
#include "base/options.h"
#include "base/say.h"
#include "base/signals.h"
#include "cli/status.h"
#include "cli/steer.h"
#include "cli/wait.h"

static const struct command {
  const char *name;
  int (*main) (int argc, char *argv[]);
} commands[] = {
  { "status", status_main }, { "set", set_main },
  { "finish", finish_main }, { "cancel", cancel_main },
  { "reopen", reopen_main }, { "pause", pause_main },
  { "resume", resume_main }, { "wait", wait_main },
  { "list", list_main },
};

/* The summary tells of all commands. */
static bool
asks_for_help (int argc, char *argv[])
{
  int i;

  for (i = 1; i < argc && strcmp (argv[i], "--") != 0; ++i)
    if (strcmp (argv[i], "--help") == 0 || strcmp (argv[i], "-h") == 0)
      return true;
  return false;
}

static int
run_command (const struct command *c, int argc, char *argv[])
{
  signals_restore ();
  return asks_for_help (argc, argv) ? options_help () : c->main (argc, argv);
}

/* A socket must not become what messages are written to.  Whatever is written
 * to the ones made here fails, as to one that is closed.
 */
static void
fill_standard_descriptors (void)
{
  int fd;

  do
    fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd == -1) { /* there may be no place to say it */
    say_error ("opening /dev/null: %s; nothing was done", strerror (errno));
    exit (EXIT_FAILED);
  }
  close (fd);
}

int
main (int argc, char *argv[])
{
  struct options options;
  size_t i;
  int status;

  signals_block ();
  fill_standard_descriptors ();
  for (i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; ++i)
    if (strcmp (argv[1], commands[i].name) == 0)
      return run_command (&commands[i], argc - 1, argv + 1);
  status = options_parse (&options, argc, argv);
  if (status == -1)
    status = migrate (&options);
  options_free (&options);
  return status;
}
