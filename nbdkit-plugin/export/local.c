/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/nbdkit-version.h"
#include "cleanup.h"
#include "durable-map.h"
#include "export.h"
#include "local.h"
#include "nbd-limits.h"
#include "owed.h"
#include "place.h"

#define PROBE_BYTES 512 /* or a block */

/* How long an exchange waits for calls of the old context to end. */
#define EXCHANGE_S 2

static bool serialise_requests;

void
local_set_thread_model (int thread_model)
{
  serialise_requests = thread_model < NBDKIT_THREAD_MODEL_PARALLEL;
}

void
local_init (struct local *l)
{
  *l = (struct local){ .is_shared = false };
  pthread_rwlock_init (&l->lock, NULL);
  pthread_mutex_init (&l->one, NULL);
  flushes_init (&l->flushes);
  l->writes.began_ms[0] = clock_ms (); /* the watcher may be awake */
}

/* ---- Contexts ------------------------------------------------------------ */

static nbdkit_next *
context_open (nbdkit_backend *backend, int readonly, const char *name,
              int shared)
{
  nbdkit_next *next =
    nbdkit_next_context_open (backend, readonly, name, shared);

  if (next && next->prepare (next) == -1) {
    nbdkit_next_context_close (next);
    return NULL;
  }
  return next;
}

static void
context_close (nbdkit_next *next)
{
  next->finalize (next);
  nbdkit_next_context_close (next);
}

/* nbdkit keeps the answers to these in the context: when it is shared, that
 * must have happened before two threads ask.
 */
static int
context_ask_all (nbdkit_next *next)
{
  uint32_t minimum, preferred, maximum;

  if (next->get_size (next) == -1 || next->can_write (next) == -1 ||
      next->can_flush (next) == -1 || next->is_rotational (next) == -1 ||
      next->can_trim (next) == -1 || next->can_zero (next) == -1 ||
      next->can_fast_zero (next) == -1 || next->can_extents (next) == -1 ||
      next->can_fua (next) == -1 || next->can_multi_conn (next) == -1 ||
      next->can_cache (next) == -1 ||
      next->block_size (next, &minimum, &preferred, &maximum) == -1)
    return -1;
  return 0;
}

/* One to be shared.  NULL: error (reported). */
static nbdkit_next *
open_shared (struct export *e, nbdkit_backend *backend, int readonly)
{
  nbdkit_next *next = context_open (backend, readonly, e->name, 1);

  if (next && context_ask_all (next) == -1) {
    context_close (next);
    return NULL;
  }
  return next;
}

static int
share (struct export *e, nbdkit_backend *backend, int readonly)
{
  struct local *l = &e->local;

  if (!NBDKIT_HAS_SHARED_NAMES && *e->name != '\0') {
    nbdkit_error ("migrate: export \"%s\": the plugin offers no multi-conn, "
                  "and this version of nbdkit (" NBDKIT_VERSION_STRING
                  ") can then serve the default export only",
                  e->name);
    return -1;
  }
  nbdkit_debug ("migrate: export \"%s\": no multi-conn, all connections share "
                "one context",
                e->name);
  l->is_shared = true;
  l->serialise = serialise_requests;
  l->shared = open_shared (e, backend, readonly);
  l->has_shared = l->shared != NULL;
  return l->shared ? 0 : -1;
}

/* Whole chunks are read, so none is smaller than what can be. */
static uint64_t
chunk_bytes (const struct export *e, uint64_t disk_bytes, uint32_t minimum)
{
  const uint64_t chunk = config_chunk_bytes (disk_bytes);

  if (minimum <= chunk)
    return chunk;
  nbdkit_debug ("migrate: export \"%s\": the plugin serves whole blocks of "
                "%" PRIu32 " bytes: so long is a chunk, instead of %" PRIu64,
                e->name, minimum, chunk);
  return minimum;
}

int
local_look (struct export *e, nbdkit_backend *backend, int readonly)
{
  nbdkit_next *next = context_open (backend, readonly, e->name, 0);
  uint32_t minimum = 0, preferred, maximum;
  int64_t size;
  int multi_conn, r;

  if (next == NULL)
    return -1;
  size = next->get_size (next);
  multi_conn = next->can_multi_conn (next);
  r = next->block_size (next, &minimum, &preferred, &maximum);
  context_close (next);
  if (size == -1 || multi_conn == -1 || r == -1)
    return -1;
  e->disk_bytes = size;
  e->chunk_bytes = chunk_bytes (e, size, minimum);
  return multi_conn ? 0 : share (e, backend, readonly);
}

void
local_destroy (struct local *l)
{
  if (l->shared)
    context_close (l->shared);
  free (l->refusal);
  flushes_destroy (&l->flushes);
  pthread_mutex_destroy (&l->one);
  pthread_rwlock_destroy (&l->lock);
}

/* ---- Calls --------------------------------------------------------------- */

bool
local_is_shared (const struct local *l)
{
  return __atomic_load_n (&l->is_shared, __ATOMIC_ACQUIRE);
}

bool
local_has_shared (const struct local *l)
{
  return __atomic_load_n (&l->has_shared, __ATOMIC_ACQUIRE);
}

unsigned
local_returns (const struct local *l)
{
  return __atomic_load_n (&l->returns, __ATOMIC_ACQUIRE);
}

unsigned
local_exchanges (const struct local *l)
{
  return __atomic_load_n (&l->exchanges, __ATOMIC_SEQ_CST);
}

nbdkit_next *
local_begin (struct local *l, nbdkit_next *own)
{
  if (own != NULL && !local_is_shared (l))
    return own;
  pthread_rwlock_rdlock (&l->lock);
  if (l->serialise)
    pthread_mutex_lock (&l->one);
  return l->shared;
}

void
local_end (struct local *l, nbdkit_next *own, nbdkit_next *used)
{
  if (used == own)
    return;
  if (l->serialise)
    pthread_mutex_unlock (&l->one);
  pthread_rwlock_unlock (&l->lock);
}

int
local_ask_extents (struct local *l, nbdkit_next *plugin)
{
  const int r = plugin->can_extents (plugin);

  if (r == 1)
    __atomic_store_n (&l->has_extents, true, __ATOMIC_RELAXED);
  return r;
}

int
local_can_extents (struct local *l, nbdkit_next *plugin)
{
  return __atomic_load_n (&l->has_extents, __ATOMIC_RELAXED)
           ? 1
           : local_ask_extents (l, plugin);
}

void
local_failed (struct local *l)
{
  if (local_has_shared (l))
    __atomic_store_n (&l->failed, true, __ATOMIC_RELAXED);
}

/* The error is told once by what is below, and not to the guest. */
int
local_flush_own (struct export *e, nbdkit_next *next, struct flush_entry *entry,
                 int *err)
{
  struct local *l = &e->local;
  int r = 0;

  *err = EIO;
  flushes_enter (&l->flushes, entry, FLUSH_OWN);
  if (next->can_flush (next) == 1)
    r = next->flush (next, 0, err);
  if (r == -1)
    local_failed (l);
  if (flushes_answered (&l->flushes, entry, r)) { /* before it is left */
    owed_error_raise (&e->owed, NULL);
#ifndef PLANT_BUG_exchange_keeps_clean
    durable_map_flush_failed (e, false);
#endif
  }
  return r;
}

int
local_read_some (const struct export *e, nbdkit_next *next)
{
  uint32_t minimum, preferred, maximum, count = PROBE_BYTES;
  char buf[NBD_MINIMUM_MAX]; /* of the stack: a lack of memory is no failure */
  int err = 0;

  if (next->block_size (next, &minimum, &preferred, &maximum) == -1)
    return -1;
  if (count < minimum)
    count = minimum;
  if (count > e->disk_bytes)
    count = e->disk_bytes;
  if (count > sizeof buf)
    return -1;
  return count == 0 ? 0 : next->pread (next, buf, count, 0, 0, &err);
}

/* ---- Clients that connect while the disk is elsewhere -------------------- */

void
local_connected_elsewhere (struct local *l)
{
  pthread_rwlock_rdlock (&l->lock);
  if (l->shared == NULL)
    __atomic_store_n (&l->any_block, true, __ATOMIC_RELAXED);
  pthread_rwlock_unlock (&l->lock);
}

/* No request is too long: they are cut (side-local.c). */
int
local_block_size_elsewhere (struct local *l, uint32_t *minimum,
                            uint32_t *preferred, uint32_t *maximum)
{
  int r = 0;

  *minimum = 0;
  pthread_rwlock_rdlock (&l->lock);
  if (l->shared != NULL)
    r = l->shared->block_size (l->shared, minimum, preferred, maximum);
  pthread_rwlock_unlock (&l->lock);
  if (r == 0 && *minimum == 0) {
    *minimum = 1;
    *preferred = 4096;
  }
  *maximum = UINT32_MAX;
  return r;
}

/* ---- Exchanging the shared one ------------------------------------------- */

static bool
still_works (struct export *e)
{
  nbdkit_next *next = local_begin (&e->local, NULL);
  const int r = local_read_some (e, next);

  local_end (&e->local, NULL, next);
  return r == 0;
}

/* R13, R14: what was written through the old context may be lost.  If a flush
 * of the filter's has found that out guests are owed the error already, but
 * what was copied is not dirty again yet.
 */
static void
note_exchange (struct export *e)
{
  const bool lost = flushes_lose (&e->local.flushes);

  if (place_has_left_local (e))
    return;
  place_local_lost (e); /* R17 */
  if (lost)
    owed_error_raise (&e->owed, NULL);
#ifndef PLANT_BUG_exchange_keeps_clean
  if (lost || flushes_have_failed (&e->local.flushes))
    durable_map_source_lost (e);
#endif
}

/* The connections go on with this one.  -1: something still uses the other. */
static int
exchange (struct export *e, nbdkit_next *next)
{
  struct local *l = &e->local;
  struct timespec until;
  nbdkit_next *old;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += EXCHANGE_S;
  if (pthread_rwlock_clockwrlock (&l->lock, CLOCK_MONOTONIC, &until) != 0)
    return -1;
  old = l->shared;
  l->shared = next;
  __atomic_fetch_add (&l->exchanges, 1, __ATOMIC_SEQ_CST);
  __atomic_store_n (&l->failed, false, __ATOMIC_RELAXED);
  note_exchange (e);
  pthread_rwlock_unlock (&l->lock);
  context_close (old);
  return 0;
}

/* nbdkit aborts if it is asked for what it cannot, and that is what clients
 * were offered by the old one.  The local side (filter/side-local.c) makes up
 * for the rest.
 */
static bool
lacks_something (nbdkit_next *next, nbdkit_next *old)
{
  return next->can_write (next) < old->can_write (old) ||
         next->can_flush (next) < old->can_flush (old);
}

/* Held while one is being exchanged: clients that come at once need one only.
 */
static pthread_mutex_t refresh_lock = PTHREAD_MUTEX_INITIALIZER;

int
local_refresh (struct export *e, nbdkit_backend *backend, int readonly)
{
  struct local *l = &e->local;
  nbdkit_next *next;
  int64_t size;

  if (!local_has_shared (l) || !__atomic_load_n (&l->failed, __ATOMIC_RELAXED))
    return 0;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&refresh_lock);
  if (!__atomic_load_n (&l->failed, __ATOMIC_RELAXED))
    return 0;
  if (still_works (e)) {
    __atomic_store_n (&l->failed, false, __ATOMIC_RELAXED);
    return 0;
  }
  nbdkit_debug ("migrate: export \"%s\": the shared context fails, opening "
                "another",
                e->name);
  next = open_shared (e, backend, readonly);
  if (next == NULL)
    return -1;
  if (lacks_something (next, l->shared)) {
    nbdkit_error ("migrate: export \"%s\": the plugin cannot be written to or "
                  "flushed any more; restart nbdkit",
                  e->name);
    context_close (next);
    return -1;
  }
  size = next->get_size (next);
  if (size == (int64_t)e->disk_bytes && exchange (e, next) == 0) {
    owed_error_settle (&e->owed);
    return 0;
  }
  context_close (next);
  if (size != (int64_t)e->disk_bytes)
    nbdkit_error ("migrate: export \"%s\": its size was %" PRIu64 " bytes and "
                  "is %" PRIi64 " now; restart nbdkit",
                  e->name, e->disk_bytes, size);
  else
    nbdkit_error ("migrate: export \"%s\": the plugin fails, and requests to "
                  "it have not ended: connect again, or restart nbdkit",
                  e->name);
  return -1;
}

/* ---- For a disk that comes back ------------------------------------------ */

static pthread_mutex_t refusal_lock = PTHREAD_MUTEX_INITIALIZER;

static void
set_refusal (struct local *l, char *text)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&refusal_lock);

  free (l->refusal);
  l->refusal = text;
}

void
local_refuse (struct export *e, const char *fmt, ...)
{
  char *text;
  va_list args;

  va_start (args, fmt);
  if (vasprintf (&text, fmt, args) == -1)
    text = NULL;
  va_end (args);
  nbdkit_error ("migrate: export \"%s\": the disk cannot come back to the "
                "local image: %s",
                e->name, text ? text : "no memory");
  set_refusal (&e->local, text);
}

char *
local_refusal (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&refusal_lock);

  return e->local.refusal ? strdup (e->local.refusal) : NULL;
}

/* Guests that have connected meanwhile were offered to write and to flush. */
static int
check_can_return (struct export *e, nbdkit_next *next)
{
  if (next->can_write (next) == 1 && next->can_flush (next) == 1)
    return 0;
  local_refuse (e, next->can_write (next) == 1
                     ? "the plugin cannot flush it"
                     : "it is read-only; start nbdkit so that it can be "
                       "written to");
  return -1;
}

/* The lock must be held: nobody connects. */
static int
check_blocks (struct export *e, nbdkit_next *next)
{
  uint32_t minimum, preferred, maximum;

  if (!__atomic_load_n (&e->local.any_block, __ATOMIC_RELAXED))
    return 0;
  if (next->block_size (next, &minimum, &preferred, &maximum) == -1)
    return -1;
  if (minimum <= 1)
    return 0;
  local_refuse (e,
                "the plugin serves whole blocks of %" PRIu32 " bytes only, and "
                "clients have connected that could not be told: put nbdkit's "
                "blocksize filter between the migrate filter and the plugin",
                minimum);
  return -1;
}

/* The plugin may never have been asked: the disk was elsewhere when this nbdkit
 * started.
 */
static int
adopt_shared (struct export *e, nbdkit_next *next)
{
  struct local *l = &e->local;
  const int64_t size = next->get_size (next);

  if (size != (int64_t)e->disk_bytes) {
    local_refuse (e,
                  "it has %" PRIi64 " bytes and the disk %" PRIu64
                  ": give it that size, and start nbdkit again",
                  size, e->disk_bytes);
    return -1;
  }
  if (check_can_return (e, next) == -1)
    return -1;
  pthread_rwlock_wrlock (&l->lock);
  if (check_blocks (e, next) == -1) {
    pthread_rwlock_unlock (&l->lock);
    return -1;
  }
  l->serialise = serialise_requests;
  l->shared = next;
  if (next->can_multi_conn (next) != 1)
    __atomic_store_n (&l->is_shared, true, __ATOMIC_RELEASE);
  __atomic_store_n (&l->has_shared, true, __ATOMIC_RELEASE);
  pthread_rwlock_unlock (&l->lock);
  return 0;
}

static int
need_shared (struct export *e, nbdkit_backend *backend, int readonly)
{
  nbdkit_next *next;

  if (!local_has_shared (&e->local)) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&refresh_lock);

    if (local_has_shared (&e->local))
      return 0;
    next = open_shared (e, backend, readonly);
    if (next == NULL)
      return -1;
    if (adopt_shared (e, next) == 0) {
      if (e->backend == NULL) { /* nobody uses it while the disk is elsewhere */
        e->backend = backend;
        e->readonly = readonly;
      }
      return 0;
    }
    context_close (next);
    return -1;
  }
  local_failed (&e->local); /* as long as it was not used nobody knows */
  if (local_refresh (e, backend, readonly) == -1)
    return -1;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&refresh_lock); /* nobody exchanges it */
  return check_can_return (e, e->local.shared);
}

int
local_need_shared (struct export *e, nbdkit_backend *backend, int readonly)
{
  CLEANUP_FREE char *refusal = NULL;

  set_refusal (&e->local, NULL);
  if (need_shared (e, backend, readonly) == 0) {
    __atomic_fetch_add (&e->local.returns, 1, __ATOMIC_ACQ_REL);
    return 0;
  }
  refusal = local_refusal (e);
  if (refusal == NULL)
    local_refuse (e, "the plugin does not open it; nbdkit's own messages say "
                     "why");
  return -1;
}
