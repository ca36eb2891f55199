/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/config.h"
#include "cleanup.h"
#include "export.h"
#include "mirroring.h"
#include "uri.h"

#define SLICE_MS 50 /* of a wait: how often the peer is looked at */

/* ---- What the mirror tells -------------------------------------------------
 */

static void
set (void *opaque, uint32_t block_bytes)
{
  struct export *e = opaque;

  tracker_mirror (e->tracker, block_bytes);
}

static void
lost (void *opaque)
{
  struct export *e = opaque;

  tracker_mirror_lost (e->tracker);
}

static void
delayed (void *opaque, uint64_t ms)
{
  struct export *e = opaque;

  tracker_note_delay (e->tracker, ms);
}

/* ---- Life ------------------------------------------------------------------
 */

static void
set_mirror (struct export *e, struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  e->mirror = m;
}

/* Whether nothing of it is left, so that it can go. */
static bool
is_idle (struct export *e)
{
  struct mirror_status m;
  struct tracker_status t;

  mirror_get_status (e->mirror, &m);
  tracker_get_status (e->tracker, &t);
  return m.ended && t.mirrored_in_flight == 0 && e->mirror_waiters == 0 &&
         !mirror_is_late (e->mirror);
}

static struct mirror *
new_mirror (struct export *e, const char *local_uri)
{
  const bool local = uri_is_local (e->session.destination);
  const struct mirror_options options = {
    .uri = local ? local_uri : e->session.destination,
    .disk_bytes = e->disk_bytes,
    .unheard_ms = config.network_timeout_ms,
    .require_tls = config.require_tls && !local, /* that is ourselves */
    .user = { .set = set, .lost = lost, .delayed = delayed, .opaque = e },
  };

  return mirror_new (&options);
}

/* After a loss these need not be the connections that it had before. */
static struct mirror_peer
peer_of_session (const struct export *e)
{
  struct mirror_peer peer = { .bytes = sizeof peer.address };

  if (uri_is_local (e->session.destination) || e->session.nr_fds == 0 ||
      getpeername (e->session.fds[0], (struct sockaddr *)&peer.address,
                   &peer.bytes) == -1)
    peer.bytes = 0;
  return peer;
}

int
mirroring_enable (struct export *e, const char *local_uri, unsigned max_ms)
{
  struct mirror_status s = { .over = true };
  const struct mirror_peer peer = peer_of_session (e);

  if (e->mirror != NULL)
    mirror_get_status (e->mirror, &s);
  if (s.over) {
    if (e->mirror != NULL && !is_idle (e)) {
      errno = EBUSY;
      return -1;
    }
    mirroring_free (e);
    set_mirror (e, new_mirror (e, local_uri));
    if (e->mirror == NULL) {
      errno = ENOMEM;
      return -1;
    }
  }
  mirror_enable (e->mirror, &peer, max_ms);
  return 0;
}

void
mirroring_disable (struct export *e)
{
  if (e->mirror != NULL)
    mirror_disable (e->mirror);
}

void
mirroring_lost (struct export *e)
{
  if (e->mirror != NULL)
    mirror_leave (e->mirror, "the migrator has lost its connections");
}

void
mirroring_end (struct export *e)
{
  if (e->mirror == NULL)
    return;
  if (e->mirror_flush != NULL)
    mirror_flush_abandon (e->mirror_flush);
  e->mirror_flush = NULL;
  mirror_end_session (e->mirror);
}

void
mirroring_stop (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->places_lock);

  if (e->mirror != NULL)
    mirror_stop (e->mirror);
}

void
mirroring_free (struct export *e)
{
  struct mirror *m = e->mirror;

  mirroring_end (e);
  set_mirror (e, NULL);
  if (m != NULL)
    mirror_free (m);
}

/* ---- Flushes ----------------------------------------------------------------
 */

void
mirroring_flush_begin (struct export *e)
{
  if (e->mirror == NULL)
    return;
  if (e->mirror_flush != NULL)
    mirror_flush_abandon (e->mirror_flush);
  e->mirror_flush = mirror_flush_begin (e->mirror);
}

/* Whoever ends the session meanwhile finds no flush, and the mirror stays as
 * long as somebody waits here.
 */
bool
mirroring_flush_wait (struct export *e, bool (*alive) (void *opaque),
                      void *opaque)
{
  struct mirror_flush *f = e->mirror_flush;
  bool success = true, over = f == NULL, there = true;

  e->mirror_flush = NULL;
  e->mirror_waiters++;
  while (!over && there) {
    pthread_mutex_unlock (&e->session.lock);
    over = mirror_flush_wait (f, SLICE_MS, &success);
    there = over || alive (opaque);
    pthread_mutex_lock (&e->session.lock);
  }
  if (!over)
    mirror_flush_abandon (f);
  e->mirror_waiters--;
  return over && success;
}

/* ---- Looking ----------------------------------------------------------------
 */

void
mirroring_get_status (struct export *e, struct mirroring_status *s)
{
  struct tracker_status t;

  *s = (struct mirroring_status){ .state = "off" };
  if (e->mirror == NULL)
    return;
  mirror_get_status (e->mirror, &s->mirror);
  tracker_get_status (e->tracker, &t);
  if (s->mirror.on)
    s->state = "on";
  else if (s->mirror.starting)
    s->state = "starting";
  else if (s->mirror.unanswered > 0 || t.mirrored_in_flight > 0)
    s->state = "ending";
}

bool
mirroring_is_late (struct export *e)
{
  return e->mirror != NULL && mirror_is_late (e->mirror);
}
