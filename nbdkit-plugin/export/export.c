/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of exports, and how one comes into being.
 *
 * When a name is opened for the first time, a context of the plugin is opened
 * to look at it (local.h).  It belongs to the connection, as some plugins need
 * its export name.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <jansson.h>

#include "cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "allocation.h"
#include "durable-map.h"
#include "export.h"
#include "kept.h"
#include "mark.h"
#include "mirroring.h"
#include "owed.h"
#include "place.h"
#include "owner.h"
#include "record.h"
#include "relay/relay.h"
#include "state/directory.h"
#include "uri.h"

#define EXPORTS_MAX 1024
#define PLUGIN_MS 10000 /* for the last of what it was asked */

/* Held while a new export is made, which may call the plugin. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

/* Protects the list and the default name; held for short times only. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct export *list;
static size_t nr_exports;
static char *default_name;

/* The list lock must be held. */
static struct export *
find (const char *name)
{
  struct export *e = list;

  while (e && strcmp (e->name, name) != 0)
    e = e->next;
  return e;
}

struct export *
export_find (const char *name)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&list_lock);
  struct export *e = find (name);

  if (e == NULL && *name == '\0' && default_name)
    e = find (default_name);
  return e;
}

void
export_set_default (const char *name)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&list_lock);

  if (default_name == NULL || strcmp (default_name, name) != 0) {
    free (default_name);
    default_name = strdup (name);
    if (default_name == NULL)
      nbdkit_error ("migrate: the name of the default export: %m");
  }
}

void
export_foreach (void (*f) (struct export *e, void *opaque), void *opaque)
{
  struct export *e;

  pthread_mutex_lock (&list_lock);
  e = list;
  pthread_mutex_unlock (&list_lock);
  /* Nothing is ever removed, and e->next is constant. */
  for (; e; e = e->next)
    f (e, opaque);
}

/* ---- Making one -------------------------------------------------------- */

static int
make_id (struct export *e)
{
  uint64_t id;

  if (getrandom (&id, sizeof id, 0) != sizeof id) {
    nbdkit_error ("migrate: getrandom: %m");
    return -1;
  }
  snprintf (e->id, sizeof e->id, "%016" PRIx64, id);
  return 0;
}

/* A remote source has the second of the remote places. */
static int
make_tracker (struct export *e, enum owner owner)
{
  const char *to = e->session.destination;

  e->tracker = tracker_new (e->disk_bytes, e->chunk_bytes, owner);
  if (e->tracker == NULL) {
    nbdkit_error ("migrate: export \"%s\": cannot track %" PRIu64 " bytes in "
                  "chunks of %" PRIu64 ": %m",
                  e->name, e->disk_bytes, e->chunk_bytes);
    return -1;
  }
  tracker_note_delay (e->tracker, e->recorded_delay_ms);
  if (e->session.old.doubt) /* R17 */
    tracker_set_quarantined (e->tracker, true);
  tracker_set_place (e->tracker, OWNER_SOURCE,
                     e->session.source == NULL ? PLACE_LOCAL : 2);
  tracker_set_place (e->tracker, OWNER_DESTINATION,
                     to != NULL && uri_is_local (to) ? PLACE_LOCAL : 1);
  return 0;
}

/* The record first: it decides whether the plugin is asked at all.  After a
 * pivot it is not, and may not be there any more.
 */
static int
find_owner (struct export *e, nbdkit_backend *backend, int readonly,
            enum owner *owner)
{
  if (owner_load (e, owner) == -1)
    return -1;
  if (owner_is_remote (*owner, e->session.source, e->session.destination))
    return 0;
  if (backend == NULL || local_look (e, backend, readonly) == -1)
    return -1;
  owner_note_size (e);
  return 0;
}

static void
export_free (struct export *e)
{
  allocation_free (e->allocation); /* it uses the others */
  durable_map_free (e->durable);   /* likewise */
  mirroring_free (e);              /* likewise */
  place_end (e);
  record_free (e->record);
  free (e->record_name);
  free (e->history_path);
  owed_destroy (e);
  free (e->kept_path);
  if (e->tracker)
    tracker_free (e->tracker);
  session_state_destroy (&e->session);
  shared_reads_destroy (&e->shared_reads);
  throttle_destroy (&e->throttle);
  latency_destroy (&e->latency);
  local_destroy (&e->local);
  pthread_mutex_destroy (&e->connect_lock);
  pthread_mutex_destroy (&e->places_lock);
  free (e->connect_why);
  free (e->mark_why);
  free (e->name);
  free (e);
}

static struct export *
export_new (nbdkit_backend *backend, int readonly, const char *name)
{
  struct export *e = aligned_alloc (LANE_BYTES, sizeof *e);
  enum owner owner;

  if (e != NULL)
    memset (e, 0, sizeof *e);
  if (e == NULL || (e->name = strdup (name)) == NULL) {
    nbdkit_error ("migrate: export \"%s\": %m", name);
    free (e);
    return NULL;
  }
  e->record_name = record_file_name (name);
  e->unclean_ms = directory_unclean_ms (e->record_name);
  local_init (&e->local);
  pthread_mutex_init (&e->connect_lock, NULL);
  pthread_mutex_init (&e->places_lock, NULL);
  session_state_init (&e->session);
  shared_reads_init (&e->shared_reads);
  throttle_init (&e->throttle);
  latency_init (&e->latency);
  e->backend = backend;
  e->readonly = readonly;
  e->allocation = allocation_new (e);
  e->durable = durable_map_new (e);
  if (e->allocation == NULL || e->durable == NULL || e->record_name == NULL)
    nbdkit_error ("migrate: export \"%s\": out of memory", name);
  if (e->allocation != NULL && e->durable != NULL && e->record_name != NULL &&
      make_id (e) == 0 && owed_load (e) == 0 && kept_init (e) == 0 &&
      find_owner (e, backend, readonly, &owner) == 0 &&
      make_tracker (e, owner) == 0) {
    place_take_over_local (e);
    durable_map_load (e);
    return e;
  }
  export_free (e);
  return NULL;
}

/* The control protocol has to carry the name. */
static bool
name_is_usable (const char *name)
{
  CLEANUP_JSON json_t *json = json_string (name);

  if (json == NULL)
    nbdkit_error (
      "migrate: refusing an export name that is not UTF-8, or for which "
      "there is no memory");
  return json != NULL;
}

static void
link_export (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&list_lock);

  e->next = list;
  list = e;
  nr_exports++;
}

/* Many plugins serve the same disk whatever the name, and nothing tells us
 * which do: a guest that came by another name than the migrator would be
 * neither tracked nor held nor fenced.  So the user has to say that each name
 * is a disk of its own.
 */
static bool
name_is_allowed (const char *name)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&list_lock);

  if (*name == '\0' || config.named_exports ||
      (default_name != NULL && strcmp (name, default_name) == 0))
    return true;
  nbdkit_error ("migrate: export \"%s\" refused: only the default export is "
                "served, because a plugin that ignores names would serve the "
                "same disk untracked; if this plugin has a disk of its own "
                "for each name, add migrate-named-exports=true",
                name);
  return false;
}

/* The open lock must be held. */
static struct export *
export_make (nbdkit_backend *backend, int readonly, const char *name)
{
  struct export *e;

  if (nr_exports == EXPORTS_MAX) {
    nbdkit_error ("migrate: export \"%s\" refused: %d names are in use "
                  "already",
                  name, EXPORTS_MAX);
    return NULL;
  }
  e = export_new (backend, readonly, name);
  if (e) {
    link_export (e);
    mark_follow (e, false); /* it may have been killed before it could */
    nbdkit_debug ("migrate: export \"%s\": id %s, %" PRIu64 " bytes in chunks "
                  "of %" PRIu64,
                  name, e->id, e->disk_bytes, e->chunk_bytes);
  }
  return e;
}

static struct export *
find_exactly (const char *name)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&list_lock);

  return find (name);
}

static struct export *
find_or_make (nbdkit_backend *backend, int readonly, const char *name)
{
  struct export *e;

  /* Also one that is there: a record may have loaded it. */
  if (!name_is_usable (name) || !name_is_allowed (name))
    return NULL;
  e = find_exactly (name);
  if (e)
    return e;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&open_lock);
  e = find_exactly (name); /* another thread may have been faster */
  return e ? e : export_make (backend, readonly, name);
}

struct export *
export_open (nbdkit_backend *backend, int readonly, const char *name)
{
  struct export *e = find_or_make (backend, readonly, name);

  return e && place_require (e) == 0 ? e : NULL;
}

/* ---- For the control socket -------------------------------------------- */

static bool
is_recorded_elsewhere (const char *name)
{
  CLEANUP_FREE char *why = NULL;
  struct record_file *f = record_new (config.dir, name, config.state_sync);
  struct record rec;
  bool r;

  if (f == NULL)
    return false;
  r = record_peek (f, 0, &rec, &why) == RECORD_OK &&
      owner_is_remote (rec.owner, rec.source[0] ? rec.source : NULL,
                       rec.destination);
  record_free (f);
  return r;
}

struct export *
export_find_or_load (const char *name)
{
  struct export *e = export_find (name);

  if (e || !is_recorded_elsewhere (name))
    return e;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&open_lock);
  e = find_exactly (name);
  return e ? e : export_make (NULL, 0, name);
}

/* Nobody has come to where it is, or is known to be. */
static bool
is_out_of_reach (struct export *e)
{
  return tracker_owner (e->tracker) == OWNER_UNKNOWN ||
         (place_is_remote (e) && place_relay (e) == NULL);
}

/* The destination of an interrupted migration may have been away all the time.
 */
static bool
was_not_met (const struct export *e)
{
  return e->must_settle && e->cut_off;
}

/* R17: whether something that was sent may land after the end, and no file
 * tells the next process of it.  (What the relay to where the disk is leaves is
 * kept.)
 */
static bool
leaves_late_writes (struct export *e)
{
  const struct session *s = &e->session;
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  return t.quarantined_bytes > 0 || s->old.n > 0 || s->old.doubt ||
         s->late_elsewhere || owner_quiet_ms (e) > 0 || was_not_met (e) ||
         place_local_late_ms (e) > 0 ||
         local_watch_late_until_ms (e, false) > clock_ms () ||
         (e->unclean_ms != 0 && is_out_of_reach (e));
}

bool
exports_end (void)
{
  const int64_t until_ms = clock_ms () + PLUGIN_MS;
  bool ended = true;

  for (struct export *e = list; e != NULL; e = e->next)
    durable_map_finish (e);
  for (struct export *e = list; e != NULL; e = e->next) {
    e->leaves_late = leaves_late_writes (e);
    if (e->leaves_late)
      owner_record_delay (e);
    ended &= durable_map_end (e, until_ms);
    place_end (e);
    e->leaves_late |= e->not_kept;
    owed_error_settle (&e->owed);
    ended &= allocation_end (e->allocation, until_ms);
  }
  return ended;
}

/* What a process before this one may have left, an export that nobody has asked
 * for would have to tell.
 */
bool
export_is_late (const char *record_name)
{
  const struct export *e = list;

  while (e != NULL && strcmp (e->record_name, record_name) != 0)
    e = e->next;
  return e != NULL ? e->leaves_late : directory_unclean_ms (record_name) != 0;
}

void
exports_free (void)
{
  struct export *e;

  while ((e = list) != NULL) {
    list = e->next;
    export_free (e);
  }
  nr_exports = 0;
  free (default_name);
  default_name = NULL;
}
