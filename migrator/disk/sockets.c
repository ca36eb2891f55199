/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <unistd.h>

#include "disk/disk.h"
#include "disk/sockets.h"
#include "nbd/unanswered.h"
#include "protocol.h"
#include "socket-reset.h"

/* Whether all have a socket.  (The number of one that was closed is that of the
 * next file that is opened.)
 */
static bool
get_sockets (struct connection *const v[], unsigned n, int fds[])
{
  unsigned i;

  for (i = 0; i < n; ++i)
    if ((fds[i] = connection_socket (v[i])) == -1)
      return false;
  return true;
}

bool
sockets_tell (struct disk *d, struct connection *const more[], unsigned n,
              struct ledger **ledger, control_callback *told)
{
  const struct endpoint *e = d->destination;
  const unsigned all = e->nr_connections + n;
  struct connection *v[ENDPOINT_CONNECTIONS_MAX];
  int fds[ENDPOINT_CONNECTIONS_MAX + 1], ledger_fd;
  unsigned i;

  assert (all <= ENDPOINT_CONNECTIONS_MAX);
  for (i = 0; i < all; ++i)
    v[i] =
      i < e->nr_connections ? e->connections[i] : more[i - e->nr_connections];
  if (!get_sockets (v, all, fds))
    return false;
  *ledger = ledger_create (&ledger_fd);
  for (i = 0; i < all; ++i) {
    socket_reset_at_close (fds[i]);
    unanswered_begin_change (v[i], *ledger ? &(*ledger)->lines[i] : NULL);
  }
  if (*ledger != NULL)
    fds[i++] = ledger_fd;
  control_send (d->control, "lost", CONTROL_NO_ARGUMENTS, fds, i, told, d);
  if (ledger_fd != -1)
    close (ledger_fd);
  return true;
}

bool
sockets_note_epoch (struct disk *d, const struct control_answer *a,
                    const char *doing)
{
  if (a->value != NULL && protocol_get_u64 (a->value, "epoch", &d->epoch) == 1)
    return true;
  failure_note_for_good (d->settings->failure, "%s %s: the proxy of %s: %s",
                         doing, d->pair->destination, d->pair->source,
                         a->value ? "the answer has no epoch" : a->desc);
  return false;
}

void
sockets_told (struct disk *d, struct ledger **ledger)
{
  const struct endpoint *e = d->destination;
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    unanswered_end_change (e->connections[i]);
  ledger_close (d->ledger);
  d->ledger = *ledger;
  *ledger = NULL;
}
