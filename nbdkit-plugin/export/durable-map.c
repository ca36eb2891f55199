/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "audit.h"
#include "base/clock.h"
#include "base/config.h"
#include "cleanup.h"
#include "durable-map-internal.h"
#include "export.h"
#include "owner.h"
#include "state-file.h"

/* ---- Life --------------------------------------------------------------- */

struct durable_map *
durable_map_new (struct export *e)
{
  CLEANUP_FREE char *path = state_file_path (config.dir, "dirty-map", e->name);
  struct durable_map *d = calloc (1, sizeof *d);

  if (path == NULL || d == NULL ||
      (d->file = dirty_map_file_new (path, e->name, config.state_sync)) ==
        NULL) {
    free (d);
    return NULL;
  }
  d->export = e;
  pthread_mutex_init (&d->lock, NULL);
  pthread_cond_init (&d->changed, NULL);
  return d;
}

void
durable_map_free (struct durable_map *d)
{
  struct old_map *o;

  if (d == NULL)
    return;
  map_keeper_stop (d);
  dirty_map_free (atomic_load (&d->map));
  while ((o = d->old) != NULL) {
    d->old = o->next;
    dirty_map_free (o->map);
    free (o);
  }
  dirty_map_file_free (d->file);
  pthread_cond_destroy (&d->changed);
  pthread_mutex_destroy (&d->lock);
  free (d);
}

/* Have a map of this size, which is not live.  -1: no memory. */
static int
have_map (struct export *e, uint64_t chunk_bytes)
{
  struct durable_map *d = e->durable;
  struct dirty_map *m = atomic_load (&d->map), *fresh;
  struct old_map *old;

  if (m != NULL && dirty_map_fits (m, chunk_bytes))
    return 0;
  fresh = dirty_map_new (d->file, e->disk_bytes, chunk_bytes, map_failed, d);
  old = calloc (1, sizeof *old);
  if (fresh == NULL || old == NULL) {
    dirty_map_free (fresh);
    free (old);
    errno = ENOMEM;
    return -1;
  }
  *old = (struct old_map){ m, d->old };
  d->old = old;
  atomic_store (&d->map, fresh);
  return 0;
}

/* ---- At the start ------------------------------------------------------- */

/* Why the header does not belong to what the record says, or NULL. */
static const char *
why_not (const struct export *e, const struct dirty_map_header *h)
{
  const enum record_end end = e->session.last_end;

  return h->id != e->recorded_map_id      ? "it is of another migration"
         : h->state == DIRTY_MAP_VOID     ? "it is void"
         : h->disk_bytes != e->disk_bytes ? "the disk had another size"
         : end != RECORD_END_INTERRUPTED && end != RECORD_END_DETACHED
           ? "no migration can go on with it"
           : NULL;
}

/* What the tracker is to know.  R17: what was sent and may land 'late' is where
 * there is a mark.
 */
static int
adopt (struct export *e, bool late)
{
  struct session *s = &e->session;
  const struct dirty_map_header *h = &e->durable->header;
  char *promise = strdup (h->promise);

  if (promise == NULL || tracker_set_chunk (e->tracker, h->chunk_bytes) == -1) {
    free (promise);
    errno = ENOMEM;
    return -1;
  }
  s->promise = promise;
  if (h->detached)
    s->last_end = RECORD_END_DETACHED;
  /* What is marked tells of this destination.  Of an earlier one nothing does,
   * where it was too slow to be waited for.
   */
  s->late_elsewhere |= s->old.doubt;
  tracker_restore (e->tracker, dirty_map_marks (atomic_load (&e->durable->map)),
                   late);
  return 0;
}

/* -1 with *why: static, or NULL and errno. */
static int
load (struct export *e, const char **why)
{
  struct durable_map *d = e->durable;
  struct dirty_map_header h = d->file->header;
  /* Otherwise no session copies before that has landed (owner_stay_quiet); it
   * is copied over then, and need not be read back.
   */
  const bool late = e->session.old.doubt;
  uint64_t damaged;

  *why = why_not (e, &h);
  if (*why != NULL || have_map (e, h.chunk_bytes) == -1)
    return -1;
  h.state = DIRTY_MAP_IN_USE;
  d->header = h;
  atomic_store (&d->id, h.id);
  if (dirty_map_load (atomic_load (&d->map), &h, &damaged) == -1 ||
      adopt (e, late) == -1)
    return -1;
  if (damaged > 0)
    nbdkit_error ("migrate: export \"%s\": the dirty map %s is damaged in "
                  "%" PRIu64 " places, as after a loss of power: all that "
                  "they tell of is copied again",
                  e->name, d->file->path, damaged);
  return 0;
}

/* R14: what is not used must not be believed later, when it is out of date. */
static void
refuse (struct export *e, const char *why)
{
  const int error = errno;

  map_say_none (e, "reading", why != NULL ? why : strerror (error));
  if (map_void_file (e->durable) == 0 || owner_record_again (e))
    return;
  map_say_stuck (e, errno);
  map_set_stuck (e->durable, true);
  map_keeper_start (e->durable);
}

void
durable_map_load (struct export *e)
{
  struct durable_map *d = e->durable;
  CLEANUP_FREE char *text = NULL;
  struct dirty_map_status s;
  const char *why = NULL;

  if (e->recorded_map_id == 0 || tracker_owner (e->tracker) != OWNER_SOURCE)
    return;
  if (dirty_map_file_open (d->file, &text) == -1) {
    refuse (e, text);
    return;
  }
  if (load (e, &why) == -1) {
    refuse (e, why);
    return;
  }
  map_keeper_start (d);
  dirty_map_get_status (atomic_load (&d->map), &s);
  audit_map_loaded (e, s.marked_bytes);
}

/* ---- While it is served ------------------------------------------------- */

void
durable_map_mark (struct export *e, uint64_t offset, uint64_t length)
{
  struct dirty_map *m =
    atomic_load_explicit (&e->durable->map, memory_order_acquire);

  if (m != NULL)
    dirty_map_mark (m, offset, length);
}

uint64_t
durable_map_flush_begins (struct export *e)
{
  struct durable_map *d = e->durable;

  if (atomic_load (&d->map) == NULL)
    return 0;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  return ++d->flush_begun;
}

void
durable_map_flush_succeeds (struct export *e, uint64_t number)
{
  struct durable_map *d = e->durable;

  if (number == 0)
    return;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  if (number > d->flush_done)
    d->flush_done = number;
  pthread_cond_broadcast (&d->changed);
}

uint64_t
durable_map_id (const struct export *e)
{
  return e->durable != NULL && map_life (e->durable) == DIRTY_MAP_LIVE
           ? atomic_load (&e->durable->id)
           : 0;
}

void
durable_map_flushed (struct export *e, bool soon)
{
  struct durable_map *d = e->durable;

  if (map_life (d) != DIRTY_MAP_LIVE)
    return;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  d->wanted = true;
  d->soon |= soon;
  pthread_cond_broadcast (&d->changed);
}

void
durable_map_look (struct export *e)
{
  struct durable_map *d = e->durable;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  d->looks_asked++;
  pthread_cond_broadcast (&d->changed);
}

void
durable_map_wait_looked (struct export *e, unsigned ms)
{
  struct durable_map *d = e->durable;
  const int64_t until = clock_ms () + ms;
  const struct timespec ts = { until / 1000, until % 1000 * 1000000 };

  if (!source_may_be_looked_at (e))
    return;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  const uint64_t asked = d->looks_asked;

  while (d->started && !d->clearing && d->looks_done < asked &&
         pthread_cond_clockwait (&d->changed, &d->lock, CLOCK_MONOTONIC, &ts) ==
           0)
    ;
}

void
durable_map_get_status (const struct export *e, struct dirty_map_status *s)
{
  struct dirty_map *m = atomic_load (&e->durable->map);

  *s = (struct dirty_map_status){ .life = DIRTY_MAP_NONE };
  if (m != NULL)
    dirty_map_get_status (m, s);
  if (s->life != DIRTY_MAP_LIVE)
    s->life = map_is_stuck (e->durable) ? DIRTY_MAP_STUCK : DIRTY_MAP_NONE;
}

/* ---- Sessions; the session lock must be held ---------------------------- */

/* The header of a live map changes.  If it cannot be written the map holds no
 * more.
 */
static void
set_header (struct export *e, const struct dirty_map_header *h)
{
  struct durable_map *d = e->durable;

  d->header = *h;
  if (dirty_map_set (atomic_load (&d->map), h) == -1)
    map_failed (d, errno, map_life (d) != DIRTY_MAP_STUCK);
}

void
durable_map_void (struct export *e)
{
  struct durable_map *d = e->durable;

  if (map_life (d) == DIRTY_MAP_NONE || map_void_file (d) == 0)
    return;
  map_say_stuck (e, errno);
  map_set_stuck (d, true);
}

/* False: it does not fit into the file. */
static bool
describe (const struct export *e, struct dirty_map_header *h)
{
  const char *promise = e->session.promise;

  if (promise == NULL)
    promise = "";
  if (strlen (promise) > DIRTY_MAP_PROMISE_MAX ||
      h->disk_bytes / h->chunk_bytes >= DIRTY_MAP_CHUNKS_MAX)
    return false;
  strcpy (h->promise, promise);
  h->state = DIRTY_MAP_IN_USE;
  h->detached = false;
  return true;
}

static void
begin_anew (struct export *e, struct dirty_map_header *h)
{
  struct durable_map *d = e->durable;
  CLEANUP_FREE char *why = NULL;

  if (getrandom (&h->id, sizeof h->id, 0) != sizeof h->id || h->id == 0 ||
      have_map (e, h->chunk_bytes) == -1 ||
      dirty_map_begin (atomic_load (&d->map), h, &why) == -1) {
    map_say_none (e, "making", why != NULL ? why : strerror (errno));
    return;
  }
  d->header = *h;
  atomic_store (&d->id, h->id);
  map_set_stuck (d, false); /* what was there is gone */
}

void
durable_map_begin (struct export *e, bool resumed)
{
  struct durable_map *d = e->durable;
  struct dirty_map *m = atomic_load (&d->map);
  struct dirty_map_header h = {
    .disk_bytes = e->disk_bytes,
    .chunk_bytes = map_tracked_chunk (e),
  };
  const bool goes_on = resumed && map_life (d) == DIRTY_MAP_LIVE &&
                       dirty_map_fits (m, h.chunk_bytes);

  if (!resumed)
    source_begin (e);
  if (goes_on)
    h = d->header;
  else
    durable_map_void (e);
  if (!describe (e, &h)) {
    durable_map_void (e);
    map_say_none (
      e, "making",
      "what is promised of the destination is longer than 2048 bytes, "
      "or the disk has 2^31 chunks or more");
  }
  else if (goes_on)
    set_header (e, &h);
  else
    begin_anew (e, &h);
  map_keeper_start (d); /* without a map it looks at the source all the same */
  durable_map_look (e);
}

static void
set_detached (struct export *e, bool detached)
{
  struct durable_map *d = e->durable;
  struct dirty_map_header h;

  if (map_life (d) != DIRTY_MAP_LIVE || d->header.detached == detached)
    return;
  h = d->header;
  h.detached = detached;
  set_header (e, &h);
}

void
durable_map_detach (struct export *e)
{
  set_detached (e, true);
}

void
durable_map_note_end (struct export *e)
{
  set_detached (e, e->session.last_end == RECORD_END_DETACHED);
  durable_map_flushed (e, true);
}

/* ---- At the end --------------------------------------------------------- */

static void
close_map (struct export *e)
{
  struct durable_map *d = e->durable;
  struct dirty_map_header h = d->header;

  h.state = DIRTY_MAP_CLOSED;
  if (dirty_map_file_sync (d->file) == -1)
    nbdkit_debug ("migrate: export \"%s\": syncing %s: %m", e->name,
                  d->file->path);
  else
    set_header (e, &h);
}

static void
say_unended (const struct export *e)
{
  nbdkit_error ("migrate: export \"%s\": the plugin has not answered a flush "
                "or a read for so long that nbdkit ends without it: after the "
                "next start more may be copied than would have to be",
                e->name);
}

void
durable_map_finish (struct export *e)
{
  map_keeper_finish (e->durable);
}

bool
durable_map_end (struct export *e, int64_t until_ms)
{
  struct durable_map *d = e->durable;
  const bool ended = map_keeper_has_ended (d, until_ms);

  if (!ended)
    say_unended (e);
  else if (map_life (d) == DIRTY_MAP_LIVE)
    close_map (e);
  map_try_unstick (e);
  if (map_is_stuck (d))
    map_say_stuck (e, EIO);
  return ended;
}
