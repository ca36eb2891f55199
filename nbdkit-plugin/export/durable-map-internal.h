/* SPDX-License-Identifier: BSD-3-Clause */
/* The durable map's own: its life is in durable-map.c, which uses the keeper
 * (map-keeper.c), which uses what flushes the source (source-flush.c).
 */

#ifndef NBDMIGRATE_DURABLE_MAP_INTERNAL_H
#define NBDMIGRATE_DURABLE_MAP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "durable-map.h"

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

  /* The keeper's, and after its end that of who ends the map: see
   * source-flush.c.  NULL: there is none.
   */
  nbdkit_next *kept;
  bool was_kept;            /* since the disk is tracked */
  _Atomic bool cannot_keep; /* the plugin opens this export for clients only */

  pthread_mutex_t lock; /* for all that follows */
  pthread_cond_t changed;
  pthread_t keeper;
  bool started, stopping;
  bool last;            /* what can be cleared is, before it stops */
  bool ended;           /* it is about to return */
  bool wanted, soon;    /* clear what can be cleared */
  bool clearing;        /* it is being done, which flushes the source */
  uint64_t looks_asked; /* at the source: the number of the latest */
  uint64_t looks_done;  /* the same, of those that were taken */
  bool stuck;           /* the file has to be made void */
  int64_t not_until_ms; /* of clock_ms: the next clearing */
  uint64_t flush_begun; /* of guests' flushes the number of the latest */
  uint64_t flush_done;  /* the latest begun of those that have succeeded */
  uint64_t seen_failed_flushes; /* at a remote source */
  uint64_t seen_losses;         /* of its server */
};

/* ---- source-flush.c ----------------------------------------------------- */

/* For the keeper, and for who ends the map after it.  Each may take long. */

/* Flush the source; 0: what guests had written to it is durable, and what was
 * read of it before is what it has.
 */
extern int source_flush (struct export *e);

/* See that there is a context that vouches for what is read from now on, and
 * that it still does for what was read before; or that there is none where none
 * is needed.
 */
extern void source_look (struct export *e);

/* Nothing is copied yet of what a remote source may have lost before. */
extern void source_begin (struct export *e);

/* There is none any more. */
extern void source_let_go (struct export *e);

/* Whether guests write to the plugin by contexts of their own, and there can be
 * one more, as far as is known.  For any thread.
 */
extern bool source_may_be_kept (struct export *e);

/* Whether a look can find anything: that, or it is remote.  For any thread. */
extern bool source_may_be_looked_at (struct export *e);

/* ---- map-keeper.c ------------------------------------------------------- */

/* Of the present one. */
extern enum dirty_map_life map_life (const struct durable_map *d);

extern uint64_t map_tracked_chunk (struct export *e);

/* Messages: there is none, or it is stuck. */
extern void map_say_none (const struct export *e, const char *doing,
                          const char *why);
extern void map_say_stuck (const struct export *e, int error);

/* Make the file void.  Nobody but who has the session lock uses the file of a
 * map that is not live.  -1 with errno.
 */
extern int map_void_file (struct durable_map *d);

/* For dirty_map_new, and whoever else finds out. */
extern void map_failed (void *opaque, int error, bool voided);

extern bool map_is_stuck (struct durable_map *d);
extern void map_set_stuck (struct durable_map *d, bool stuck);
extern void map_try_unstick (struct export *e);

/* R14, in this order: quiet, flushed, cleared. */
extern void map_clear_quiet (struct export *e, bool touched_too, bool exact);

/* Without it nothing is cleared. */
extern void map_keeper_start (struct durable_map *d);
extern void map_keeper_stop (struct durable_map *d);

/* The same in two steps: it clears what it can, exactly, and lets the source
 * go; whether it has come to an end by then (of clock_ms).
 */
extern void map_keeper_finish (struct durable_map *d);
extern bool map_keeper_has_ended (struct durable_map *d, int64_t until_ms);

#endif /* NBDMIGRATE_DURABLE_MAP_INTERNAL_H */
