/* SPDX-License-Identifier: BSD-3-Clause */

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#include "base/thread.h"

int
thread_start_joinable (pthread_t *thread, void *(*run) (void *), void *opaque)
{
  sigset_t all, before;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  err = pthread_create (thread, NULL, run, opaque);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  return err;
}

int
thread_start (void *(*run) (void *), void *opaque)
{
  pthread_t thread;
  const int err = thread_start_joinable (&thread, run, opaque);

  if (err == 0)
    pthread_detach (thread);
  return err;
}
