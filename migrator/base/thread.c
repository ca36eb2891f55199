/* SPDX-License-Identifier: BSD-3-Clause */

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#include "base/thread.h"

int
thread_start (void *(*run) (void *), void *opaque)
{
  sigset_t all, before;
  pthread_t thread;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  err = pthread_create (&thread, NULL, run, opaque);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (err == 0)
    pthread_detach (thread);
  return err;
}
