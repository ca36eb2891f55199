/* SPDX-License-Identifier: BSD-3-Clause */
/* The connections in use, and what happens at once when one is lost.
 *
 * Nothing here calls libnbd: it may run in a completion callback.
 */

#include <time.h>

#include "remote.h"
#include "socket-reset.h"

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

void
remote_init (struct remote *m, const struct remote_options *options,
             const struct remote_user *user)
{
  *m = (struct remote){ .options = *options, .user = *user };
  init_lock (&m->lock);
  pthread_cond_init (&m->changed, NULL);
}

void
remote_destroy (struct remote *m)
{
  pthread_mutex_destroy (&m->lock);
  pthread_cond_destroy (&m->changed);
}

void
remote_serve (struct remote *m, struct connection *c)
{
  c->serving = true;
  m->connections[m->nr_connections++] = c;
}

unsigned
remote_withdraw (struct remote *m, bool all, struct connection **out)
{
  unsigned kept = 0, n = 0;

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    struct connection *c = m->connections[i];

    if (all || c->lost) {
      c->serving = false;
      out[n++] = c;
    }
    else
      m->connections[kept++] = c;
  }
  m->nr_connections = kept;
  return n;
}

bool
remote_has_lost (const struct remote *m)
{
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    if (m->connections[i]->lost)
      return true;
  }
  return false;
}

unsigned
remote_in_flight (const struct remote *m)
{
  unsigned n = 0;

  for (unsigned i = 0; i < m->nr_connections; ++i)
    n += m->connections[i]->in_flight;
  return n;
}

bool
remote_wait_changed (struct remote *m)
{
  struct timespec until;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_nsec += REMOTE_SLICE_MS * 1000000;
  if (until.tv_nsec >= 1000000000) {
    ++until.tv_sec;
    until.tv_nsec -= 1000000000;
  }
  return pthread_cond_clockwait (&m->changed, &m->lock, CLOCK_MONOTONIC,
                                 &until) == 0;
}

void
remote_lose (struct connection *c, const char *why)
{
  const bool again = c->lost;

  c->lost = true;
  if (!again)
    socket_reset (c->fd);
  c->remote->user.lost (c->remote->user.opaque, c, again, why);
}
