/* SPDX-License-Identifier: BSD-3-Clause */
/* Who clears marks is a thread of its own, the keeper.  After a flush of the
 * destination it notes what is quiet (tracker/quiet.c), flushes the source, and
 * clears the marks of what has been quiet since.  Without the flush of the
 * source a power cut could take from it what the destination has, of a chunk
 * that nobody would copy again: a guest would then see bytes come back that it
 * had seen vanish.  Where the keeper has no way to flush it, it waits for a
 * flush of a guest's.
 *
 * A map that is stuck holds by the file, and is not kept up to date.  Its id is
 * in no record that is written from now on; the keeper tries to have one
 * written, and to make the file void.
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/nbdkit-version.h"
#include "cleanup.h"
#include "audit.h"
#include "durable-map.h"
#include "export.h"
#include "owner.h"
#include "place.h"
#include "relay/relay.h"
#include "state-file.h"

/* The source is flushed for it, which its guests may feel: at most so often,
 * and for at most one part in so many of the time.
 */
#define CLEAR_MS 5000
#define CLEAR_SHARE 20

#define VOID_AGAIN_MS 5000
#define PAUSE_MS 100 /* when to look again whether it is over */

struct old_map {
  struct dirty_map *map;
  struct old_map *next;
};

struct durable_map {
  struct export *export;
  struct dirty_map_file *file;

  /* Written under the session lock.  A request may hold on to one that was
   * exchanged, so those are kept; that is rare.
   */
  struct dirty_map *_Atomic map;
  struct old_map *old;
  struct dirty_map_header header; /* of a live one; session lock */
  _Atomic uint64_t id;            /* the same */

  pthread_mutex_t lock; /* for all that follows */
  pthread_cond_t changed;
  pthread_t keeper;
  bool started, stopping;
  bool wanted, soon;    /* clear what can be cleared */
  bool stuck;           /* the file has to be made void */
  int64_t not_until_ms; /* of clock_ms: the next clearing */
  uint64_t flush_begun; /* of guests' flushes the number of the latest */
  uint64_t flush_done;  /* the latest begun of those that have succeeded */
};

/* Of the present one. */
static enum dirty_map_life
life_of (const struct durable_map *d)
{
  struct dirty_map *m = atomic_load (&d->map);

  return m == NULL ? DIRTY_MAP_NONE : dirty_map_life (m);
}

/* ---- Messages ----------------------------------------------------------- */

static void
say_stuck (const struct export *e, int error)
{
  nbdkit_error ("migrate: export \"%s\": the dirty map %s holds no more, and "
                "could not be made void: %s: this is tried again, but if "
                "nbdkit ends before it says that it has succeeded, remove "
                "that file before the next start, or a migration could go on "
                "without what guests have written",
                e->name, e->durable->file->path, strerror (error));
}

static void
say_none (const struct export *e, const char *doing, const char *why)
{
  nbdkit_error ("migrate: export \"%s\": %s the dirty map %s: %s; the guest "
                "and the migration go on, and a restart of nbdkit would mean a "
                "full copy",
                e->name, doing, e->durable->file->path, why);
}

/* ---- The keeper's work: clearing ---------------------------------------- */

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

static int
flush_source (struct export *e)
{
  const unsigned place = tracker_place (e->tracker, OWNER_SOURCE);

  if (!config.state_sync)
    return 0;
#ifdef PLANT_BUG_clear_unflushed
  return 0;
#endif
  return place == PLACE_LOCAL ? flush_local (e) : flush_remote (e, place);
}

/* For tracker_give_quiet. */
static void
clear (void *opaque, uint64_t word, const uint64_t *bits, size_t n)
{
  dirty_map_clear (opaque, word, bits, n);
}

static uint64_t
tracked_chunk (struct export *e)
{
  struct tracker_status s;

  tracker_get_status (e->tracker, &s);
  return s.chunk_bytes;
}

/* Once a flush of the source has failed, whoever has asked for it, nothing
 * tells what it has lost: a later one may succeed, of what is left.
 */
static bool
may_be_lost (struct export *e)
{
  return flushes_have_failed (&e->local.flushes) ||
         owed_error_count (&e->owed) > 0;
}

/* R14, in this order: quiet, flushed, cleared. */
static void
clear_quiet (struct export *e, bool touched_too, bool exact)
{
  struct dirty_map *m = atomic_load (&e->durable->map);
  const uint64_t chunk_bytes = tracked_chunk (e);

  if (m == NULL || !dirty_map_fits (m, chunk_bytes) || may_be_lost (e) ||
      !tracker_note_quiet (e->tracker, touched_too))
    return;
  if (flush_source (e) == -1 || may_be_lost (e)) {
    nbdkit_debug ("migrate: export \"%s\": the source could not be flushed: "
                  "no mark is cleared",
                  e->name);
    return;
  }
  if (!dirty_map_clear_begin (m, exact))
    return;
  tracker_give_quiet (e->tracker, chunk_bytes, clear, m);
  dirty_map_clear_end (m);
}

/* ---- The keeper's work: what is stuck ----------------------------------- */

/* Nobody but who has the session lock uses the file of a map that is not live.
 */
static int
void_file (struct durable_map *d)
{
  return life_of (d) == DIRTY_MAP_NONE ? dirty_map_file_void (d->file)
                                       : dirty_map_void (atomic_load (&d->map));
}

static bool
is_stuck (struct durable_map *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  return d->stuck;
}

static void
set_stuck (struct durable_map *d, bool stuck)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  d->stuck = stuck;
  pthread_cond_broadcast (&d->changed);
}

/* The session lock must be held.  -1 with errno. */
static int
unstick (struct export *e)
{
  struct durable_map *d = e->durable;

  if (void_file (d) == -1 && !owner_record_again (e))
    return -1;
  set_stuck (d, false);
  audit_map_void (e, d->file->path);
  return 0;
}

static void
try_unstick (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  if (is_stuck (e->durable))
    unstick (e);
}

/* Of a guest's write. */
static void
map_failed (void *opaque, int error, bool voided)
{
  struct durable_map *d = opaque;

  say_none (d->export, "writing", strerror (error));
  if (voided)
    return;
  say_stuck (d->export, error);
  set_stuck (d, true);
}

/* ---- The keeper --------------------------------------------------------- */

/* A flush beside the pause would make it longer; after it there may be no map.
 */
static bool
is_in_pause (struct export *e)
{
  struct tracker_status s;

  tracker_get_status (e->tracker, &s);
  return s.gate != GATE_OPEN;
}

/* The lock must be held, and is dropped meanwhile. */
static void
do_clear (struct durable_map *d)
{
  const bool soon = d->soon;
  int64_t begun_ms;

  d->soon = false;
  if (is_in_pause (d->export)) {
    d->not_until_ms = clock_ms () + PAUSE_MS;
    return;
  }
  d->wanted = false;
  pthread_mutex_unlock (&d->lock);
  begun_ms = clock_ms ();
  clear_quiet (d->export, soon, false);
  pthread_mutex_lock (&d->lock);
  d->not_until_ms =
    clock_ms () + CLEAR_MS + CLEAR_SHARE * (clock_ms () - begun_ms);
}

static void
do_unstick (struct durable_map *d)
{
  pthread_mutex_unlock (&d->lock);
  try_unstick (d->export);
  pthread_mutex_lock (&d->lock);
}

static void
wait_until (struct durable_map *d, int64_t ms)
{
  const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

  pthread_cond_clockwait (&d->changed, &d->lock, CLOCK_MONOTONIC, &ts);
}

static void *
keeper_loop (void *opaque)
{
  struct durable_map *d = opaque;
  int64_t unstick_ms = 0;

  pthread_mutex_lock (&d->lock);
  while (!d->stopping) {
    const int64_t now = clock_ms ();

    if (d->stuck && now >= unstick_ms) {
      do_unstick (d);
      unstick_ms = clock_ms () + VOID_AGAIN_MS;
    }
    else if (d->wanted && (d->soon || now >= d->not_until_ms))
      do_clear (d);
    else if (d->stuck)
      wait_until (d, unstick_ms);
    else if (d->wanted)
      wait_until (d, d->not_until_ms);
    else
      pthread_cond_wait (&d->changed, &d->lock);
  }
  pthread_mutex_unlock (&d->lock);
  return NULL;
}

/* Signals are for nbdkit's own threads.  Without it nothing is cleared. */
static void
start_keeper (struct durable_map *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  sigset_t all, old;

  if (d->started)
    return;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  d->started = pthread_create (&d->keeper, NULL, keeper_loop, d) == 0;
  pthread_sigmask (SIG_SETMASK, &old, NULL);
}

static void
stop_keeper (struct durable_map *d)
{
  pthread_mutex_lock (&d->lock);
  d->stopping = true;
  pthread_cond_broadcast (&d->changed);
  pthread_mutex_unlock (&d->lock);
  if (d->started)
    pthread_join (d->keeper, NULL);
  d->started = false;
}

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
  stop_keeper (d);
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

  say_none (e, "reading", why != NULL ? why : strerror (error));
  if (void_file (e->durable) == 0 || owner_record_again (e))
    return;
  say_stuck (e, errno);
  set_stuck (e->durable, true);
  start_keeper (e->durable);
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
  start_keeper (d);
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
  return e->durable != NULL && life_of (e->durable) == DIRTY_MAP_LIVE
           ? atomic_load (&e->durable->id)
           : 0;
}

void
durable_map_flushed (struct export *e, bool soon)
{
  struct durable_map *d = e->durable;

  if (life_of (d) != DIRTY_MAP_LIVE)
    return;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  d->wanted = true;
  d->soon |= soon;
  pthread_cond_broadcast (&d->changed);
}

void
durable_map_get_status (const struct export *e, struct dirty_map_status *s)
{
  struct dirty_map *m = atomic_load (&e->durable->map);

  *s = (struct dirty_map_status){ .life = DIRTY_MAP_NONE };
  if (m != NULL)
    dirty_map_get_status (m, s);
  if (s->life != DIRTY_MAP_LIVE)
    s->life = is_stuck (e->durable) ? DIRTY_MAP_STUCK : DIRTY_MAP_NONE;
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
    map_failed (d, errno, life_of (d) != DIRTY_MAP_STUCK);
}

void
durable_map_void (struct export *e)
{
  struct durable_map *d = e->durable;

  if (life_of (d) == DIRTY_MAP_NONE || void_file (d) == 0)
    return;
  say_stuck (e, errno);
  set_stuck (d, true);
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
    say_none (e, "making", why != NULL ? why : strerror (errno));
    return;
  }
  d->header = *h;
  atomic_store (&d->id, h->id);
  set_stuck (d, false); /* what was there is gone */
  start_keeper (d);
}

void
durable_map_begin (struct export *e, bool resumed)
{
  struct durable_map *d = e->durable;
  struct dirty_map *m = atomic_load (&d->map);
  struct dirty_map_header h = {
    .disk_bytes = e->disk_bytes,
    .chunk_bytes = tracked_chunk (e),
  };
  const bool goes_on = resumed && life_of (d) == DIRTY_MAP_LIVE &&
                       dirty_map_fits (m, h.chunk_bytes);

  if (goes_on)
    h = d->header;
  else
    durable_map_void (e);
  if (!describe (e, &h)) {
    durable_map_void (e);
    say_none (e, "making",
              "what is promised of the destination is longer than 2048 bytes, "
              "or the disk has 2^31 chunks or more");
  }
  else if (goes_on)
    set_header (e, &h);
  else
    begin_anew (e, &h);
}

static void
set_detached (struct export *e, bool detached)
{
  struct durable_map *d = e->durable;
  struct dirty_map_header h;

  if (life_of (d) != DIRTY_MAP_LIVE || d->header.detached == detached)
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

/* Without a flush of the source there are marks too many, that is all. */
static void
close_map (struct export *e)
{
  struct durable_map *d = e->durable;
  struct dirty_map_header h;

  clear_quiet (e, true, true);
  if (life_of (d) != DIRTY_MAP_LIVE)
    return;
  h = d->header;
  h.state = DIRTY_MAP_CLOSED;
  if (dirty_map_file_sync (d->file) == -1)
    nbdkit_debug ("migrate: export \"%s\": syncing %s: %m", e->name,
                  d->file->path);
  else
    set_header (e, &h);
}

void
durable_map_end (struct export *e)
{
  struct durable_map *d = e->durable;

  stop_keeper (d);
  if (life_of (d) == DIRTY_MAP_LIVE)
    close_map (e);
  try_unstick (e);
  if (is_stuck (d))
    say_stuck (e, EIO);
}
