/* SPDX-License-Identifier: BSD-3-Clause */
/* Open, stop, close a relay, and look at it. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/clock.h"
#include "internal.h"

#define STOP_REQUESTS_MS 500

/* Free what the relay holds; its threads are gone. */
static void
free_relay (struct relay *r)
{
  if (r->next != NULL)
    connection_close (r->next);
  range_lock_destroy (&r->ranges);
  relay_log_free (r->log);
  pthread_mutex_destroy (&r->lock);
  pthread_cond_destroy (&r->changed);
  pthread_cond_destroy (&r->work);
  free (r->next_uri);
  free (r->lost_why);
  free (r->uri);
  free (r);
}

/* Many threads hold it for a very short time: spin before sleeping. */
static void
init_lock (pthread_mutex_t *lock)
{
  pthread_mutexattr_t attr;

  pthread_mutexattr_init (&attr);
  pthread_mutexattr_settype (&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
  pthread_mutex_init (lock, &attr);
  pthread_mutexattr_destroy (&attr);
}

static struct relay *
new_relay (const char *uri, const struct relay_options *options)
{
  struct relay *r = calloc (1, sizeof *r);

  if (r == NULL)
    return NULL;
  init_lock (&r->lock);
  pthread_cond_init (&r->changed, NULL);
  pthread_cond_init (&r->work, NULL);
  range_lock_init (&r->ranges, 1);
  r->options = *options;
  if (r->options.connections < 1)
    r->options.connections = 1;
  if (r->options.connections > RELAY_CONNECTIONS_MAX)
    r->options.connections = RELAY_CONNECTIONS_MAX;
  r->uri = strdup (uri);
  r->log = relay_log_new (options->log_bytes);
  if (r->uri == NULL || r->log == NULL) {
    free_relay (r);
    return NULL;
  }
  return r;
}

static int
start_keeper (struct relay *r)
{
  sigset_t all, old;
  int e;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  e = pthread_create (&r->keeper, NULL, relay_keeper, r);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return e;
}

/* -1: *why, which may be NULL. */
static int
start (struct relay *r, const struct relay_waiter *waiter, char **why)
{
  const struct attempt attempt = {
    .uri = r->uri,
    .deadline_ms = clock_ms () + r->options.connect_ms,
    .waiter = waiter,
  };
  struct connection *c = relay_connect (r, &attempt, why);
  int e;

  if (c == NULL)
    return -1;
  e = connection_start (c) == -1 ? errno : 0;
  if (e == 0) {
    pthread_mutex_lock (&r->lock);
    r->state = STATE_UP;
    r->up_ms = clock_ms ();
    r->destination = c->destination;
    r->ranges.block_bytes = c->destination.minimum;
    relay_serve (r, c);
    pthread_mutex_unlock (&r->lock);
    e = start_keeper (r);
  }
  if (e == 0)
    return 0;
  if (asprintf (why, "starting a thread: %s", strerror (e)) == -1)
    *why = NULL;
  connection_close (c);
  return -1;
}

struct relay *
relay_open (const char *uri, const struct relay_options *options,
            const struct relay_waiter *waiter, char **why)
{
  CLEANUP_FREE char *reason = NULL;
  struct relay *r;

  *why = NULL;
  r = new_relay (uri, options);
  if (r == NULL)
    return NULL;
  if (start (r, waiter, &reason) == -1) {
    if (asprintf (why, "destination %s: %s", uri,
                  reason ? reason : "no memory") == -1)
      *why = NULL;
    free_relay (r);
    return NULL;
  }
  return r;
}

void
relay_stop (struct relay *r)
{
  pthread_mutex_lock (&r->lock);
  if (!r->stopping) {
    r->stopping = true;
    r->stop_ms = clock_ms () + STOP_REQUESTS_MS;
  }
  pthread_cond_broadcast (&r->changed);
  pthread_cond_signal (&r->work);
  pthread_mutex_unlock (&r->lock);
}

void
relay_close (struct relay *r)
{
  relay_stop (r);
  pthread_join (r->keeper, NULL);
  free_relay (r);
}

uint64_t
relay_error_generation (struct relay *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);

  return r->error_generation;
}

void
relay_get_status (struct relay *r, struct relay_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);

  *s = (struct relay_status){
    .up = r->state == STATE_UP,
    .failing = r->state == STATE_DOWN && clock_ms () >= relay_give_up_ms (r),
    .held = r->held,
    .connections = r->nr_connections,
    .losses = r->losses,
    .replayed_writes = r->replayed,
    .own_flushes = r->own_flushes,
    .error_generation = r->error_generation,
    .log_used_bytes = relay_log_used (r->log),
    .destination_bytes = r->destination.bytes,
    .peer = r->destination.peer,
    .minimum_block_bytes = r->destination.minimum,
    .maximum_block_bytes = r->destination.maximum,
  };
  for (unsigned i = 0; i < r->nr_connections; ++i)
    s->requests_in_flight += r->connections[i]->in_flight;
}

size_t
relay_sockets (struct relay *r, int *fds, size_t max)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
  size_t n = 0;

  for (unsigned i = 0; i < r->nr_connections && n < max; ++i) {
    fds[n] = fcntl (r->connections[i]->fd, F_DUPFD_CLOEXEC, 0);
    if (fds[n] >= 0)
      ++n;
  }
  return n;
}
