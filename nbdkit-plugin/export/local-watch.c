/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that succeed do not look at the clock.  They count in one of two
 * turns, and once a second the watcher looks at the turn before: what is still
 * counted there began before the present one did.  If there is nothing, the
 * turns change.  So nothing is taken for slow that took less than a second.
 *
 * Who begins counts first and looks then whether the watcher is awake; the
 * watcher says first that it is going to sleep and looks then whether anything
 * counts.  So one of the two sees the other.
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "base/clock.h"
#include "cleanup.h"
#include "export.h"
#include "local-watch.h"
#include "owner.h"

#define TICK_MS 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_t watcher;
static bool started;
static bool stopping; /* by the lock */
static bool awake;    /* atomic, written under the lock */

/* ---- Requests ------------------------------------------------------------ */

static void
wake (void)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  __atomic_store_n (&awake, true, __ATOMIC_SEQ_CST);
  pthread_cond_signal (&changed);
}

unsigned
local_watch_begin (struct export *e)
{
  struct local_writes *w = &e->local.writes;
  const unsigned turn = __atomic_load_n (&w->turn, __ATOMIC_RELAXED);

  __atomic_fetch_add (&w->lanes[lane_of_thread ()].under_way[turn], 1,
                      __ATOMIC_SEQ_CST);
  if (!__atomic_load_n (&awake, __ATOMIC_SEQ_CST))
    wake ();
  return turn;
}

void
local_watch_end (struct export *e, unsigned turn, int r)
{
  struct local_writes *w = &e->local.writes;

  if (r == -1)
    __atomic_store_n (&w->failed_ms, clock_ms (), __ATOMIC_SEQ_CST);
  __atomic_fetch_sub (&w->lanes[lane_of_thread ()].under_way[turn], 1,
                      __ATOMIC_SEQ_CST);
}

/* ---- Looking ------------------------------------------------------------ */

static uint64_t
count (const struct local_writes *w, unsigned turn)
{
  uint64_t n = 0;

  for (unsigned i = 0; i < LANES; i++)
    n += __atomic_load_n (&w->lanes[i].under_way[turn], __ATOMIC_SEQ_CST);
  return n;
}

uint64_t
local_watch_longest_ms (const struct export *e)
{
  return __atomic_load_n (&e->local.writes.longest_ms, __ATOMIC_RELAXED);
}

int64_t
local_watch_late_until_ms (const struct export *e, bool now)
{
  const struct local_writes *w = &e->local.writes;
  const uint64_t seen_ms = local_watch_longest_ms (e);
  const uint64_t told_ms = __atomic_load_n (&w->told_ms, __ATOMIC_RELAXED);
  const bool under_way = count (w, 0) + count (w, 1) > 0;
  const int64_t failed_ms = __atomic_load_n (&w->failed_ms, __ATOMIC_SEQ_CST);
  const int64_t since_ms = now && under_way ? clock_ms () : failed_ms;
  const int64_t grace_ms =
    quarantine_grace_ms (seen_ms > told_ms ? seen_ms : told_ms);

  return since_ms == 0 ? 0 : since_ms + grace_ms;
}

/* ---- The watcher --------------------------------------------------------- */

static void
look (struct local_writes *w, int64_t now)
{
  const unsigned before = !w->turn;
  const uint64_t ms = (uint64_t)(now - w->began_ms[before]);

  if (count (w, before) == 0) {
    w->began_ms[before] = now;
    __atomic_store_n (&w->turn, before, __ATOMIC_RELAXED);
  }
  else if (ms > w->longest_ms)
    __atomic_store_n (&w->longest_ms, ms, __ATOMIC_RELAXED);
}

/* Whoever has the session lock may take long, or record it himself. */
static void
tell (struct export *e)
{
  struct local_writes *w = &e->local.writes;
  const uint64_t ms = w->longest_ms;

  if (quarantine_grace_ms (ms) == QUARANTINE_GRACE_MS || ms < 2 * w->told_ms ||
      pthread_mutex_trylock (&e->session.lock) != 0)
    return;
  if (owner_update_delay (e)) {
    __atomic_store_n (&w->told_ms, ms, __ATOMIC_RELAXED);
    nbdkit_debug ("migrate: export \"%s\": the plugin took %" PRIu64
                  " ms for a request",
                  e->name, ms);
  }
  pthread_mutex_unlock (&e->session.lock);
}

static void
look_at (struct export *e, void *opaque)
{
  look (&e->local.writes, *(const int64_t *)opaque);
}

static void
tell_of (struct export *e, void *opaque)
{
  (void)opaque;
  tell (e);
}

/* Nothing was under way until now. */
static void
begin_turn (struct export *e, void *opaque)
{
  struct local_writes *w = &e->local.writes;

  w->began_ms[w->turn] = *(const int64_t *)opaque;
}

static void
add (struct export *e, void *opaque)
{
  uint64_t *n = opaque;

  *n += count (&e->local.writes, 0) + count (&e->local.writes, 1);
}

/* The lock must be held. */
static bool
has_nothing_to_do (void)
{
  uint64_t n = 0;

  __atomic_store_n (&awake, false, __ATOMIC_SEQ_CST);
  export_foreach (add, &n);
  if (n > 0)
    __atomic_store_n (&awake, true, __ATOMIC_SEQ_CST);
  return n == 0;
}

/* Until something is under way.  The lock must be held. */
static void
sleep_long (void)
{
  int64_t now;

  while (!stopping && !__atomic_load_n (&awake, __ATOMIC_SEQ_CST))
    pthread_cond_wait (&changed, &lock);
  now = clock_ms ();
  export_foreach (begin_turn, &now);
}

/* The lock must be held. */
static void
sleep_a_while (void)
{
  const int64_t until = clock_ms () + TICK_MS;
  const struct timespec ts = { until / 1000, until % 1000 * 1000000 };

  while (!stopping && pthread_cond_clockwait (&changed, &lock, CLOCK_MONOTONIC,
                                              &ts) != ETIMEDOUT)
    ;
}

static void *
watch (void *opaque)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  while (!stopping) {
    int64_t now;

    if (has_nothing_to_do ())
      sleep_long ();
    now = clock_ms ();
    pthread_mutex_unlock (&lock);
    export_foreach (look_at, &now);
    export_foreach (tell_of, NULL); /* may take as long as a disk does */
    pthread_mutex_lock (&lock);
    sleep_a_while ();
  }
  return opaque;
}

/* Signals are for nbdkit's own threads. */
int
local_watch_start (void)
{
  sigset_t all, old;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  errno = pthread_create (&watcher, NULL, watch, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  started = errno == 0;
  if (!started)
    nbdkit_error ("migrate: pthread_create: %m");
  return started ? 0 : -1;
}

void
local_watch_stop (void)
{
  if (!started)
    return;
  pthread_mutex_lock (&lock);
  stopping = true;
  pthread_cond_signal (&changed);
  pthread_mutex_unlock (&lock);
  pthread_join (watcher, NULL);
  started = false;
}
