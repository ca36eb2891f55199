/* SPDX-License-Identifier: BSD-3-Clause */

#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>

#include "base/signals.h"

static const struct {
  int signo;
  const char *name;
} known[] = {
  { SIGINT, "SIGINT" },
  { SIGTERM, "SIGTERM" },
  { SIGHUP, "SIGHUP" },
  { SIGUSR1, "SIGUSR1" },
};
#define NR_KNOWN (sizeof known / sizeof known[0])

static sigset_t blocked, before;

/* A blocked signal is queued even if it is ignored: it must not be in the set.
 */
static void
add_unless_ignored (int signo)
{
  struct sigaction old;

  if (sigaction (signo, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
    sigaddset (&blocked, signo);
}

void
signals_block (void)
{
  size_t i;

  sigemptyset (&blocked);
  for (i = 0; i < NR_KNOWN; ++i)
    add_unless_ignored (known[i].signo);
  sigprocmask (SIG_BLOCK, &blocked, &before);
}

void
signals_restore (void)
{
  sigprocmask (SIG_SETMASK, &before, NULL);
}

int
signals_open (void)
{
  return signalfd (-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK);
}

const char *
signals_name (int signo)
{
  size_t i = 0;

  while (i < NR_KNOWN - 1 && known[i].signo != signo)
    ++i;
  return known[i].name;
}
