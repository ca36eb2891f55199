/* SPDX-License-Identifier: BSD-3-Clause */
/* A request that waits at the gate waits for a condition variable, which
 * nbdkit knows nothing about.  It looks every 100 ms whether it still has to
 * wait; this thread makes it look at once, so that SIGTERM takes milliseconds.
 */

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include <nbdkit-filter.h>

#include "export.h"
#include "quit.h"

static pthread_t thread;
static bool started;

static void
wake (struct export *e, void *opaque)
{
  (void)opaque;
  tracker_wake (e->tracker);
}

static void *
watch (void *arg)
{
  /* Ends when the server quits: nothing else interrupts it. */
  while (nbdkit_nanosleep (3600, 0) == 0)
    ;
  export_foreach (wake, NULL);
  return arg;
}

int
quit_watch_start (void)
{
  sigset_t all, old;
  int r;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  r = pthread_create (&thread, NULL, watch, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (r == 0)
    started = true;
  else {
    errno = r;
    nbdkit_error ("migrate: pthread_create: %m");
  }
  return r == 0 ? 0 : -1;
}

void
quit_watch_join (void)
{
  if (started)
    pthread_join (thread, NULL);
  started = false;
}
