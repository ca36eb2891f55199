/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that connects, closes, and waits for what nobody waits for. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

/* ---- Connecting -----------------------------------------------------------
 */

/* L. */
static bool
is_unwanted (const struct mirror *m)
{
  return !m->wanted || m->over;
}

/* A connection that is being made. */
struct making {
  const struct mirror *m;
  unsigned left; /* m->left when that began */
};

/* What has come since the loss may be another server at the same address, and
 * this one leads to the one before.  L.
 */
static bool
is_outdated (void *opaque)
{
  const struct making *g = opaque;

  return is_unwanted (g->m) || g->left != g->m->left;
}

/* The same address as the migrator's; one without a name tells nothing.  L. */
static bool
is_same_peer (const struct mirror *m, const struct connection *c)
{
  struct sockaddr_storage peer;
  socklen_t bytes = sizeof peer;

  memset (&peer, 0, sizeof peer);
  if (m->peer.bytes <= sizeof (sa_family_t) ||
      getpeername (c->fd, (struct sockaddr *)&peer, &bytes) == -1)
    return true;
  return bytes == m->peer.bytes && memcmp (&peer, &m->peer.address, bytes) == 0;
}

/* NULL, or why it will not do.  L. */
static const char *
refusal (const struct mirror *m, const struct connection *c)
{
  if (!c->destination.multi_conn)
    return "it does not announce multi-conn, so what the proxy and the "
           "migrator "
           "write over their own connections need not be one cache's";
  if (!is_same_peer (m, c))
    return "its name leads to another address than for the migrator";
  return NULL;
}

static const char unwanted[] = "it is not wanted any more";

/* NULL, or why not.  Where the migrator's connections lead to may have changed
 * while this one was made.
 */
static const char *
use (struct mirror *m, struct making *g, struct connection *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);
  const char *no = is_outdated (g) ? unwanted : refusal (m, c);

  if (no != NULL)
    return no;
  m->remote.destination = c->destination;
  m->remote.up = true;
  remote_serve (&m->remote, c);
  return NULL;
}

static bool
has_become_outdated (struct mirror *m, struct making *g)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  return is_outdated (g);
}

/* Connect once more, unless it is unwanted.  False: *why (NULL: no memory). */
static bool
connect_one (struct mirror *m, unsigned left, char **why)
{
  struct making g = { .m = m, .left = left };
  const struct attempt a = {
    .uri = m->uri,
    .deadline_ms = clock_ms () + CONNECT_MS,
    .urgent = is_outdated,
    .urgent_opaque = &g,
  };
  struct connection *c = remote_connect (&m->remote, &a, why);
  const char *no;

  if (c == NULL)
    return has_become_outdated (m, &g);
  no = connection_start (c) == -1 ? strerror (errno) : use (m, &g, c);
  if (no == NULL)
    return true;
  connection_close (c);
  if (no == unwanted)
    return true;
  *why = strdup (no);
  return false;
}

/* Those that can be used.  L. */
static unsigned
count_usable (const struct mirror *m)
{
  unsigned n = 0;

  for (unsigned i = 0; i < m->remote.nr_connections; ++i)
    n += !connection_is_given_up (m->remote.connections[i]);
  return n;
}

/* L; released meanwhile. */
static void
connect_all (struct mirror *m)
{
  CLEANUP_FREE char *why = NULL;
  bool ok = true;

  while (ok && !is_unwanted (m) && !m->remote.stopping &&
         count_usable (m) < CONNECTIONS) {
    const unsigned left = m->left;

    ok = m->remote.nr_connections < REMOTE_CONNECTIONS_MAX;
    if (!ok)
      break;
    free (why);
    why = NULL;
    pthread_mutex_unlock (&m->remote.lock);
    ok = connect_one (m, left, &why);
    pthread_mutex_lock (&m->remote.lock);
  }
  if (is_unwanted (m) || m->remote.stopping)
    return;
  if (!ok) {
    mirror_demote (m, "the proxy cannot write to the destination: %s",
                   why ? why : "earlier connections are not answered");
    return;
  }
  m->zeroes = true;
  m->on = true;
  m->why[0] = '\0';
  m->options.user.set (m->options.user.opaque, m->remote.destination.minimum);
}

/* ---- Closing --------------------------------------------------------------
 */

/* Those that are lost.  L; released meanwhile. */
static void
close_lost (struct mirror *m)
{
  struct connection *gone[REMOTE_CONNECTIONS_MAX];
  const unsigned n = remote_withdraw (&m->remote, false, gone);

  if (n == 0)
    return;
  pthread_mutex_unlock (&m->remote.lock);
  for (unsigned i = 0; i < n; ++i)
    connection_close (gone[i]);
  pthread_mutex_lock (&m->remote.lock);
}

/* ---- What nobody waits for ------------------------------------------------
 */

/* The abandoned that are over.  L. */
static struct parcel *
take_answered (struct mirror *m)
{
  struct parcel *list = NULL, **p = &m->abandoned;

  while (*p != NULL) {
    struct parcel *one = *p;

    if (one->batch.pending > 0) {
      p = &one->next;
      continue;
    }
    *p = one->next;
    one->next = list;
    list = one;
  }
  return list;
}

/* L; released meanwhile. */
static void
reap_one (struct mirror *m, struct parcel *p)
{
  int result;

  pthread_mutex_unlock (&m->remote.lock);
  result = batch_wait (&m->remote, &p->batch);
  pthread_mutex_lock (&m->remote.lock);
  if (p->is_flush && result != 0)
    m->options.user.lost (m->options.user.opaque);
  if (p->batch.unknown)
    mirror_note_unknown (m);
  else if (!p->is_flush)
    m->options.user.delayed (m->options.user.opaque, m->remote.longest_ms);
  m->unanswered -= !p->is_flush;
  pthread_mutex_unlock (&m->remote.lock);
  parcel_free (p);
  pthread_mutex_lock (&m->remote.lock);
}

void
mirror_reap (struct mirror *m)
{
  struct parcel *p = take_answered (m), *next;

  for (; p != NULL; p = next) {
    next = p->next;
    reap_one (m, p);
  }
}

/* ---- The thread ------------------------------------------------------------
 */

/* L. */
static bool
is_done (const struct mirror *m)
{
  return (m->over || m->remote.stopping) && m->remote.nr_connections == 0 &&
         m->abandoned == NULL;
}

/* Stopping: what has waited long enough is given up, also on connections where
 * nothing waits.  L.
 */
static void
look (struct mirror *m)
{
  remote_check (&m->remote);
  if (m->remote.stopping && remote_in_flight (&m->remote) == 0)
    for (unsigned i = 0; i < m->remote.nr_connections; ++i)
      remote_lose (m->remote.connections[i], "stopping");
}

/* L. */
static void
wait_for_more (struct mirror *m)
{
  if (m->abandoned != NULL || m->remote.stopping || m->over)
    remote_wait_changed (&m->remote);
  else
    pthread_cond_wait (&m->remote.changed, &m->remote.lock);
}

void *
mirror_keeper (void *opaque)
{
  struct mirror *m = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  for (;;) {
    look (m);
    close_lost (m);
    mirror_reap (m);
    if (is_done (m)) {
      m->ended = true;
      return NULL;
    }
    if (m->wanted && !m->on && !m->over && !m->remote.stopping)
      connect_all (m);
    else if (!remote_has_lost (&m->remote))
      wait_for_more (m);
  }
}
