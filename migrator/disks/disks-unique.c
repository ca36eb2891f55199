/* SPDX-License-Identifier: BSD-3-Clause */
/* Is a disk named twice, in other words?  The same URI was refused with the
 * command line; here the servers that were reached are compared.
 *
 * Two exports are one if both announce the same id, or if the same address was
 * reached and the same export name asked for.  A Unix socket tells the path
 * that its server has bound, whatever link or path led there.
 *
 * A shared base is a disk, too: that of a source, seen past its proxy.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "announcement.h"
#include "cleanup.h"
#include "disks/disks.h"

struct peer {
  struct sockaddr_storage address;
  socklen_t length;
  pid_t pid; /* of the server; 0 if it is on another host */
};

/* False if nothing is known that it could be told by. */
static bool
get_peer (const struct endpoint *e, struct peer *p)
{
  const int sock = e->connections[0]->sock;
  struct ucred cred = { .pid = 0 };
  socklen_t length = sizeof cred;

  memset (p, 0, sizeof *p);
  p->length = sizeof p->address;
  if (getpeername (sock, (struct sockaddr *)&p->address, &p->length) == -1)
    return false;
  if (p->address.ss_family != AF_UNIX)
    return true;
  if (getsockopt (sock, SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0)
    p->pid = cred.pid;
  return p->length > offsetof (struct sockaddr_un, sun_path);
}

static bool
same_server (const struct endpoint *a, const struct endpoint *b)
{
  struct peer pa, pb;

  return get_peer (a, &pa) && get_peer (b, &pb) && pa.pid == pb.pid &&
         pa.length == pb.length &&
         memcmp (&pa.address, &pb.address, pa.length) == 0;
}

static bool
same_disk (const struct endpoint *a, const struct endpoint *b)
{
  CLEANUP_FREE char *id_a = endpoint_announcement (a, ANNOUNCE_ID);
  CLEANUP_FREE char *id_b = endpoint_announcement (b, ANNOUNCE_ID);

  if (id_a != NULL && id_b != NULL && strcmp (id_a, id_b) == 0)
    return true;
  return strcmp (a->export_name, b->export_name) == 0 && same_server (a, b);
}

static int
check_pair (struct disks *disks, const struct endpoint *a,
            const struct endpoint *b)
{
  if (!same_disk (a, b))
    return 0;
  failure_note (
    &disks->failure,
    "'%s' and '%s' are the same disk, named twice; every disk needs "
    "a source and a destination of its own",
    a->uri, b->uri);
  return -1;
}

static int
check_pairs (struct disks *disks, const struct disk *a, const struct disk *b)
{
  if (check_pair (disks, a->source, b->source) == -1 ||
      check_pair (disks, a->destination, b->destination) == -1 ||
      check_pair (disks, a->source, b->destination) == -1 ||
      check_pair (disks, a->destination, b->source) == -1)
    return -1;
  return 0;
}

/* What is written to a base is written to the disk that a proxy reads from,
 * behind the guest's back.
 */
static int
check_base (struct disks *disks, const struct endpoint *base,
            const struct endpoint *e, const char *what)
{
  if (!same_disk (base, e))
    return 0;
  failure_note (&disks->failure,
                "the shared base '%s' and the %s '%s' are the same disk, named "
                "twice; --shared-base must be the server that the disk's own "
                "proxy reads from, and the destination another one",
                base->uri, what, e->uri);
  return -1;
}

/* The base of one disk, and everything of another (or of itself). */
static int
check_bases (struct disks *disks, const struct disk *a, const struct disk *b)
{
  if (a->base == NULL)
    return 0;
  if (check_base (disks, a->base, b->destination, "destination") == -1 ||
      check_base (disks, a->base, b->source, "source") == -1)
    return -1;
  return a == b ? 0 : check_base (disks, a->base, b->base, "shared base");
}

int
disks_check_unique (struct disks *disks)
{
  size_t i, j;

  for (i = 0; i < disks->n; ++i)
    for (j = 0; j < disks->n; ++j) {
      const struct disk *a = &disks->v[i], *b = &disks->v[j];

      if ((i < j && check_pairs (disks, a, b) == -1) ||
          check_bases (disks, a, b) == -1)
        return -1;
    }
  return 0;
}
