/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into a proxy with LD_PRELOAD: its time runs faster than ours, so that
 * a test can outlast every limit that it has.
 *
 *   HURRY=N         so many times as fast
 *   HURRY_ARM=FILE  from the moment on when this file exists
 *
 * The monotonic clock, and what waits by it: conditions and semaphores with
 * that clock, poll and nanosleep.  What the kernel times (TCP) is as before.
 */

#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C (1000000000)

#define REAL(name, type) ((type)dlsym (RTLD_NEXT, name))

static int64_t factor;           /* 0: not looked at yet */
static _Atomic int64_t since_ns; /* when it was armed; 0: not yet */

static int64_t
to_ns (const struct timespec *ts)
{
  return ts->tv_sec * SECOND + ts->tv_nsec;
}

static struct timespec
to_timespec (int64_t ns)
{
  return (struct timespec){ ns / SECOND, ns % SECOND };
}

/* dlsym takes locks, and is slow. */
static int (*real_clock_gettime) (clockid_t, struct timespec *);

static void __attribute__ ((constructor)) prepare (void)
{
  const char *const text = getenv ("HURRY");

  real_clock_gettime =
    REAL ("clock_gettime", int (*) (clockid_t, struct timespec *));
  factor = text != NULL && atoi (text) > 1 ? atoi (text) : 1;
}

static int64_t
real_now_ns (void)
{
  struct timespec ts;

  real_clock_gettime (CLOCK_MONOTONIC, &ts);
  return to_ns (&ts);
}

static bool
hurries (void)
{
  const char *arm;
  int64_t none = 0;

  if (factor <= 1)
    return false;
  if (since_ns != 0)
    return true;
  arm = getenv ("HURRY_ARM");
  if (arm != NULL && access (arm, F_OK) == -1)
    return false;
  __atomic_compare_exchange_n (&since_ns, &none, real_now_ns (), false,
                               __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return true;
}

/* A time of the fast clock as one of the real clock. */
static struct timespec
real_time (const struct timespec *fast)
{
  const int64_t ns = to_ns (fast);

  if (!hurries () || ns <= since_ns)
    return *fast;
  return to_timespec (since_ns + (ns - since_ns) / factor);
}

static int
real_ms (int ms)
{
  return ms <= 0 || !hurries () ? ms : (ms + factor - 1) / factor;
}

int
clock_gettime (clockid_t clock, struct timespec *ts)
{
  int64_t ns;

  if (real_clock_gettime == NULL)
    prepare ();
  if (clock != CLOCK_MONOTONIC || !hurries ())
    return real_clock_gettime (clock, ts);
  ns = real_now_ns ();
  *ts = to_timespec (since_ns + (ns - since_ns) * factor);
  return 0;
}

int
pthread_cond_clockwait (pthread_cond_t *cond, pthread_mutex_t *mutex,
                        clockid_t clock, const struct timespec *until)
{
  const struct timespec real =
    clock == CLOCK_MONOTONIC ? real_time (until) : *until;

  return REAL ("pthread_cond_clockwait",
               int (*) (pthread_cond_t *, pthread_mutex_t *, clockid_t,
                        const struct timespec *)) (cond, mutex, clock, &real);
}

int
sem_clockwait (sem_t *sem, clockid_t clock, const struct timespec *until)
{
  const struct timespec real =
    clock == CLOCK_MONOTONIC ? real_time (until) : *until;

  return REAL ("sem_clockwait",
               int (*) (sem_t *, clockid_t, const struct timespec *)) (
    sem, clock, &real);
}

int
nanosleep (const struct timespec *time, struct timespec *left)
{
  const struct timespec real =
    hurries () ? to_timespec (to_ns (time) / factor) : *time;

  return REAL ("nanosleep", int (*) (const struct timespec *,
                                     struct timespec *)) (&real, left);
}

int
poll (struct pollfd *fds, nfds_t n, int timeout)
{
  return REAL ("poll", int (*) (struct pollfd *, nfds_t, int)) (
    fds, n, real_ms (timeout));
}
