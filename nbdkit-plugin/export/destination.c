/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "base/config.h"
#include "destination.h"

static void
notice (void *opaque, const char *text)
{
  const struct export *e = opaque;

  nbdkit_error ("migrate: export \"%s\": %s", e->name, text);
}

/* The guest has gone, or the server is quitting. */
static bool
is_alive (void *opaque)
{
  (void)opaque;
  return nbdkit_nanosleep (0, 0) == 0;
}

static const struct relay_waiter guest_waiter = { .alive = is_alive };

struct relay *
destination_connect (const struct export *e, const char *uri,
                     const struct relay_waiter *waiter, char **why)
{
  struct relay_options options = RELAY_OPTIONS_DEFAULT;

  nbdkit_debug ("migrate: export \"%s\": connecting to %s", e->name, uri);
  options.disk_bytes = e->disk_bytes;
  options.chunk_bytes = e->chunk_bytes;
  options.reconnect_ms = config.reconnect_ms;
  options.notice = notice;
  options.opaque = (void *)e;
  return relay_open (uri, &options, waiter, why);
}

/* The session lock must be held. */
static bool
is_missing (struct export *e)
{
  return e->relay == NULL && tracker_owner (e->tracker) == OWNER_DESTINATION;
}

/* Where to connect to, if that is to be done; the caller frees it.  How many
 * attempts have failed by now goes to '*failures'.
 */
static bool
must_connect (struct export *e, char **uri, uint64_t *failures)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  *uri = NULL;
  *failures = e->connect_failures;
  if (!is_missing (e))
    return false;
  if (e->session.destination != NULL)
    *uri = strdup (e->session.destination);
  return true;
}

/* Take it, unless the operator was faster (command_reopen).  False: there is
 * still none.
 */
static bool
install (struct export *e, struct relay *relay, const char *uri)
{
  struct relay *unused = relay;
  bool ok;

  pthread_mutex_lock (&e->session.lock);
  if (relay != NULL && is_missing (e) &&
      strcmp (uri, e->session.destination) == 0) {
    e->relay = relay;
    unused = NULL;
  }
  ok = !is_missing (e);
  if (!ok && is_alive (NULL)) /* one who gave up speaks for nobody else */
    e->connect_failures++;
  pthread_mutex_unlock (&e->session.lock);
  if (unused != NULL)
    relay_close (unused);
  return ok;
}

/* One attempt.  The connect lock must be held. */
static int
try_to_connect (struct export *e, const char *uri)
{
  struct relay *relay = NULL;

  free (e->connect_why);
  e->connect_why = NULL;
  if (uri != NULL)
    relay = destination_connect (e, uri, &guest_waiter, &e->connect_why);
  return install (e, relay, uri) ? 0 : -1;
}

int
destination_require (struct export *e)
{
  CLEANUP_FREE char *uri_before = NULL, *uri = NULL;
  uint64_t failures_before, failures;

  if (!must_connect (e, &uri_before, &failures_before))
    return 0;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->connect_lock);
  if (!must_connect (e, &uri, &failures))
    return 0; /* another client was faster */
  if (failures == failures_before && try_to_connect (e, uri) == 0)
    return 0;
  nbdkit_error ("migrate: export \"%s\" was pivoted to %s, which cannot be "
                "reached: %s; clients are refused until it can, or until "
                "'nbdmigrate reopen %s destination=URI' "
                "tells where it is now",
                e->name, uri ? uri : "?",
                e->connect_why ? e->connect_why : "no memory", config.dir);
  return -1;
}

/* Whoever enters counts first and looks at the owner then; here it is the
 * other way round.  So one of the two sees the other.
 */
bool
destination_enter (struct export *e)
{
  __atomic_fetch_add (&e->relay_users, 1, __ATOMIC_SEQ_CST);
  if (tracker_owner (e->tracker) == OWNER_DESTINATION)
    return true;
  destination_leave (e);
  return false;
}

void
destination_leave (struct export *e)
{
  __atomic_fetch_sub (&e->relay_users, 1, __ATOMIC_SEQ_CST);
}

void
destination_close (struct export *e)
{
  const struct timespec moment = { .tv_nsec = 1000000 };

  if (e->relay == NULL)
    return;
  relay_stop (e->relay);
  while (__atomic_load_n (&e->relay_users, __ATOMIC_SEQ_CST) > 0)
    nanosleep (&moment, NULL);
  relay_close (e->relay);
  e->relay = NULL;
}

/* ---- Requests ---------------------------------------------------------- */

static int
answer (int r, int *err)
{
  if (r == -1)
    *err = errno;
  return r;
}

static unsigned
relay_flags (uint32_t flags)
{
  return flags & NBDKIT_FLAG_FUA ? RELAY_FUA : 0;
}

int
destination_pread (struct handle *h, void *buf, uint32_t count, uint64_t offset,
                   int *err)
{
  return answer (
    relay_read (h->export->relay, buf, count, offset, &guest_waiter), err);
}

int
destination_pwrite (struct handle *h, const void *buf, uint32_t count,
                    uint64_t offset, uint32_t flags, int *err)
{
  return answer (relay_write (h->export->relay, buf, count, offset,
                              relay_flags (flags), &guest_waiter),
                 err);
}

int
destination_zero (struct handle *h, uint32_t count, uint64_t offset,
                  uint32_t flags, int *err)
{
  unsigned rf = relay_flags (flags);

  if (!(flags & NBDKIT_FLAG_MAY_TRIM))
    rf |= RELAY_NO_HOLE;
  if (flags & NBDKIT_FLAG_FAST_ZERO)
    rf |= RELAY_FAST_ZERO;
  return answer (
    relay_zero (h->export->relay, count, offset, rf, &guest_waiter), err);
}

int
destination_trim (struct handle *h, uint32_t count, uint64_t offset,
                  uint32_t flags, int *err)
{
  return answer (relay_trim (h->export->relay, count, offset,
                             relay_flags (flags), &guest_waiter),
                 err);
}

/* Several flushes of one connection may run at once: each works on a copy of
 * what the connection has seen, and all of them fail if it is out of date.
 */
int
destination_flush (struct handle *h, int *err)
{
  uint64_t seen = __atomic_load_n (&h->errors_seen, __ATOMIC_SEQ_CST);
  const int r =
    answer (relay_flush (h->export->relay, &seen, &guest_waiter), err);

  __atomic_store_n (&h->errors_seen, seen, __ATOMIC_SEQ_CST);
  return r;
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  /* The bits are those of base:allocation, as nbdkit's own. */
  return nbdkit_add_extent (opaque, offset, length, flags) == -1 ? errno : 0;
}

int
destination_extents (struct handle *h, uint32_t count, uint64_t offset,
                     struct nbdkit_extents *extents, int *err)
{
  return answer (relay_block_status (h->export->relay, count, offset,
                                     add_extent, extents, &guest_waiter),
                 err);
}

int
destination_cache (struct handle *h, uint32_t count, uint64_t offset, int *err)
{
  return answer (relay_cache (h->export->relay, count, offset, &guest_waiter),
                 err);
}
