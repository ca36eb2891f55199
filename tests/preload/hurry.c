/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into a proxy with LD_PRELOAD: its time runs faster than ours, so that
 * a test can outlast every limit that it has.
 *
 *   HURRY=N         so many times as fast
 *   HURRY_ARM=FILE  while this file exists: it may come and go
 *
 * The monotonic clock, and what waits by it: conditions and semaphores with
 * that clock, poll and nanosleep.  What the kernel times (TCP) is as before.
 */

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define SECOND INT64_C (1000000000)
#define SLICE (SECOND / 20)
#define LOOK (SECOND / 1000) /* no more often is the file looked for */

#define REAL(name, type) ((type)dlsym (RTLD_NEXT, name))

static int64_t factor; /* 0: not looked at yet */

/* How the clock runs: at base_ns of the real one it was ahead by ahead_ns, and
 * since then it is as fast as 'fast' says.  Guarded by the lock.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pace {
  int64_t base_ns, ahead_ns;
  bool fast;
} pace;
static int64_t looked_ns;

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

/* How long ago it was armed, which one that was stopped finds out later; -1: it
 * is not.
 */
static int64_t
armed_for_ns (void)
{
  const char *const arm = getenv ("HURRY_ARM");
  struct timespec now;
  struct stat st;
  int64_t ns;

  if (arm == NULL)
    return 0;
  if (stat (arm, &st) == -1)
    return -1;
  real_clock_gettime (CLOCK_REALTIME, &now);
  ns = to_ns (&now) - to_ns (&st.st_mtim);
  return ns > 0 ? ns : 0;
}

static int64_t
fast_ns (const struct pace *p, int64_t real_ns)
{
  const int64_t gained =
    p->fast && real_ns > p->base_ns ? (real_ns - p->base_ns) * (factor - 1) : 0;

  return real_ns + p->ahead_ns + gained;
}

/* With the lock. */
static void
look (int64_t real_ns)
{
  const int64_t armed = armed_for_ns ();

  looked_ns = real_ns;
  if (armed >= 0 && !pace.fast)
    pace = (struct pace){ real_ns - armed, pace.ahead_ns, true };
  else if (armed < 0 && pace.fast)
    pace = (struct pace){ real_ns, fast_ns (&pace, real_ns) - real_ns, false };
}

/* The pace as it is now. */
static struct pace
pace_now (int64_t real_ns)
{
  struct pace copy;

  if (factor <= 1)
    return (struct pace){ 0 };
  pthread_mutex_lock (&lock);
  if (looked_ns == 0 || real_ns - looked_ns >= LOOK)
    look (real_ns);
  copy = pace;
  pthread_mutex_unlock (&lock);
  return copy;
}

/* How many nanoseconds there are until then, at most a slice, in real time: the
 * pace may change meanwhile.  0: it is over.
 */
static int64_t
next_slice (int64_t until_ns)
{
  const int64_t now = real_now_ns ();
  const struct pace p = pace_now (now);
  const int64_t left = until_ns - fast_ns (&p, now);

  if (left <= 0)
    return 0;
  if (!p.fast)
    return left < SLICE ? left : SLICE;
  return left / factor < SLICE ? left / factor + 1 : SLICE;
}

static int64_t
now_ns (void)
{
  const int64_t now = real_now_ns ();
  const struct pace p = pace_now (now);

  return fast_ns (&p, now);
}

int
clock_gettime (clockid_t clock, struct timespec *ts)
{
  if (real_clock_gettime == NULL)
    prepare ();
  if (clock != CLOCK_MONOTONIC)
    return real_clock_gettime (clock, ts);
  *ts = to_timespec (now_ns ());
  return 0;
}

typedef int cond_function (pthread_cond_t *, pthread_mutex_t *, clockid_t,
                           const struct timespec *);

/* Between two slices a signal would be missed: the end of one is a wake-up for
 * nothing.
 */
int
pthread_cond_clockwait (pthread_cond_t *cond, pthread_mutex_t *mutex,
                        clockid_t clock, const struct timespec *until)
{
  cond_function *const real = REAL ("pthread_cond_clockwait", cond_function *);
  struct timespec end;
  int r;

  if (clock != CLOCK_MONOTONIC || factor <= 1)
    return real (cond, mutex, clock, until);
  end = to_timespec (real_now_ns () + next_slice (to_ns (until)));
  r = real (cond, mutex, clock, &end);
  return r == ETIMEDOUT && now_ns () < to_ns (until) ? 0 : r;
}

typedef int sem_function (sem_t *, clockid_t, const struct timespec *);

int
sem_clockwait (sem_t *sem, clockid_t clock, const struct timespec *until)
{
  sem_function *const real = REAL ("sem_clockwait", sem_function *);
  struct timespec end;
  int r;

  if (clock != CLOCK_MONOTONIC || factor <= 1)
    return real (sem, clock, until);
  do {
    end = to_timespec (real_now_ns () + next_slice (to_ns (until)));
    r = real (sem, clock, &end);
  } while (r == -1 && errno == ETIMEDOUT && now_ns () < to_ns (until));
  return r;
}

typedef int sleep_function (const struct timespec *, struct timespec *);

int
nanosleep (const struct timespec *time, struct timespec *left)
{
  sleep_function *const real = REAL ("nanosleep", sleep_function *);
  const int64_t until = now_ns () + to_ns (time);
  int64_t slice;

  if (factor <= 1)
    return real (time, left);
  while ((slice = next_slice (until)) > 0) {
    const struct timespec part = to_timespec (slice);

    if (real (&part, left) == -1)
      return -1;
  }
  return 0;
}

typedef int poll_function (struct pollfd *, nfds_t, int);

int
poll (struct pollfd *fds, nfds_t n, int timeout)
{
  poll_function *const real = REAL ("poll", poll_function *);
  const int64_t until = now_ns () + timeout * (SECOND / 1000);
  int r;

  if (factor <= 1 || timeout <= 0)
    return real (fds, n, timeout);
  do {
    const int64_t slice = next_slice (until);

    r = real (fds, n, (int)((slice + 999999) / 1000000));
  } while (r == 0 && now_ns () < until);
  return r;
}
