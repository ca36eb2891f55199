/* SPDX-License-Identifier: BSD-3-Clause */
/* What happens at once when the destination is lost: no request passes any
 * more, the connections are shut down, the keeper is woken.
 *
 * Nothing here calls libnbd: it may run in a completion callback.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

/* A connection with nothing in flight or unflushed may go alone: if its server
 * was started again, nothing is missing because of that.  (A middle box may
 * have dropped it for being idle.)
 */
static bool
may_go_alone (const struct connection *c)
{
  const struct relay *r = c->relay;

  if (c->in_flight > 0 || c->acknowledged != c->flushed)
    return false;
  for (unsigned i = 0; i < r->nr_connections; ++i) {
    if (r->connections[i] != c && !r->connections[i]->lost)
      return true;
  }
  return false;
}

static void
go_down (struct relay *r)
{
  r->state = STATE_DOWN;
  r->lost_ms = clock_ms ();
  ++r->generation;
  ++r->losses;
  /* Their time counts from the return: an old write may be stuck where the
   * new ones will be.
   */
  range_lock_suspects_until (&r->ranges, RANGE_NEVER);
  for (unsigned i = 0; i < r->nr_connections; ++i) {
    r->connections[i]->lost = true;
    shutdown (r->connections[i]->fd, SHUT_RDWR);
  }
  pthread_cond_broadcast (&r->changed);
}

void
relay_lose (struct connection *c, const char *why)
{
  struct relay *r = c->relay;
  const bool was_lost = c->lost;

  c->lost = true;
  if (!was_lost) {
    shutdown (c->fd, SHUT_RDWR);
    pthread_cond_signal (&r->work);
    if (c->serving && r->state == STATE_UP && !may_go_alone (c))
      go_down (r);
  }
  /* The first reason is the cause of the others. */
  if (r->state == STATE_DOWN && r->lost_why == NULL && why != NULL)
    r->lost_why = strdup (why);
}

int64_t
relay_give_up_ms (const struct relay *r)
{
  return r->lost_ms + (int64_t)r->options.reconnect_ms;
}

bool
relay_wait_changed (struct relay *r)
{
  struct timespec until;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_nsec += RELAY_SLICE_MS * 1000000;
  if (until.tv_nsec >= 1000000000) {
    ++until.tv_sec;
    until.tv_nsec -= 1000000000;
  }
  return pthread_cond_clockwait (&r->changed, &r->lock, CLOCK_MONOTONIC,
                                 &until) == 0;
}

void
relay_raise_error (struct relay *r, uint64_t *seen)
{
  const bool up_to_date = seen != NULL && *seen == r->error_generation;

  ++r->error_generation;
  if (up_to_date)
    *seen = r->error_generation;
}

static void
notice (struct relay *r, const char *fmt, va_list args)
{
  CLEANUP_FREE char *text = NULL;
  CLEANUP_FREE char *line = NULL;

  if (vasprintf (&text, fmt, args) == -1)
    text = NULL;
  pthread_mutex_lock (&r->lock);
  if (text == NULL ||
      asprintf (&line, "destination %s: %s", r->uri, text) == -1)
    line = NULL;
  pthread_mutex_unlock (&r->lock);
  if (line != NULL)
    r->options.notice (r->options.opaque, line);
}

void
relay_notice (struct relay *r, const char *fmt, ...)
{
  va_list args;

  if (r->options.notice == NULL)
    return;
  va_start (args, fmt);
  notice (r, fmt, args);
  va_end (args);
}

void
relay_notice_locked (struct relay *r, const char *fmt, ...)
{
  va_list args;

  if (r->options.notice == NULL)
    return;
  pthread_mutex_unlock (&r->lock);
  va_start (args, fmt);
  notice (r, fmt, args);
  va_end (args);
  pthread_mutex_lock (&r->lock);
}
