/* SPDX-License-Identifier: BSD-3-Clause */
/* The local place: nbdkit's plugin, and the contexts to use it.
 *
 * With multi-conn each connection has its own context as usual.  Without it two
 * contexts might not see each other's writes, so the migrator's reads could
 * miss what the guest wrote: all connections share one then, which lives until
 * .cleanup.  It may have to be used by one thread at a time.
 *
 * A shared context cannot have an export name before nbdkit 1.43.9, so it is
 * for the default export only.
 *
 * A context may be of no use for good: that of the nbd plugin, once its server
 * was restarted.  Without a shared one, a guest that connects again has a new
 * one and goes on.  So where a call has failed, the next guest that connects
 * makes sure that the shared one still works, or that another takes its place.
 */

#ifndef NBDMIGRATE_LOCAL_H
#define NBDMIGRATE_LOCAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "flushes.h"
#include "local-watch.h"

struct export;

struct local {
  bool is_shared; /* atomic: by all connections; constant once it was used */
  bool serialise; /* constant once there is a shared context */

  /* The shared context: used under the read lock, exchanged under the other.
   * With multi-conn it is there only when a disk moves back to the local place,
   * for connections that have none of their own, or one from before.
   */
  pthread_rwlock_t lock;
  nbdkit_next *shared;
  pthread_mutex_t one; /* with 'serialise' */

  bool has_shared; /* atomic: it is there, and stays */
  bool any_block;  /* atomic, set under the lock: a client has connected that
                      could not be told the plugin's block size */
  int64_t writer;  /* atomic: the process that may write to it (view.h), or 0 */
  bool failed;     /* atomic: a call has, since it was known to work */
  unsigned returns;   /* atomic: how often a way back was prepared */
  unsigned exchanges; /* atomic, set under the lock: of the shared context */
  bool has_extents;   /* atomic: a context has said that it can tell them */

  struct flushes flushes; /* has its own lock */
  struct local_writes writes;

  char *refusal; /* local_refuse; under a lock of its own */
};

extern void local_init (struct local *l);
extern void local_destroy (struct local *l);

/* The model that .get_ready was told, before anything is opened. */
extern void local_set_thread_model (int thread_model);

/* Learn what the plugin says of the export, and open the shared context where
 * one is needed.  Fills e->disk_bytes and e->chunk_bytes.  -1: error
 * (reported).
 */
extern int local_look (struct export *e, nbdkit_backend *backend, int readonly);

/* For a client that connects: see that the shared context works.  -1: it does
 * not, and there is no other (reported).
 */
extern int local_refresh (struct export *e, nbdkit_backend *backend,
                          int readonly);

/* A disk that has left the local place may come back: see that there is a
 * shared context.  -1: error (local_refuse).
 */
extern int local_need_shared (struct export *e, nbdkit_backend *backend,
                              int readonly);

/* Report why the disk cannot come back, and keep it for who asks: a client of
 * an older nbdkit is only told that there is no such export.  The copy is the
 * caller's to free; NULL: it was not refused.
 */
extern void local_refuse (struct export *e, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));
extern char *local_refusal (struct export *e);

/* A context that was opened before this changed may be of no use any more,
 * without anybody having noticed: the disk was elsewhere.
 */
extern unsigned local_returns (const struct local *l);

/* What was written and not flushed before this changed may be lost. */
extern unsigned local_exchanges (const struct local *l);

/* The context for one call, until local_end with the connection's own, or NULL,
 * and with what local_begin gave.  To local_begin 'own' may be NULL although
 * there is one; and a disk that comes back may make them share one meanwhile.
 */
extern nbdkit_next *local_begin (struct local *l, nbdkit_next *own);
extern void local_end (struct local *l, nbdkit_next *own, nbdkit_next *used);

/* Whether the plugin can tell what is allocated, as it has said before: to
 * answer it may have to look through the whole disk (the file plugin on tmpfs),
 * which is too much for each connection.  So a context of its own may not have
 * been asked, as nbdkit wants it to be before its first question:
 * local_ask_extents, which one thread at a time may call for a context.
 */
extern int local_can_extents (struct local *l, nbdkit_next *plugin);
extern int local_ask_extents (struct local *l, nbdkit_next *plugin);

extern bool local_is_shared (const struct local *l);
extern bool local_has_shared (const struct local *l);

/* For a client that connects while the disk is elsewhere, and for its question
 * for the block size.  A plugin that was not asked yet may turn out to serve
 * whole blocks only: it cannot be moved to then.
 */
extern void local_connected_elsewhere (struct local *l);
extern int local_block_size_elsewhere (struct local *l, uint32_t *minimum,
                                       uint32_t *preferred, uint32_t *maximum);

/* A call has failed. */
extern void local_failed (struct local *l);

/* Read a block: whether this context works, which the caller has until after
 * it.  0 or -1.
 */
extern int local_read_some (const struct export *e, nbdkit_next *next);

/* A flush that no guest has asked for, with a context that the caller has until
 * after it; what it may have lost is owed to the guests (R13).  -1 with *err.
 * The caller leaves e->local.flushes, or drops 'entry' from it, when it has let
 * go of the context.  A plugin that cannot flush has nothing to flush.
 */
extern int local_flush_own (struct export *e, nbdkit_next *next,
                            struct flush_entry *entry, int *err);

#endif /* NBDMIGRATE_LOCAL_H */
