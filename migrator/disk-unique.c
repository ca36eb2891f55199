/* SPDX-License-Identifier: BSD-3-Clause */
/* Is a disk named twice, in other words?  The same URI was refused with the
 * command line; here the servers that were reached are compared.
 *
 * Two exports are one if both announce the same id, or if the same address was
 * reached and the same export name asked for.  A Unix socket tells the path
 * that its server has bound, whatever link or path led there.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cleanup.h"
#include "migration.h"
#include "protocol.h"

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
  CLEANUP_FREE char *id_a = endpoint_announcement (a, PROTOCOL_ANNOUNCE_ID);
  CLEANUP_FREE char *id_b = endpoint_announcement (b, PROTOCOL_ANNOUNCE_ID);

  if (id_a != NULL && id_b != NULL && strcmp (id_a, id_b) == 0)
    return true;
  return strcmp (a->export_name, b->export_name) == 0 && same_server (a, b);
}

static int
check_pair (struct migration *m, const struct endpoint *a,
            const struct endpoint *b)
{
  if (!same_disk (a, b))
    return 0;
  drive_fail (m,
              "'%s' and '%s' are the same disk, named twice; every disk needs "
              "a source and a destination of its own",
              a->uri, b->uri);
  return -1;
}

int
disk_check_unique (struct migration *m)
{
  size_t i, j;

  for (i = 0; i < m->nr_disks; ++i) {
    const struct disk *d = &m->disks[i];

    for (j = i + 1; j < m->nr_disks; ++j) {
      const struct disk *other = &m->disks[j];

      if (check_pair (m, d->source, other->source) == -1 ||
          check_pair (m, d->destination, other->destination) == -1 ||
          check_pair (m, d->source, other->destination) == -1 ||
          check_pair (m, d->destination, other->source) == -1)
        return -1;
    }
  }
  return 0;
}
