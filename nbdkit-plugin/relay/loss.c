/* SPDX-License-Identifier: BSD-3-Clause */
/* What happens at once when the destination is lost: no request passes any
 * more, the keeper is woken.  The other connections end, too: at once where no
 * write is unanswered, otherwise with the answer, which alone tells what became
 * of it (R17).
 *
 * Nothing here calls libnbd: it may run in a completion callback.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/notice.h"
#include "internal.h"

/* A connection with nothing in flight may go alone if nothing at all is
 * unflushed: if its server was started again, nothing is missing because of
 * that.  (A middle box may have dropped it for being idle.)  Otherwise what was
 * written over another connection, whose end is not noticed yet, may be missing
 * at a server that was started again.
 */
static bool
may_go_alone (const struct relay *r, const struct connection *c)
{
  if (c->in_flight > 0 || c->acknowledged != c->flushed ||
      !relay_log_empty (r->log))
    return false;
  for (unsigned i = 0; i < r->remote.nr_connections; ++i) {
    if (r->remote.connections[i] != c && !r->remote.connections[i]->lost)
      return true;
  }
  return false;
}

static void
go_down (struct relay *r)
{
  r->remote.up = false;
  r->lost_ms = clock_ms ();
  ++r->remote.generation;
  ++r->losses;
  /* Their time counts from the return: an old write may be stuck where the
   * new ones will be.
   */
  range_lock_suspects_until (&r->ranges, RANGE_NEVER);
  for (unsigned i = 0; i < r->remote.nr_connections; ++i)
    remote_retire (r->remote.connections[i], NULL);
  pthread_cond_broadcast (&r->remote.changed);
}

void
relay_lost (void *opaque, struct connection *c, bool again, const char *why)
{
  struct relay *r = opaque;

  if (!again) {
    pthread_cond_signal (&r->work);
    if (c->serving && r->remote.up && !may_go_alone (r, c))
      go_down (r);
  }
  /* The first reason is the cause of the others. */
  if (!r->remote.up && r->lost_why == NULL && why != NULL)
    r->lost_why = strdup (why);
}

bool
relay_awaits_answers (const struct relay *r)
{
  if (r->remote.up)
    return false;
  for (unsigned i = 0; i < r->remote.nr_connections; ++i) {
    if (!r->remote.connections[i]->lost)
      return true;
  }
  return false;
}

bool
relay_is_over (const struct relay *r, int64_t give_up_ms)
{
  const int64_t reconnect_ms = r->options.reconnect_ms, now = clock_ms ();

  if (r->remote.up || relay_awaits_answers (r))
    return false;
  if (give_up_ms == 0)
    give_up_ms = r->lost_ms + reconnect_ms;
  return now >= give_up_ms && now >= r->answered_ms + reconnect_ms;
}

int64_t
relay_grace_ms (const struct relay *r)
{
  const int64_t longest = 2 * r->remote.longest_ms;

  return longest > r->options.grace_ms ? longest : r->options.grace_ms;
}

/* That the destination is lost must be told without memory, too. */
static void
tell (struct relay *r, bool good, const char *fmt, va_list args)
{
  char line[NOTICE_MAX];
  int n;

  pthread_mutex_lock (&r->remote.lock);
  n = snprintf (line, sizeof line, "server %.*s: ", NOTICE_MAX / 2, r->uri);
  pthread_mutex_unlock (&r->remote.lock);
  vsnprintf (line + n, sizeof line - n, fmt, args);
  r->options.notice (r->options.opaque, good, line);
}

void
relay_notice (struct relay *r, const char *fmt, ...)
{
  va_list args;

  if (r->options.notice == NULL)
    return;
  va_start (args, fmt);
  tell (r, false, fmt, args);
  va_end (args);
}

void
relay_good_news (struct relay *r, const char *fmt, ...)
{
  va_list args;

  if (r->options.notice == NULL)
    return;
  va_start (args, fmt);
  tell (r, true, fmt, args);
  va_end (args);
}

void
relay_notice_locked (struct relay *r, const char *fmt, ...)
{
  va_list args;

  if (r->options.notice == NULL)
    return;
  pthread_mutex_unlock (&r->remote.lock);
  va_start (args, fmt);
  tell (r, false, fmt, args);
  va_end (args);
  pthread_mutex_lock (&r->remote.lock);
}

void
relay_good_news_locked (struct relay *r, const char *fmt, ...)
{
  va_list args;

  if (r->options.notice == NULL)
    return;
  pthread_mutex_unlock (&r->remote.lock);
  va_start (args, fmt);
  tell (r, true, fmt, args);
  va_end (args);
  pthread_mutex_lock (&r->remote.lock);
}
