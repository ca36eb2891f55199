/* SPDX-License-Identifier: BSD-3-Clause */

#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "export/place.h"
#include "uri.h"
#include "view.h"

bool
view_is_meant (const char *export_name)
{
  return strcmp (export_name, URI_LOCAL_EXPORT) == 0;
}

static bool
peer_is_allowed (void)
{
  const int64_t uid = nbdkit_peer_uid ();

  return nbdkit_peer_pid () > 0 && (uid == 0 || uid == (int64_t)geteuid ());
}

static bool
is_elsewhere (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  return place_is_remote (e);
}

struct export *
view_open (nbdkit_backend *backend, int readonly)
{
  struct export *e = export_find ("");

  if (e == NULL)
    nbdkit_error ("migrate: no client has opened the default export, which "
                  "\"%s\" is about",
                  URI_LOCAL_EXPORT);
  else if (!peer_is_allowed ())
    local_refuse (e, "that is for nbdmigrate, by the proxy's Unix socket, as "
                     "the user of the proxy or root");
  else if (!is_elsewhere (e))
    local_refuse (e, "it is there already");
  else if (local_need_shared (e, backend, readonly) == 0)
    return e;
  return NULL;
}

/* Whether it is the process of the session that moves the disk here, or the
 * mirror, which is in this process, while there is such a session.
 */
static bool
may_write (const struct handle *h)
{
  const int64_t writer =
    __atomic_load_n (&h->export->local.writer, __ATOMIC_SEQ_CST);

  return writer != 0 && (h->peer_pid == writer || h->peer_pid == getpid ());
}

static void
note_change (struct handle *h)
{
  unsigned none = 0;

  __atomic_compare_exchange_n (&h->wrote_in, &none,
                               local_exchanges (&h->export->local) + 1, false,
                               __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* R6a: whether what was written over this connection may be lost. */
static bool
has_lost_context (struct handle *h)
{
  const unsigned in = __atomic_load_n (&h->wrote_in, __ATOMIC_SEQ_CST);

  return in != 0 && in != local_exchanges (&h->export->local) + 1;
}

int
view_serve (const struct io *io)
{
  const bool changes =
    io->type == IO_WRITE || io->type == IO_ZERO || io->type == IO_TRIM;
  int r;

  if (changes && !may_write (io->handle)) {
    *io->err = EPERM;
    return -1;
  }
  if (changes)
    note_change (io->handle);
  r = local_side.serve[io->type](io);
  if (r == 0 && (changes || io->type == IO_FLUSH) &&
      has_lost_context (io->handle)) {
    nbdkit_error ("the plugin of the local image has failed and was opened "
                  "anew: what it was given before may be lost");
    *io->err = EIO;
    return -1;
  }
  return r;
}
