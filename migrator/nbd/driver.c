/* SPDX-License-Identifier: BSD-3-Clause */
/* As many threads as processors less one: the main thread has its work as well,
 * and more than that would only take turns.
 */

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/thread.h"
#include "nbd/driver.h"
#include "nbd/endpoint.h"

/* A connection is one thread's at a time. */
#define DRIVERS_MAX ENDPOINT_CONNECTIONS_MAX

struct driver {
  struct loop loop;
  pthread_t thread;
  unsigned connections; /* 0: the thread does not run */
  bool ends;            /* the thread's own */
};

static struct driver drivers[DRIVERS_MAX];

struct call {
  struct deferred deferred;
  struct loop *loop;
  void (*run) (void *opaque);
  void *opaque;
  pthread_mutex_t lock;
  pthread_cond_t done;
  bool is_done;
};

static void *
drive (void *opaque)
{
  struct driver *d = opaque;

  pthread_setname_np (pthread_self (), "connections"); /* for top(1) */
  /* Where poll fails it has waited a little, and it is tried again. */
  while (!d->ends)
    loop_run_once (&d->loop, -1);
  return NULL;
}

static int
start (struct driver *d)
{
  loop_init (&d->loop);
  d->ends = false;
  if (loop_listen (&d->loop) == 0 &&
      thread_start_joinable (&d->thread, drive, d) == 0)
    return 0;
  loop_destroy (&d->loop);
  return -1;
}

static void
end (void *opaque)
{
  struct driver *d = opaque;

  d->ends = true;
}

/* Of the processors that this process may use. */
static unsigned
drivers_max (void)
{
  cpu_set_t set;
  int n = 1;

  if (sched_getaffinity (0, sizeof set, &set) == 0)
    n = CPU_COUNT (&set);
  return n - 1 < DRIVERS_MAX ? (unsigned)(n - 1) : DRIVERS_MAX;
}

struct driver *
driver_get (void)
{
  const unsigned n = drivers_max ();
  struct driver *best = NULL;
  unsigned i;

  for (i = 0; i < n; ++i)
    if (best == NULL || drivers[i].connections < best->connections)
      best = &drivers[i];
  if (best == NULL || (best->connections == 0 && start (best) == -1))
    return NULL;
  best->connections++;
  return best;
}

void
driver_put (struct driver *d)
{
  assert (d->connections > 0);
  if (--d->connections > 0)
    return;
  driver_call (d, end, d);
  pthread_join (d->thread, NULL);
  loop_destroy (&d->loop);
}

struct loop *
driver_loop (struct driver *d)
{
  return &d->loop;
}

static void
end_call (struct deferred *deferred)
{
  struct call *call = (struct call *)deferred;

  pthread_mutex_lock (&call->lock);
  call->is_done = true;
  pthread_cond_signal (&call->done);
  pthread_mutex_unlock (&call->lock);
}

static void
run_call (struct deferred *deferred)
{
  struct call *call = (struct call *)deferred;

  call->run (call->opaque);
  /* Behind what is deferred by now. */
  deferred->run = end_call;
  loop_defer (call->loop, deferred);
}

void
driver_call (struct driver *d, void (*run) (void *opaque), void *opaque)
{
  struct call call = { .deferred.run = run_call,
                       .loop = &d->loop,
                       .run = run,
                       .opaque = opaque,
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .done = PTHREAD_COND_INITIALIZER };

  loop_post (&d->loop, &call.deferred);
  pthread_mutex_lock (&call.lock);
  while (!call.is_done)
    pthread_cond_wait (&call.done, &call.lock);
  pthread_mutex_unlock (&call.lock);
  pthread_cond_destroy (&call.done);
  pthread_mutex_destroy (&call.lock);
}
