/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's connections. */

#include "guest.h"

#include <inttypes.h>
#include <string.h>

#include <libnbd.h>

#include "util.h"

#define CONNECTIONS_DEFAULT 4

static struct nbd_handle *
open_one (const char *uri)
{
  struct nbd_handle *const nbd = nbd_create ();

  if (nbd == NULL || nbd_set_uri_allow_local_file (nbd, true) == -1 ||
      nbd_connect_uri (nbd, uri) == -1)
    die (EXIT_BROKEN, "%s: %s", uri, nbd_get_error ());
  return nbd;
}

static void
add (struct guest *g, struct nbd_handle *nbd, uint32_t disk)
{
  g->conns = xrealloc (g->conns, (g->nr_conns + 1) * sizeof *g->conns);
  g->conns[g->nr_conns++] = (struct connection){ .nbd = nbd, .disk = disk };
}

/* What the server offers, of what the user allows. */
static void
learn_kinds (struct guest *g, struct nbd_handle *nbd, uint32_t disk)
{
  const struct {
    char kind;
    int able;
  } table[] = {
    { OP_READ, 1 },
    { OP_WRITE, 1 },
    { OP_WRITE_FUA, nbd_can_fua (nbd) },
    { OP_ZERO, nbd_can_zero (nbd) },
    { OP_ZERO_NO_HOLE, nbd_can_zero (nbd) },
    { OP_ZERO_LONG, nbd_can_zero (nbd) },
    { OP_TRIM, nbd_can_trim (nbd) },
    { OP_FLUSH, nbd_can_flush (nbd) },
  };
  size_t n = 0;

  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    if (table[i].able > 0 && strchr (g->o->kinds, table[i].kind) != NULL)
      g->kinds[disk][n++] = table[i].kind;
  g->kinds[disk][n] = '\0';
}

/* A record that is continued already knows the size. */
static void
learn_size (struct guest *g, struct nbd_handle *nbd, uint32_t disk)
{
  struct layout *const l = &g->record.layout;
  const int64_t size = nbd_get_size (nbd);

  if (size == -1)
    die (EXIT_BROKEN, "%s: %s", g->o->uris[disk], nbd_get_error ());
  if (nbd_is_read_only (nbd) == 1)
    die (EXIT_BROKEN, "%s: the disk is read-only", g->o->uris[disk]);
  if (!g->o->resume)
    l->disk_bytes[disk] = size;
  else if (l->disk_bytes[disk] > (uint64_t)size)
    die (EXIT_BROKEN,
         "%s: the disk has %" PRIi64 " bytes, in the record it has %" PRIu64,
         g->o->uris[disk], size, l->disk_bytes[disk]);
}

void
guest_connect (struct guest *g)
{
  for (uint32_t disk = 0; disk < g->o->disks; disk++) {
    struct nbd_handle *const nbd = open_one (g->o->uris[disk]);
    uint64_t wanted = g->o->connections;

    learn_size (g, nbd, disk);
    learn_kinds (g, nbd, disk);
    add (g, nbd, disk);
    if (nbd_can_multi_conn (nbd) != 1) {
      if (wanted > 1)
        say ("%s: no multi-conn, using one connection", g->o->uris[disk]);
      wanted = 1;
    }
    else if (wanted == 0)
      wanted = CONNECTIONS_DEFAULT;
    for (uint64_t i = 1; i < wanted; i++)
      add (g, open_one (g->o->uris[disk]), disk);
  }
  g->conn_depth = (g->o->depth + g->nr_conns - 1) / g->nr_conns;
}

void
guest_close (struct guest *g)
{
  for (size_t i = 0; i < g->nr_conns; i++) {
    if (!g->conns[i].dead)
      nbd_shutdown (g->conns[i].nbd, 0);
    nbd_close (g->conns[i].nbd);
  }
  free (g->conns);
}
