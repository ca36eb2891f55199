/* SPDX-License-Identifier: BSD-3-Clause */
/* Does the server still answer?  A read of a block or so: if it is never
 * answered nothing has happened.
 *
 * A server that does not answer is no reason to give the connection up.  So an
 * unanswered ping stays, and whoever asks meanwhile waits for the same one:
 * with a new one for each, a server that takes longer than they wait would
 * never have answered.
 */

#include <stdlib.h>

#include "remote.h"

#define PING_BYTES 512 /* at least, where the disk is so large */

struct ping {
  struct batch batch;
  uint8_t data[];
};

static uint64_t
ping_length (const struct destination *d)
{
  const uint64_t length = d->minimum < PING_BYTES ? PING_BYTES : d->minimum;

  return length < d->bytes ? length : d->bytes;
}

bool
connection_is_pinged (const struct connection *c)
{
  return c->ping != NULL && c->ping->batch.pending > 0;
}

static bool
can_be_pinged (const struct connection *c)
{
  return !connection_is_given_up (c) && ping_length (&c->destination) > 0 &&
         !connection_is_pinged (c);
}

/* One that is to be sent.  NULL: no memory.  L. */
static struct batch *
link_ping (struct connection *c)
{
  const uint64_t length = ping_length (&c->destination);
  struct ping *p = c->ping;

  if (p == NULL)
    p = c->ping = malloc (sizeof *p + length);
  if (p == NULL)
    return NULL;
  batch_init (&p->batch, 0);
  batch_add (&p->batch, COMMAND_READ, 0, 0, length, p->data)->ping = true;
  batch_link (c->remote, &p->batch, c);
  return &p->batch;
}

void
connection_ping (struct connection *c)
{
  struct remote *m = c->remote;
  struct batch *b = can_be_pinged (c) ? link_ping (c) : NULL;

  if (b == NULL)
    return;
  pthread_mutex_unlock (&m->lock);
  batch_issue (b);
  pthread_mutex_lock (&m->lock);
}

/* Until it is sent, each keeps its connection. */
bool
remote_ping (struct remote *m)
{
  struct batch *pings[REMOTE_CONNECTIONS_MAX];
  unsigned n = 0;
  bool complete = true;

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    if (!can_be_pinged (m->connections[i]))
      continue;
    pings[n] = link_ping (m->connections[i]);
    if (pings[n] != NULL)
      ++n;
    else
      complete = false;
  }
  pthread_mutex_unlock (&m->lock);
  for (unsigned i = 0; i < n; ++i)
    batch_issue (pings[i]);
  pthread_mutex_lock (&m->lock);
  return complete;
}

bool
remote_is_pinged (const struct remote *m)
{
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    if (connection_is_pinged (m->connections[i]))
      return true;
  }
  return false;
}
