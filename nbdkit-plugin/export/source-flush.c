/* SPDX-License-Identifier: BSD-3-Clause */
/* How the source is flushed before marks are cleared (R14). */

#include <stdlib.h>

#include <nbdkit-filter.h>

#include "base/config.h"
#include "base/nbdkit-version.h"
#include "cleanup.h"
#include "durable-map-internal.h"
#include "export.h"
#include "place.h"
#include "relay/relay.h"

static nbdkit_next *
open_context (struct export *e)
{
  nbdkit_next *next =
    nbdkit_next_context_open (e->backend, e->readonly, e->name, true);

  if (next == NULL)
    return NULL;
  if (next->prepare (next) == 0 && next->get_size (next) != -1 &&
      next->can_flush (next) != -1)
    return next;
  next->finalize (next);
  nbdkit_next_context_close (next);
  return NULL;
}

static int
flush_shared (struct export *e)
{
  struct local *l = &e->local;
  nbdkit_next *next = local_begin (l, NULL);
  const bool unflushed = local_flush_begin (l);
  struct flush_entry entry;
  int err;
  const int r = local_flush_own (e, next, &entry, &err);

  if (r == -1)
    local_flush_failed (l, unflushed);
  local_end (l, NULL, next);
  return flushes_leave (&l->flushes, &entry, r);
}

/* As all connections have multi-conn, that of one is that of all (local.h). */
static int
wait_for_flush (struct durable_map *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  const uint64_t before = d->flush_begun;

  while (d->flush_done <= before && d->started && !d->stopping && !d->stuck)
    pthread_cond_wait (&d->changed, &d->lock);
  return d->flush_done > before ? 0 : -1;
}

static int
flush_local (struct export *e)
{
  struct flush_entry entry;
  nbdkit_next *next;
  int r, err;

  if (local_is_shared (&e->local))
    return flush_shared (e);
  if (e->backend == NULL || (*e->name != '\0' && !NBDKIT_HAS_SHARED_NAMES))
    return wait_for_flush (e->durable);
  next = open_context (e);
  if (next == NULL)
    return -1;
  r = local_flush_own (e, next, &entry, &err);
  next->finalize (next);
  nbdkit_next_context_close (next);
  return flushes_leave (&e->local.flushes, &entry, r);
}

static int
flush_remote (struct export *e, unsigned place)
{
  int r;

  if (!place_enter (e, place))
    return -1;
  r = relay_flush (e->places[place].relay, NULL, NULL);
  place_leave (e, place);
  return r;
}

int
source_flush (struct export *e)
{
  const unsigned place = tracker_place (e->tracker, OWNER_SOURCE);

  if (!config.state_sync)
    return 0;
#ifdef PLANT_BUG_clear_unflushed
  return 0;
#endif
  return place == PLACE_LOCAL ? flush_local (e) : flush_remote (e, place);
}
