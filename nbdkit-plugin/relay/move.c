/* SPDX-License-Identifier: BSD-3-Clause */
/* The destination is at another address: hold the relay, connect there, go on
 * there.
 *
 * The connection that has been checked is the one that is used: a server that
 * serves one client, and then ends, must not be met twice.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/clock.h"
#include "internal.h"

#define HOLD_MORE_MS 1000

/* Something is unanswered for so long that all connections are being asked for
 * a sign of life (watch.c), and it is not known yet whether one gives it.
 */
static bool
may_be_hanging (const struct relay *r)
{
  const struct command *oldest = remote_oldest (&r->remote);
  const int64_t now = clock_ms ();

  return r->remote.up && oldest != NULL &&
         now - oldest->sent_ms >= r->options.silent_ms &&
         !remote_is_silent (&r->remote, now);
}

/* An attempt to connect ends in time, but one that has connected and repeats
 * writes takes as long as the destination does.
 */
int
relay_hold (struct relay *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  const bool was_held = r->held;
  const int64_t until = clock_ms () + r->options.connect_ms + HOLD_MORE_MS;

  r->held = true;
  while ((r->trying || may_be_hanging (r)) && !r->remote.stopping &&
         clock_ms () < until)
    remote_wait_changed (&r->remote);
  if (!r->trying &&
      (!r->remote.up || remote_is_silent (&r->remote, clock_ms ())))
    return 0;
  r->held = was_held;
  pthread_cond_broadcast (&r->remote.changed);
  return -1;
}

struct connection *
relay_connect_again (struct relay *r, const struct attempt *a, char **why)
{
  struct connection *c = remote_connect (&r->remote, a, why);

  if (c == NULL || c->destination.minimum <= r->remote.destination.minimum)
    return c;
  /* Ranges are locked, and writes are logged, in the old blocks. */
  if (asprintf (why,
                "its minimum block has %u bytes, and that of the destination "
                "had %u: guests that are connected need the same or a smaller "
                "one",
                c->destination.minimum, r->remote.destination.minimum) == -1)
    *why = NULL;
  connection_close (c);
  return NULL;
}

/* Whether it has been prepared before, and not been used (its record failed).
 * One that the keeper is about to use has no name here any more.
 */
static bool
is_prepared (struct relay *r, const char *uri, struct remote_peer *peer)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  if (r->next == NULL || r->next_uri == NULL || strcmp (r->next_uri, uri) != 0)
    return false;
  *peer = r->next->destination.peer;
  return true;
}

/* Both may be NULL. */
static void
set_next (struct relay *r, struct connection *c, char *uri)
{
  struct connection *old;

  pthread_mutex_lock (&r->remote.lock);
  old = r->next;
  free (r->next_uri);
  r->next = c;
  r->next_uri = uri;
  pthread_mutex_unlock (&r->remote.lock);
  if (old != NULL)
    connection_close (old);
}

int
relay_move (struct relay *r, const char *uri, const struct relay_waiter *waiter,
            struct remote_peer *peer, char **why)
{
  const struct attempt attempt = {
    .uri = uri,
    .deadline_ms = clock_ms () + r->options.connect_ms,
    .alive = waiter ? waiter->alive : NULL,
    .alive_opaque = waiter ? waiter->opaque : NULL,
  };
  struct connection *c;
  char *copy;

  *why = NULL;
  if (is_prepared (r, uri, peer))
    return 0;
  copy = strdup (uri);
  c = copy == NULL ? NULL : relay_connect_again (r, &attempt, why);
  if (c == NULL) {
    free (copy);
    return -1;
  }
  *peer = c->destination.peer;
  set_next (r, c, copy);
  return 0;
}

struct connection *
relay_take_next (struct relay *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  struct connection *c = r->next;

  r->next = NULL;
  return c;
}

void
relay_unhold (struct relay *r, bool moved)
{
  if (!moved)
    set_next (r, NULL, NULL);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  if (moved && r->next_uri != NULL) {
    free (r->uri);
    r->uri = r->next_uri;
    r->next_uri = NULL;
    /* Those that are silent: the operator knows that their server is no more.
     */
    for (unsigned i = 0; i < r->remote.nr_connections; ++i)
      remote_lose (r->remote.connections[i], "it is at another address");
  }
  r->held = false;
  pthread_cond_broadcast (&r->remote.changed);
}
