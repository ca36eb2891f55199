/* SPDX-License-Identifier: BSD-3-Clause */

#include <stddef.h>

#include <libnbd.h>

#include "nbd/endpoint.h"
#include "nbd/wire.h"

#ifdef LIBNBD_HAVE_NBD_STATS_BYTES_SENT
bool
wire_is_known (void)
{
  return true;
}

/* It takes no lock: a thread may drive the connection. */
void
wire_add (struct wire *w, struct nbd_handle *nbd)
{
  w->sent += nbd_stats_bytes_sent (nbd);
  w->received += nbd_stats_bytes_received (nbd);
}
#else
bool
wire_is_known (void)
{
  return false;
}

void
wire_add (struct wire *w, struct nbd_handle *nbd)
{
  (void)w;
  (void)nbd;
}
#endif

void
wire_count (struct endpoint *e, struct wire *w)
{
  unsigned i;

  e->wire = w;
  for (i = 0; i < e->nr_connections; ++i)
    e->connections[i]->wire = w;
}

struct wire
wire_so_far (const struct wire *w, const struct endpoint *e)
{
  struct wire all = *w;
  unsigned i;

  for (i = 0; e != NULL && i < e->nr_connections; ++i)
    wire_add (&all, e->connections[i]->nbd);
  return all;
}
