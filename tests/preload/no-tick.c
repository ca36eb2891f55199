/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into nbdmigrate with LD_PRELOAD: a wait of TICK_MS, after which it
 * would look round, lasts until something happens.  So what goes on only
 * because of that tick does not go on.
 */

#include <dlfcn.h>
#include <poll.h>

#define TICK_MS 100 /* ROUND_MS of migrator/disks/drive.c */

typedef int function (struct pollfd *, nfds_t, int);

int
poll (struct pollfd *fds, nfds_t n, int timeout_ms)
{
  function *real = (function *)dlsym (RTLD_NEXT, "poll");

  return real (fds, n, timeout_ms == TICK_MS ? -1 : timeout_ms);
}
