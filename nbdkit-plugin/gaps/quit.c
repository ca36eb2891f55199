/* SPDX-License-Identifier: BSD-3-Clause */
/* Three things keep nbdkit from ending, and this thread removes them when the
 * server quits, so that SIGTERM takes milliseconds:
 *
 *   - A request that waits at the gate waits for a condition variable, which
 *     nbdkit knows nothing about.  It would look after 100 ms only whether it
 *     still has to wait; it is made to look at once.
 *   - So would one that waits for the destination (relay/relay.h).
 *   - nbdkit waits for clients that are idle (hangup.h).
 *
 * All again until .cleanup: a connection may just have been accepted.
 */

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "hangup.h"
#include "quit.h"

#define AGAIN_MS 100

static pthread_t thread;
static bool started;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool over; /* all connections are closed; by the lock */

static void (*wake_waiting) (void);

/* True if there is nothing left to do. */
static bool
wait_until_over (void)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  ts.tv_nsec += AGAIN_MS * 1000000;
  if (ts.tv_nsec >= 1000000000) {
    ts.tv_nsec -= 1000000000;
    ts.tv_sec++;
  }
  while (!over &&
         pthread_cond_clockwait (&cond, &lock, CLOCK_MONOTONIC, &ts) == 0)
    ;
  return over;
}

static void *
watch (void *arg)
{
  /* Ends when the server quits: nothing else interrupts it. */
  while (nbdkit_nanosleep (3600, 0) == 0)
    ;
  do {
    wake_waiting ();
    hangup_guests ();
  } while (!wait_until_over ());
  return arg;
}

int
quit_watch_start (void (*wake) (void))
{
  sigset_t all, old;
  int r;

  wake_waiting = wake;
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
  if (!started)
    return;
  pthread_mutex_lock (&lock);
  over = true;
  pthread_cond_broadcast (&cond);
  pthread_mutex_unlock (&lock);
  pthread_join (thread, NULL);
  started = false;
}
