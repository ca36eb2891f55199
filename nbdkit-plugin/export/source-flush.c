/* SPDX-License-Identifier: BSD-3-Clause */
/* How the source is flushed before marks are cleared, and what shows that it
 * has not lost what was copied of it (R14).
 *
 * With multi-conn a flush of one connection is about the writes of all, but of
 * one server.  The plugin may be a client of another one (nbdkit's nbd plugin),
 * which crashes, loses what was not flushed, and is there again.  Who connects
 * then flushes with success and reads what was there before, although the
 * destination has what was lost.  So one context is kept, from before the first
 * lease, and flushed each time: as long as it works its server has lived.
 *
 * Once it works no more, nothing shows what became of that which was not
 * flushed by it, and that is what is marked: all of it is dirty again.  So it
 * is when another is opened, which tells of what is read from then on.
 *
 * What connects again without a word, be it a plugin or a filter below this
 * one, hides a loss from everybody, the guests' flushes included.
 *
 * Where there is no multi-conn all use the shared context, which is such a one.
 *
 * A plugin that goes on may have lost something all the same, once a flush of
 * anybody's has failed: of a page that could not be written Linux thinks no
 * more.  What is marked is dirty again then, before anybody is told.
 *
 * A remote source has a log of what it has not flushed (relay/log.h), which is
 * sent again when its server has crashed.  But once a flush has failed there
 * the log is empty, and what it was about may be lost: at once, or in any crash
 * from then on.  No mark is cleared any more (map-keeper.c), so all of it is
 * marked.
 */

#include <stdlib.h>

#include <nbdkit-filter.h>

#include "base/config.h"
#include "base/nbdkit-version.h"
#include "cleanup.h"
#include "durable-map-internal.h"
#include "export.h"
#include "place.h"
#include "relay/relay.h"

#define STEP_WORDS 1024 /* of marks; 65536 chunks */

/* ---- What may be lost --------------------------------------------------- */

static void
dirty_what_is_marked (struct export *e, struct dirty_map *m,
                      uint64_t chunk_bytes)
{
  const uint64_t words = dirty_map_words (e->disk_bytes, chunk_bytes);
  uint64_t marks[STEP_WORDS];

  for (uint64_t word = 0; word < words; word += STEP_WORDS) {
    const uint64_t left = words - word;
    const size_t n = left < STEP_WORDS ? left : STEP_WORDS;

    dirty_map_copy_marks (m, word, n, marks);
    tracker_source_lost (e->tracker, chunk_bytes, word, marks, n);
  }
}

void
durable_map_source_lost (struct export *e)
{
  struct dirty_map *m = atomic_load (&e->durable->map);
  const uint64_t chunk_bytes = map_tracked_chunk (e);

  if (!tracker_is_tracking (e->tracker))
    return;
  if (m != NULL && dirty_map_life (m) == DIRTY_MAP_LIVE &&
      dirty_map_fits (m, chunk_bytes))
    dirty_what_is_marked (e, m, chunk_bytes);
  else
    tracker_distrust (e->tracker); /* nothing tells what was flushed */
}

void
durable_map_flush_failed (struct export *e, bool of_guest)
{
#ifdef PLANT_BUG_failed_source_is_clean
  (void)e;
  (void)of_guest;
#else
  if (!tracker_is_tracking (e->tracker) ||
      tracker_place (e->tracker, OWNER_SOURCE) != PLACE_LOCAL)
    return;
  if (of_guest)
    nbdkit_error ("migrate: export \"%s\": the plugin has failed a flush, and "
                  "may have lost what guests wrote before: that is copied "
                  "again as it is there now",
                  e->name);
  durable_map_source_lost (e);
#endif
}

/* ---- The context that is kept ------------------------------------------- */

static void
close_context (nbdkit_next *next)
{
  next->finalize (next);
  nbdkit_next_context_close (next);
}

static nbdkit_next *
open_context (struct export *e)
{
  nbdkit_next *next =
    nbdkit_next_context_open (e->backend, e->readonly, e->name, true);

  if (next == NULL)
    return NULL;
  if (next->prepare (next) == 0 && next->get_size (next) != -1 &&
      next->can_flush (next) != -1 && local_read_some (e, next) == 0)
    return next;
  close_context (next);
  return NULL;
}

static bool
is_to_be_kept (struct export *e)
{
  return tracker_is_tracking (e->tracker) &&
         tracker_place (e->tracker, OWNER_SOURCE) == PLACE_LOCAL &&
         !local_is_shared (&e->local) && e->backend != NULL &&
         (*e->name == '\0' || NBDKIT_HAS_SHARED_NAMES);
}

bool
source_may_be_kept (struct export *e)
{
  return is_to_be_kept (e) && !atomic_load (&e->durable->cannot_keep);
}

bool
source_may_be_looked_at (struct export *e)
{
  return source_may_be_kept (e) ||
         (tracker_is_tracking (e->tracker) &&
          tracker_place (e->tracker, OWNER_SOURCE) != PLACE_LOCAL);
}

static void
doubt (struct export *e)
{
#ifdef PLANT_BUG_vouch_for_earlier
  (void)e;
#else
  durable_map_source_lost (e);
#endif
}

static void
remote_doubt (struct export *e)
{
#ifdef PLANT_BUG_failed_source_is_clean
  (void)e;
#else
  nbdkit_error (
    "migrate: export \"%s\": the server where the disk is has failed "
    "a flush, and may have lost what guests wrote before: that is "
    "copied again as it is there now",
    e->name);
  durable_map_source_lost (e);
#endif
}

/* R14: what was read before it was there it does not vouch for.  Also nbdkit
 * 1.48.1 tells a plugin the export name in threads of clients only, so that one
 * which asks for it (file with dir=) cannot be opened here.  If it could be,
 * and cannot any more, that is another matter: its server is gone.
 */
static void
keep (struct export *e)
{
  struct durable_map *d = e->durable;

  d->kept = open_context (e);
  if (d->kept != NULL)
    doubt (e);
  d->was_kept |= d->kept != NULL;
  atomic_store (&d->cannot_keep, !d->was_kept && *e->name != '\0');
}

static void
note_loss (struct export *e)
{
  nbdkit_error ("migrate: export \"%s\": the plugin has failed a connection "
                "that was open since the migration began, as when the server "
                "behind it has crashed: what guests wrote and did not flush "
                "may be lost there, and is copied again as it is then",
                e->name);
  doubt (e);
}

/* It may take long. */
static void
exchange (struct export *e)
{
  place_local_lost (e); /* R17 */
  close_context (e->durable->kept);
  keep (e);
}

void
source_let_go (struct export *e)
{
  struct durable_map *d = e->durable;

  if (d->kept != NULL)
    close_context (d->kept);
  d->kept = NULL;
  d->was_kept = false;
  atomic_store (&d->cannot_keep, false);
}

/* False: there is none. */
static bool
get_remote (struct export *e, struct relay_status *s)
{
  const unsigned place = tracker_place (e->tracker, OWNER_SOURCE);
  bool found;

  if (place == PLACE_LOCAL || !place_enter (e, place))
    return false;
  found = e->places[place].relay != NULL;
  if (found)
    relay_get_status (e->places[place].relay, s);
  place_leave (e, place);
  return found;
}

/* Whether its server has failed a flush since the last time, or was lost after
 * one.
 */
static bool
note_remote (struct durable_map *d, const struct relay_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  const bool again =
    s->failed_flushes > 0 && (s->failed_flushes != d->seen_failed_flushes ||
                              s->losses != d->seen_losses);

  d->seen_failed_flushes = s->failed_flushes;
  d->seen_losses = s->losses;
  return again;
}

void
source_begin (struct export *e)
{
  struct relay_status s;

  if (get_remote (e, &s))
    note_remote (e->durable, &s);
}

void
durable_map_look_remote (struct export *e)
{
  struct relay_status s;

  if (tracker_is_tracking (e->tracker) && get_remote (e, &s) &&
      note_remote (e->durable, &s))
    remote_doubt (e);
}

void
source_look (struct export *e)
{
  struct durable_map *d = e->durable;

  durable_map_look_remote (e);
  if (!is_to_be_kept (e))
    source_let_go (e);
  else if (d->kept == NULL)
    keep (e); /* also if it could not: its server may have been away */
  else if (local_read_some (e, d->kept) == -1) {
    note_loss (e);
    exchange (e);
  }
}

/* ---- Flushes ------------------------------------------------------------ */

static int
flush_shared (struct export *e)
{
  struct local *l = &e->local;
  nbdkit_next *next = local_begin (l, NULL);
  struct flush_entry entry;
  int err;

  local_flush_own (e, next, &entry, &err);
  local_end (l, NULL, next);
  return flushes_leave (&l->flushes, &entry);
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

/* A plugin that cannot flush was not asked anything, so that it is read.
 * Guests' flushes wait until this one is left.
 */
static int
flush_kept (struct export *e)
{
  struct durable_map *d = e->durable;
  struct flush_entry entry;
  bool works;
  int r, err;

#ifdef PLANT_BUG_vouch_for_earlier
  source_let_go (e);
#endif
  if (d->kept == NULL)
    keep (e);
  if (d->kept == NULL)
    return source_may_be_kept (e) ? -1 : wait_for_flush (d);
  r = local_flush_own (e, d->kept, &entry, &err);
  works = r == 0 && (d->kept->can_flush (d->kept) == 1 ||
                     local_read_some (e, d->kept) == 0);
  if (!works)
    note_loss (e);
  r = flushes_leave (&e->local.flushes, &entry);
  if (!works)
    exchange (e);
  return works ? r : -1;
}

static int
flush_local (struct export *e)
{
  return local_is_shared (&e->local) ? flush_shared (e)
         : source_may_be_kept (e)    ? flush_kept (e)
                                     : wait_for_flush (e->durable);
}

/* A process that was started again may not have come to where it is yet. */
static int
flush_remote (struct export *e, unsigned place)
{
  struct relay *relay;
  int r = -1;

  if (!place_enter (e, place))
    return -1;
  relay = e->places[place].relay;
  if (relay != NULL)
    r = relay_flush (relay, NULL, NULL);
  place_leave (e, place);
  if (r == -1)
    durable_map_look_remote (e);
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
