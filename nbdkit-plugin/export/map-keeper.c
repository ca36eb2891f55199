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
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "audit.h"
#include "base/clock.h"
#include "cleanup.h"
#include "durable-map-internal.h"
#include "export.h"
#include "owner.h"

/* The source is flushed for it, which its guests may feel: at most so often,
 * and for at most one part in so many of the time.
 */
#define CLEAR_MS 5000
#define CLEAR_SHARE 20

#define VOID_AGAIN_MS 5000

/* Of the present one. */
enum dirty_map_life
map_life (const struct durable_map *d)
{
  struct dirty_map *m = atomic_load (&d->map);

  return m == NULL ? DIRTY_MAP_NONE : dirty_map_life (m);
}

/* ---- Messages ----------------------------------------------------------- */

void
map_say_stuck (const struct export *e, int error)
{
  nbdkit_error ("migrate: export \"%s\": the dirty map %s holds no more, and "
                "could not be made void: %s: this is tried again, but if "
                "nbdkit ends before it says that it has succeeded, remove "
                "that file before the next start, or a migration could go on "
                "without what guests have written",
                e->name, e->durable->file->path, strerror (error));
}

void
map_say_none (const struct export *e, const char *doing, const char *why)
{
  nbdkit_error ("migrate: export \"%s\": %s the dirty map %s: %s; the guest "
                "and the migration go on, and a restart of nbdkit would mean a "
                "full copy",
                e->name, doing, e->durable->file->path, why);
}

/* ---- The keeper's work: clearing ---------------------------------------- */

/* For tracker_give_quiet. */
static void
clear (void *opaque, uint64_t word, const uint64_t *bits, size_t n)
{
  dirty_map_clear (opaque, word, bits, n);
}

uint64_t
map_tracked_chunk (struct export *e)
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
void
map_clear_quiet (struct export *e, bool touched_too, bool exact)
{
  struct dirty_map *m = atomic_load (&e->durable->map);
  const uint64_t chunk_bytes = map_tracked_chunk (e);

  if (m == NULL || !dirty_map_fits (m, chunk_bytes) || may_be_lost (e) ||
      __atomic_load_n (&e->takes_over, __ATOMIC_ACQUIRE) ||
      !tracker_note_quiet (e->tracker, touched_too))
    return;
  if (source_flush (e) == -1 || may_be_lost (e)) {
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
int
map_void_file (struct durable_map *d)
{
  return map_life (d) == DIRTY_MAP_NONE
           ? dirty_map_file_void (d->file)
           : dirty_map_void (atomic_load (&d->map));
}

bool
map_is_stuck (struct durable_map *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  return d->stuck;
}

void
map_set_stuck (struct durable_map *d, bool stuck)
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

  if (map_void_file (d) == -1 && !owner_record_again (e))
    return -1;
  map_set_stuck (d, false);
  audit_map_void (e, d->file->path);
  return 0;
}

void
map_try_unstick (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  if (map_is_stuck (e->durable))
    unstick (e);
}

/* Of a guest's write. */
void
map_failed (void *opaque, int error, bool voided)
{
  struct durable_map *d = opaque;

  map_say_none (d->export, "writing", strerror (error));
  if (voided)
    return;
  map_say_stuck (d->export, error);
  map_set_stuck (d, true);
}

/* ---- The keeper --------------------------------------------------------- */

/* The lock must be held, and is dropped meanwhile. */
static void
do_clear (struct durable_map *d)
{
  const bool soon = d->soon;
  int64_t begun_ms;

  d->wanted = d->soon = false;
  d->clearing = true;
  pthread_cond_broadcast (&d->changed);
  pthread_mutex_unlock (&d->lock);
  begun_ms = clock_ms ();
  map_clear_quiet (d->export, soon, false);
  pthread_mutex_lock (&d->lock);
  d->clearing = false;
  d->not_until_ms =
    clock_ms () + CLEAR_MS + CLEAR_SHARE * (clock_ms () - begun_ms);
}

/* The same. */
static void
do_look (struct durable_map *d)
{
  const uint64_t asked = d->looks_asked;

  pthread_mutex_unlock (&d->lock);
  source_look (d->export);
  pthread_mutex_lock (&d->lock);
  d->looks_done = asked;
  pthread_cond_broadcast (&d->changed);
}

/* A flush beside the pause would make it longer; after it there may be no map.
 * Nobody has to end this: what shuts the gate ends before the keeper does.
 */
static void
wait_for_gate (struct durable_map *d)
{
  pthread_mutex_unlock (&d->lock);
  tracker_wait_open (d->export->tracker);
  pthread_mutex_lock (&d->lock);
}

static void
do_unstick (struct durable_map *d)
{
  pthread_mutex_unlock (&d->lock);
  map_try_unstick (d->export);
  pthread_mutex_lock (&d->lock);
}

/* Without a flush of the source there are marks too many, that is all. */
static void
do_last (struct durable_map *d)
{
  pthread_mutex_unlock (&d->lock);
  if (map_life (d) == DIRTY_MAP_LIVE)
    map_clear_quiet (d->export, true, true);
  source_let_go (d->export);
  pthread_mutex_lock (&d->lock);
}

/* False: the time has come. */
static bool
wait_until (struct durable_map *d, int64_t ms)
{
  const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

  return pthread_cond_clockwait (&d->changed, &d->lock, CLOCK_MONOTONIC, &ts) !=
         ETIMEDOUT;
}

static void *
keeper_loop (void *opaque)
{
  struct durable_map *d = opaque;
  int64_t unstick_ms = 0;

  pthread_mutex_lock (&d->lock);
  while (!d->stopping) {
    const int64_t now = clock_ms ();

    if (d->looks_done != d->looks_asked)
      do_look (d);
    else if (d->stuck && now >= unstick_ms) {
      do_unstick (d);
      unstick_ms = clock_ms () + VOID_AGAIN_MS;
    }
    else if (d->wanted && (d->soon || now >= d->not_until_ms)) {
      wait_for_gate (d);
      do_clear (d);
    }
    else if (d->stuck)
      wait_until (d, unstick_ms);
    else if (d->wanted)
      wait_until (d, d->not_until_ms);
    else
      pthread_cond_wait (&d->changed, &d->lock);
  }
  if (d->last)
    do_last (d);
  d->ended = true;
  pthread_cond_broadcast (&d->changed);
  pthread_mutex_unlock (&d->lock);
  return NULL;
}

/* Signals are for nbdkit's own threads.  Without it nothing is cleared. */
void
map_keeper_start (struct durable_map *d)
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
stop (struct durable_map *d, bool last)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  d->stopping = true;
  d->last = last;
  pthread_cond_broadcast (&d->changed);
}

static void
join (struct durable_map *d)
{
  if (d->started)
    pthread_join (d->keeper, NULL);
  d->started = false;
}

void
map_keeper_stop (struct durable_map *d)
{
  stop (d, false);
  join (d);
}

void
map_keeper_finish (struct durable_map *d)
{
  stop (d, true);
}

bool
map_keeper_has_ended (struct durable_map *d, int64_t until_ms)
{
  bool ended;

  pthread_mutex_lock (&d->lock);
  while (d->started && !d->ended && wait_until (d, until_ms))
    ;
  ended = !d->started || d->ended;
  pthread_mutex_unlock (&d->lock);
  if (ended)
    join (d);
  return ended;
}
