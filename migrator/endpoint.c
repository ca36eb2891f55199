/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"

/* What servers must accept when they state no maximum (NBD protocol, "Block
 * size constraints").
 */
#define DEFAULT_MAXIMUM_BYTES (32U * 1024 * 1024)

static int
learn (struct endpoint *e, const struct connection_options *options)
{
  struct nbd_handle *nbd = e->connections[0]->nbd;
  const int64_t size = nbd_get_size (nbd);
  const int64_t minimum = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  const int64_t maximum = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  if (size < 0)
    return -1;
  e->disk_bytes = (uint64_t)size;
  e->minimum_bytes = minimum > 0 ? (uint32_t)minimum : 1;
  e->maximum_bytes = DEFAULT_MAXIMUM_BYTES;
  if (maximum > 0 && maximum < DEFAULT_MAXIMUM_BYTES)
    e->maximum_bytes = (uint32_t)maximum;
  e->read_only = nbd_is_read_only (nbd) != 0;
  e->can_flush = nbd_can_flush (nbd) == 1;
  e->can_zero = nbd_can_zero (nbd) == 1;
  e->multi_conn = nbd_can_multi_conn (nbd) == 1;
  e->has_allocation =
    options->allocation &&
    nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  e->has_depth = options->depth_context != NULL &&
                 nbd_can_meta_context (nbd, options->depth_context) == 1;
  e->export_name = nbd_get_export_name (nbd);
  e->description = nbd_get_export_description (nbd);
  return e->export_name != NULL ? 0 : -1;
}

struct endpoint *
endpoint_open (struct loop *loop, const char *uri,
               const struct connection_options *options, int interrupt_fd,
               char **why)
{
  struct endpoint *e = calloc (1, sizeof *e);

  *why = NULL;
  if (e == NULL)
    return NULL;
  e->uri = uri;
  e->connections[0] = connection_open (loop, uri, options, interrupt_fd, why);
  if (e->connections[0] == NULL) {
    free (e);
    return NULL;
  }
  e->nr_connections = 1;
  if (learn (e, options) == -1) {
    *why = strdup (nbd_get_error ());
    endpoint_close (e);
    return NULL;
  }
  return e;
}

/* The server does not admit as many as we would like: leave the others to
 * whoever needs them, the relay of a pivot for one.
 */
static void
narrow (struct endpoint *e)
{
  while (e->nr_connections > 1)
    connection_close (e->connections[--e->nr_connections]);
}

int
endpoint_widen (struct endpoint *e, struct loop *loop,
                const struct connection_options *options, unsigned wanted,
                int interrupt_fd, char **why)
{
  struct connection *c;

  *why = NULL;
  if (wanted > ENDPOINT_CONNECTIONS_MAX)
    wanted = ENDPOINT_CONNECTIONS_MAX;
  if (!e->multi_conn)
    wanted = 1;
  while (e->nr_connections < wanted) {
    c = connection_open (loop, e->uri, options, interrupt_fd, why);
    if (c == NULL) {
      narrow (e);
      return -1;
    }
    e->connections[e->nr_connections++] = c;
    if (nbd_get_size (c->nbd) != (int64_t)e->disk_bytes) {
      *why = strdup ("a second connection to the export shows a disk of "
                     "another size");
      return -1;
    }
  }
  return 0;
}

void
endpoint_close (struct endpoint *e)
{
  unsigned i;

  if (e == NULL)
    return;
  for (i = 0; i < e->nr_connections; ++i)
    connection_close (e->connections[i]);
  free (e->export_name);
  free (e->description);
  free (e);
}

struct connection *
endpoint_idle (const struct endpoint *e, unsigned depth)
{
  struct connection *best = NULL;
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i) {
    struct connection *c = e->connections[i];

    if (connection_alive (c) && c->in_flight < depth &&
        (best == NULL || c->in_flight < best->in_flight))
      best = c;
  }
  return best;
}

const char *
endpoint_broken (const struct endpoint *e)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    if (!connection_alive (e->connections[i]))
      return e->connections[i]->why;
  return NULL;
}

void
endpoint_check_timeout (struct endpoint *e, int64_t now_us,
                        const struct patience *p)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    connection_check_timeout (e->connections[i], now_us, p);
}

char *
endpoint_announcement (const struct endpoint *e, const char *key)
{
  const size_t n = strlen (key);
  const char *line = e->description;

  while (line != NULL) {
    if (strncmp (line, key, n) == 0)
      return strndup (line + n, strcspn (line + n, "\n"));
    line = strchr (line, '\n');
    if (line != NULL)
      line++;
  }
  return NULL;
}
