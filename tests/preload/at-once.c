/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into nbdmigrate with LD_PRELOAD: the signal AT_ONCE=N comes in its
 * first moments, while it reads its command line.
 */

#include <dlfcn.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>

typedef int function (int, char *const[], const char *, const struct option *,
                      int *);

int
getopt_long (int argc, char *const argv[], const char *shortopts,
             const struct option *longopts, int *longind)
{
  function *real = (function *)dlsym (RTLD_NEXT, "getopt_long");
  static int raised;

  if (!raised++)
    raise (atoi (getenv ("AT_ONCE")));
  return real (argc, argv, shortopts, longopts, longind);
}
