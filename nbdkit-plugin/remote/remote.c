/* SPDX-License-Identifier: BSD-3-Clause */
/* The connections in use, and what happens at once when one is lost.
 *
 * Nothing here calls libnbd: it may run in a completion callback.
 */

#include <time.h>

#include "base/clock.h"
#include "remote.h"
#include "socket-life.h"
#include "socket-reset.h"
#include "zero-align.h"

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
  *m = (struct remote){
    .options = *options,
    .user = *user,
    .zero_align = ZERO_ALIGN_ANY,
    .trim_align = ZERO_ALIGN_ANY,
  };
  remote_init_pieces (m);
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

const struct command *
remote_oldest (const struct remote *m)
{
  const struct command *oldest = NULL;

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    const struct command *cmd = m->connections[i]->first;

    for (; cmd != NULL; cmd = cmd->next) {
      if (oldest == NULL || cmd->sent_ms < oldest->sent_ms)
        oldest = cmd;
    }
  }
  return oldest;
}

static int64_t
silent_ms (const struct connection *c, int64_t now)
{
  return c->in_flight == c->flushes
           ? 0
           : now - __atomic_load_n (&c->heard_ms, __ATOMIC_RELAXED);
}

bool
connection_is_usable (const struct connection *c, int64_t now)
{
  return !connection_is_given_up (c) &&
         silent_ms (c, now) < c->remote->options.silent_ms;
}

int64_t
remote_silent_ms (const struct remote *m, int64_t now)
{
  int64_t longest = 0;

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    const int64_t ms = silent_ms (m->connections[i], now);

    if (ms > longest)
      longest = ms;
  }
  return longest;
}

bool
remote_is_silent (const struct remote *m, int64_t now)
{
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    if (connection_is_usable (m->connections[i], now))
      return false;
  }
  return true;
}

void
remote_retire (struct connection *c, const char *why)
{
  if (c->lost)
    return;
  c->retired = true;
  if (c->writes == 0)
    remote_lose (c, why);
}

void
remote_lose (struct connection *c, const char *why)
{
  const bool again = c->lost;

  __atomic_store_n (&c->lost, true, __ATOMIC_RELAXED);
  /* Nothing is queued in one that is given up with nothing under way, and
   * nothing will be: who closes it says goodbye.
   */
  c->reset |= !again && (!c->retired || c->in_flight > 0);
  if (!again && c->reset)
    socket_reset (c->fd);
  c->remote->user.lost (c->remote->user.opaque, c, again, why);
}

/* Give up what the network does not reach any more, and everything when it is
 * time to stop.  Nothing else ends a connection that is merely silent.
 */
void
connection_check (struct connection *c, int64_t now)
{
  const struct remote *m = c->remote;
  const unsigned limit = m->options.unheard_ms;

  if (c->lost)
    return;
  if (m->stopping && now >= m->stop_ms)
    remote_lose (c, "stopping");
  else if (limit > 0 && socket_unheard_ms (c->fd) >= limit)
    remote_lose (c, "the network does not reach it any more");
}

void
remote_check (struct remote *m)
{
  for (unsigned i = 0; i < m->nr_connections; ++i)
    connection_check (m->connections[i], clock_ms ());
}
