/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>

#include "nbd/probe.h"

#define PROBE_BYTES 4096

struct probe {
  struct io io;
  char buf[];
};

/* Whole blocks; 0: the disk has none. */
static uint32_t
probe_bytes (const struct endpoint *e)
{
  const uint32_t block = e->minimum_bytes;
  const uint32_t many = PROBE_BYTES / block * block;

  if (many > 0 && many <= e->disk_bytes)
    return many;
  return block <= e->disk_bytes ? block : 0;
}

static void
ended (struct io *io)
{
  io->connection->probe = NULL;
  free (io);
}

static void
ask (struct connection *c, uint32_t bytes)
{
  struct probe *p = calloc (1, sizeof *p + bytes);

  if (p == NULL)
    return; /* asked for in the next round */
  p->io.ended = ended;
  c->probe = p;
  connection_read (c, &p->io, p->buf, bytes, 0);
  p->io.probe = true;
}

void
probe_idle (struct endpoint *e, int64_t since_us)
{
  const uint32_t bytes = probe_bytes (e);
  unsigned i;

  for (i = 0; i < e->nr_connections && bytes > 0; ++i) {
    struct connection *c = e->connections[i];

    if (connection_alive (c) && c->in_flight == 0 && c->asked_us < since_us)
      ask (c, bytes);
  }
}

bool
probe_answered (const struct endpoint *e, int64_t since_us)
{
  unsigned i;

  if (e->nr_connections == 0)
    return false;
  for (i = 0; i < e->nr_connections; ++i) {
    const struct connection *c = e->connections[i];

    if (!connection_alive (c) ||
        (c->asked_us < since_us && probe_bytes (e) > 0))
      return false;
  }
  return true;
}
