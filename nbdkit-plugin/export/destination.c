/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "base/config.h"
#include "destination.h"
#include "owed.h"

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

const struct relay_waiter destination_guest = { .alive = is_alive };

struct relay *
destination_connect (struct export *e, const char *uri,
                     const struct relay_waiter *waiter, char **why)
{
  struct relay_options options = RELAY_OPTIONS_DEFAULT;

  nbdkit_debug ("migrate: export \"%s\": connecting to %s", e->name, uri);
  owed_make_room (e);
  options.disk_bytes = e->disk_bytes;
  options.chunk_bytes = e->chunk_bytes;
  options.reconnect_ms = config.reconnect_ms;
  options.notice = notice;
  options.opaque = e;
  options.owed = &e->owed;
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
    relay = destination_connect (e, uri, &destination_guest, &e->connect_why);
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

struct relay *
destination_borrow (struct export *e)
{
  if (e->relay != NULL)
    __atomic_fetch_add (&e->relay_users, 1, __ATOMIC_SEQ_CST);
  return e->relay;
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
