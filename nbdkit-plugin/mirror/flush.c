/* SPDX-License-Identifier: BSD-3-Clause */
/* A flush of the connections here (R6).
 *
 * That a connection answers a flush is the only proof that its server has lived
 * since it answered a write there, multi-conn or not; so whoever has written
 * flushes.  It is asked for between the filter's flush-begin and flush-end, so
 * it covers all that was in U then.
 *
 * When one fails, the server may have dropped what it could not write out, and
 * says so only once: all that is not flushed counts as lost.
 */

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

/* L. */
static void
add_flushes (struct mirror *m, struct batch *b)
{
  for (unsigned i = 0; i < m->remote.nr_connections; ++i) {
    struct connection *c = m->remote.connections[i];

    if (!c->lost && c->flushed < c->acknowledged)
      batch_add (b, COMMAND_FLUSH, 0, c->acknowledged, 0, NULL)->connection = c;
  }
}

struct mirror_flush *
mirror_flush_begin (struct mirror *m)
{
  struct mirror_flush *f = malloc (sizeof *f);

  pthread_mutex_lock (&m->remote.lock);
  if (f == NULL)
    m->options.user.lost (m->options.user.opaque);
  else {
    parcel_init (&f->parcel, m, true);
    add_flushes (m, &f->parcel.batch);
    if (f->parcel.batch.n > 0)
      batch_link (&m->remote, &f->parcel.batch, NULL);
  }
  pthread_mutex_unlock (&m->remote.lock);
  if (f != NULL && f->parcel.batch.sent) {
    batch_issue (&f->parcel.batch);
    return f;
  }
  if (f != NULL)
    parcel_free (&f->parcel);
  return NULL;
}

/* A loss has told of itself. */
static void
note_failure (struct mirror *m, int error)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  m->options.user.lost (m->options.user.opaque);
  mirror_demote (m, "the destination answered a flush with an error: %s",
                 strerror (error));
}

bool
mirror_flush_wait (struct mirror_flush *f, unsigned ms, bool *success)
{
  struct mirror *m = f->parcel.mirror;
  int result;

  if (!batch_wait_until (&m->remote, &f->parcel.batch, clock_ms () + ms,
                         &result))
    return false;
  if (result > 0)
    note_failure (m, result);
  *success = result == 0;
  parcel_free (&f->parcel);
  return true;
}

void
mirror_flush_abandon (struct mirror_flush *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->parcel.mirror->remote.lock);

  parcel_abandon (&f->parcel);
}
