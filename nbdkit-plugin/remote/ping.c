/* SPDX-License-Identifier: BSD-3-Clause */
/* Does the server still answer?  A read of a block or so: if it is never
 * answered nothing has happened.
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

static bool
is_under_way (const struct connection *c)
{
  return c->ping != NULL && c->ping->batch.pending > 0;
}

void
connection_ping (struct connection *c)
{
  struct remote *m = c->remote;
  const uint64_t length = ping_length (&c->destination);
  struct ping *p = c->ping;

  if (c->lost || c->retired || length == 0 || is_under_way (c))
    return;
  if (p == NULL)
    p = c->ping = malloc (sizeof *p + length);
  if (p == NULL)
    return;
  batch_init (&p->batch, 0);
  batch_add (&p->batch, COMMAND_READ, 0, 0, length, p->data)->ping = true;
  batch_link (m, &p->batch, c);
  pthread_mutex_unlock (&m->lock);
  batch_issue (&p->batch);
  pthread_mutex_lock (&m->lock);
}
