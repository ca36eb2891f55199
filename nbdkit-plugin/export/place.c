/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/notice.h"
#include "durable-map.h"
#include "kept.h"
#include "local-watch.h"
#include "owed.h"
#include "owner.h"
#include "place.h"

static void
tell (void *opaque, bool good, const char *text)
{
  const struct export *e = opaque;

  if (good)
    notice ("migrate: export \"%s\": %s", e->name, text);
  else
    nbdkit_error ("migrate: export \"%s\": %s", e->name, text);
}

/* Whoever has the session lock may be about to close this relay. */
static bool
delayed (void *opaque, uint64_t ms)
{
  struct export *e = opaque;
  bool done;

  if (pthread_mutex_trylock (&e->session.lock) != 0)
    return false;
  done = owner_update_delay (e);
  pthread_mutex_unlock (&e->session.lock);
  if (done)
    nbdkit_debug ("migrate: export \"%s\": its server took %" PRIu64
                  " ms for a request",
                  e->name, ms);
  return done;
}

/* The guest has gone, or the server is quitting. */
static bool
is_alive (void *opaque)
{
  (void)opaque;
  return nbdkit_nanosleep (0, 0) == 0;
}

const struct relay_waiter place_guest = { .alive = is_alive };

void
place_guest_heard (struct export *e, uint64_t seen)
{
  if (is_alive (NULL))
    owed_error_heard (&e->owed, seen);
}

static struct relay_options
options_for (struct export *e, const char *uri)
{
  struct relay_options options = RELAY_OPTIONS_DEFAULT;

  nbdkit_debug ("migrate: export \"%s\": connecting to %s", e->name, uri);
  owed_make_room (e);
  options.disk_bytes = e->disk_bytes;
  options.reconnect_ms = config.reconnect_ms;
  options.request_limit_ms = config.request_timeout_ms;
  options.unheard_ms = config.network_timeout_ms;
  options.require_tls = config.require_tls;
  options.notice = tell;
  options.delayed = delayed;
  options.opaque = e;
  options.owed = &e->owed;
  return options;
}

struct relay *
place_connect (struct export *e, const char *uri,
               const struct relay_waiter *waiter, char **why)
{
  const struct relay_options options = options_for (e, uri);

  return kept_is_nothing (e, why) ? relay_open (uri, &options, waiter, why)
                                  : NULL;
}

/* The disk is in one of the two places; nobody may know in which. */
static unsigned
delay_here_ms (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  const enum owner owner = tracker_owner (e->tracker);
  uint64_t ms = 0, source_ms = 0;

  if (owner == OWNER_DESTINATION || owner == OWNER_UNKNOWN)
    ms = place_delay_ms (e, OWNER_DESTINATION);
  if (owner != OWNER_DESTINATION)
    source_ms = place_delay_ms (e, OWNER_SOURCE);
  if (source_ms > ms)
    ms = source_ms;
  return ms < UINT_MAX ? ms : UINT_MAX;
}

struct relay *
place_resume (struct export *e, const char *uri,
              const struct relay_waiter *waiter, char **why)
{
  struct relay_options options = options_for (e, uri);
  struct relay *relay;
  struct kept_rest k;

  options.delay_ms = delay_here_ms (e);
  if (kept_load (e, uri, &k, &options, why) == -1)
    return NULL;
  options.takes_over = e->unclean_ms != 0 || k.rest.grace_ms > 0; /* R17 */
  options.failed_before = owed_error_count (&e->owed) > 0;
  if (options.takes_over) {
    pthread_mutex_lock (&e->places_lock);
    __atomic_store_n (&e->local_late_until_ms, 0, __ATOMIC_RELEASE);
    __atomic_store_n (&e->takes_over, true, __ATOMIC_RELEASE);
    pthread_mutex_unlock (&e->places_lock);
    nbdkit_debug (
      "migrate: export \"%s\": what was sent to %s before may still "
      "land",
      e->name, uri);
  }
  relay = relay_open (uri, &options, waiter, why);
  kept_free (&k);
  return relay;
}

/* ---- Which --------------------------------------------------------------- */

bool
place_is_remote (struct export *e)
{
  struct route route;

  return tracker_route (e->tracker, &route) && route.place != PLACE_LOCAL;
}

bool
place_has_left_local (struct export *e)
{
  struct route back;

  return place_is_remote (e) &&
         !(tracker_fallback (e->tracker, &back) && back.place == PLACE_LOCAL);
}

static struct relay *
relay_to (struct export *e, unsigned place)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  return e->places[place].relay;
}

struct relay *
place_relay (struct export *e)
{
  struct route route;

  return tracker_route (e->tracker, &route) ? relay_to (e, route.place) : NULL;
}

void
place_set (struct export *e, unsigned place, struct relay *relay)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  e->places[place].relay = relay;
}

void
place_stop_all (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  for (unsigned i = 0; i < PLACES; i++)
    if (e->places[i].relay != NULL)
      relay_stop (e->places[i].relay);
}

const char *
place_uri (struct export *e)
{
  return tracker_owner (e->tracker) == OWNER_DESTINATION
           ? e->session.destination
           : e->session.source;
}

static bool
is_local (struct export *e, enum owner role)
{
  return tracker_place (e->tracker, role) == PLACE_LOCAL;
}

static bool
needs_local (struct export *e, enum owner owner)
{
  const bool may_change =
    __atomic_load_n (&e->session.client, __ATOMIC_ACQUIRE) != NULL;

  switch (owner) {
  case OWNER_SOURCE:
    return is_local (e, OWNER_SOURCE) ||
           (may_change && is_local (e, OWNER_DESTINATION));
  case OWNER_DESTINATION:
    return is_local (e, OWNER_DESTINATION) ||
           (may_change && is_local (e, OWNER_SOURCE));
  case OWNER_FENCED:
    return is_local (e, OWNER_SOURCE);
  case OWNER_UNKNOWN:
    break;
  }
  return true;
}

/* It may change meanwhile. */
bool
place_needs_local (struct export *e)
{
  enum owner owner = tracker_owner (e->tracker), before;
  bool r;

  do {
    before = owner;
    r = needs_local (e, before);
    owner = tracker_owner (e->tracker);
  } while (owner != before);
  return r;
}

struct relay *
place_destination (struct export *e)
{
  return e->places[tracker_place (e->tracker, OWNER_DESTINATION)].relay;
}

static uint64_t
seen_delay_ms (struct export *e, unsigned place)
{
  struct relay_status r = { .longest_answer_ms = 0 };

  if (place == PLACE_LOCAL)
    return local_watch_longest_ms (e);
  if (e->places[place].relay != NULL)
    relay_get_status (e->places[place].relay, &r);
  return r.longest_answer_ms;
}

uint64_t
place_delay_ms (struct export *e, enum owner role)
{
  const uint64_t seen_ms = seen_delay_ms (e, tracker_place (e->tracker, role));
  uint64_t ms = e->session.source_delay_ms;
  struct tracker_status t;

  if (role == OWNER_DESTINATION) {
    tracker_get_status (e->tracker, &t);
    ms = t.delay_ms;
  }
  return seen_ms > ms ? seen_ms : ms;
}

/* ---- What a process before this one has sent (R17) ----------------------- */

/* The plugin was looked at just now, so that a server behind it goes on; and
 * whether there is one, nothing tells.
 */
void
place_take_over_local (struct export *e)
{
  const enum owner role = tracker_owner (e->tracker) == OWNER_DESTINATION
                            ? OWNER_DESTINATION
                            : OWNER_SOURCE;
  uint64_t delay_ms;

  if (!is_local (e, role))
    return;
  delay_ms = place_delay_ms (e, role);
  e->local.writes.told_ms = delay_ms;
  if (e->unclean_ms == 0)
    return;
  e->local_late_until_ms = clock_ms () + quarantine_grace_ms (delay_ms);
  e->takes_over = true;
}

/* 'until_ms' may be over. */
static void
note_local_late (struct export *e, int64_t until_ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  if (until_ms <= clock_ms ())
    return;
  if (until_ms > e->local_late_until_ms)
    __atomic_store_n (&e->local_late_until_ms, until_ms, __ATOMIC_RELEASE);
  __atomic_store_n (&e->takes_over, true, __ATOMIC_RELEASE);
}

void
place_local_lost (struct export *e)
{
  note_local_late (e, local_watch_late_until_ms (e, true));
}

void
place_local_begins (struct export *e)
{
  if (is_local (e, OWNER_SOURCE))
    note_local_late (e, local_watch_late_until_ms (e, false));
}

uint64_t
place_local_late_ms (const struct export *e)
{
  const int64_t left =
    __atomic_load_n (&e->local_late_until_ms, __ATOMIC_ACQUIRE) - clock_ms ();

  return left > 0 ? left : 0;
}

static bool
is_about_local (const struct export *e)
{
  return __atomic_load_n (&e->local_late_until_ms, __ATOMIC_ACQUIRE) != 0;
}

/* Of a remote place its relay knows; until there is one, nobody. */
static uint64_t
late_before_ms (struct export *e)
{
  struct relay *relay = place_relay (e);

  return is_about_local (e) ? place_local_late_ms (e)
         : relay != NULL    ? relay_late_ms (relay)
                            : 1;
}

/* False: a connection of the plugin's was lost meanwhile. */
static bool
end_takeover (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  if (is_about_local (e) && place_local_late_ms (e) > 0)
    return false;
  __atomic_store_n (&e->takes_over, false, __ATOMIC_RELEASE);
  return true;
}

/* Reads do not wait for it, and no request of this process tells of it: a chunk
 * may have been copied before it landed.  It is where there is a mark, and none
 * is cleared until then (map-keeper.c).
 */
bool
place_takes_over (struct export *e)
{
  if (!__atomic_load_n (&e->takes_over, __ATOMIC_ACQUIRE))
    return false;
  if (!is_about_local (e) && tracker_owner (e->tracker) == OWNER_SOURCE &&
      is_local (e, OWNER_SOURCE)) {
    /* Whoever said that the disk is there has said now that it is not. */
    __atomic_store_n (&e->takes_over, false, __ATOMIC_RELEASE);
    return false;
  }
  if (late_before_ms (e) > 0)
    return true;
#ifndef PLANT_BUG_late_source_is_clean
  durable_map_source_lost (e);
#endif
  return !end_takeover (e);
}

uint64_t
place_settle_ms (struct export *e)
{
  const uint64_t ms = place_takes_over (e) ? late_before_ms (e) : 0;

  return ms < PLACE_QUIET_MAX_MS ? ms : PLACE_QUIET_MAX_MS;
}

uint64_t
place_late_ms (struct export *e)
{
  const bool local = is_local (e, OWNER_SOURCE);
  struct relay *relay = relay_to (e, tracker_place (e->tracker, OWNER_SOURCE));
  uint64_t ms;

  if (local ? !is_about_local (e) : relay == NULL)
    return 0;
  ms = local ? place_local_late_ms (e) : relay_late_ms (relay);
  return ms == 0 && place_takes_over (e) ? 1 : ms;
}

unsigned
place_free (struct export *e)
{
  return tracker_place (e->tracker, OWNER_SOURCE) == 1 ? 2 : 1;
}

/* ---- Connecting ---------------------------------------------------------- */

static bool
is_missing (struct export *e)
{
  return place_is_remote (e) && place_relay (e) == NULL;
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
  if (place_uri (e) != NULL)
    *uri = strdup (place_uri (e));
  return true;
}

/* Take it, unless the operator was faster (command_reopen).  False: there is
 * still none.
 */
static bool
install (struct export *e, struct relay *relay, const char *uri)
{
  struct relay *unused = relay;
  struct route route;
  bool ok;

  pthread_mutex_lock (&e->session.lock);
  if (relay != NULL && is_missing (e) && strcmp (uri, place_uri (e)) == 0 &&
      tracker_route (e->tracker, &route)) {
    place_set (e, route.place, relay);
    relay_unhold (relay, true);
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
    relay = place_resume (e, uri, &place_guest, &e->connect_why);
  return install (e, relay, uri) ? 0 : -1;
}

int
place_require (struct export *e)
{
  CLEANUP_FREE char *uri_before = NULL, *uri = NULL;
  uint64_t failures_before, failures;

  if (!is_missing (e) || !must_connect (e, &uri_before, &failures_before))
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
  /* The last one is what a client is told (nbdkit 1.42): no URI, no path. */
  nbdkit_error ("migrate: export \"%s\" is not served now: its disk is on "
                "another server, which the proxy cannot reach; the proxy's log "
                "says more",
                e->name);
  return -1;
}

/* ---- Using --------------------------------------------------------------- */

static bool
is_in_use (struct export *e, unsigned place)
{
  struct route route;

  return (tracker_route (e->tracker, &route) && route.place == place) ||
         (tracker_fallback (e->tracker, &route) && route.place == place);
}

/* Whoever enters counts first and looks at the owner then; who closes does it
 * the other way round.  So one of the two sees the other.  The local place
 * stays.
 */
bool
place_enter (struct export *e, unsigned place)
{
  if (place == PLACE_LOCAL)
    return true;
  __atomic_fetch_add (&e->places[place].users, 1, __ATOMIC_SEQ_CST);
  if (is_in_use (e, place))
    return true;
  place_leave (e, place);
  return false;
}

void
place_leave (struct export *e, unsigned place)
{
  if (place != PLACE_LOCAL)
    __atomic_fetch_sub (&e->places[place].users, 1, __ATOMIC_SEQ_CST);
}

struct relay *
place_borrow (struct export *e, unsigned *place)
{
  struct relay *relay = place_destination (e);

  *place = tracker_place (e->tracker, OWNER_DESTINATION);
  if (relay != NULL)
    __atomic_fetch_add (&e->places[*place].users, 1, __ATOMIC_SEQ_CST);
  return relay;
}

/* NULL: there was none. */
static struct relay *
stop_relay (struct export *e, unsigned place)
{
  const struct timespec moment = { .tv_nsec = 1000000 };
  struct place *p = &e->places[place];
  struct relay *relay = p->relay;

  if (relay == NULL)
    return NULL;
  relay_stop (relay);
  while (__atomic_load_n (&p->users, __ATOMIC_SEQ_CST) > 0)
    nanosleep (&moment, NULL);
  place_set (e, place, NULL);
  return relay;
}

void
place_close (struct export *e, unsigned place)
{
  struct relay *relay = stop_relay (e, place);

  if (relay != NULL)
    relay_close (relay);
}

/* Between commit and here it was lost, and what it had to send again may land:
 * who comes back in this process reads everything back (R17).
 */
static void
note_late (void *opaque, const struct relay_rest *rest)
{
  struct export *e = opaque;

  if (rest->grace_ms == 0)
    return;
  tracker_note_delay (e->tracker, rest->grace_ms / QUARANTINE_FACTOR);
  e->session.late_elsewhere = true;
}

void
place_close_source (struct export *e)
{
  struct relay *relay =
    stop_relay (e, tracker_place (e->tracker, OWNER_SOURCE));

  if (relay == NULL)
    return;
  if (tracker_owner (e->tracker) == OWNER_DESTINATION)
    relay_close_keeping (relay, note_late, e);
  else /* it may be taken back (reopen), also where nobody knows the owner */
    kept_close_relay (e, relay, e->session.source);
}

/* With the lock, without which no other relay tells of a delay meanwhile: what
 * is recorded then is of all of them.
 */
void
place_end (struct export *e)
{
  const struct relay *here = e->tracker != NULL ? place_relay (e) : NULL;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  for (unsigned i = 0; i < PLACES; i++) {
    struct relay *relay = e->places[i].relay;

    if (relay != NULL && relay == here)
      kept_close_relay (e, relay, place_uri (e));
    else if (relay != NULL)
      relay_close (relay);
    e->places[i].relay = NULL;
  }
}
