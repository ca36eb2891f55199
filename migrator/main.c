/* SPDX-License-Identifier: BSD-3-Clause */

#include <string.h>

#include "migration.h"
#include "options.h"
#include "status.h"

int
main (int argc, char *argv[])
{
  struct options options;
  int status;

  if (argc > 1 && strcmp (argv[1], "status") == 0)
    return status_main (argc - 1, argv + 1);
  status = options_parse (&options, argc, argv);
  if (status == -1)
    status = migrate (&options);
  options_free (&options);
  return status;
}
