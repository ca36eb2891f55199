/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "durable-map.h"
#include "export.h"
#include "state/history-file.h"
#include "other-record.h"
#include "owner.h"
#include "place.h"
#include "record.h"
#include "uri.h"
#include "state-file.h"

/* A delay is told every second until it is recorded, and each try that fails is
 * said.
 */
#define DELAY_AGAIN_MS 30000

bool
owner_is_remote (enum owner owner, const char *source, const char *destination)
{
  return owner == OWNER_DESTINATION
           ? destination != NULL && !uri_is_local (destination)
           : source != NULL;
}

/* "" is none.  -1: no memory. */
static int
copy_uri (char **copy, const char *uri)
{
  if (uri[0] == '\0')
    return 0;
  *copy = strdup (uri);
  return *copy ? 0 : -1;
}

uint64_t
owner_quiet_ms (const struct export *e)
{
  const int64_t left = e->quiet_from_ms - clock_ms ();

  return left > 0 ? left : 0;
}

bool
owner_stay_quiet (struct export *e, uint64_t grace_ms)
{
  const bool slow = grace_ms > PLACE_QUIET_MAX_MS;
  const int64_t from_ms = clock_ms () + (slow ? PLACE_QUIET_MAX_MS : grace_ms);

  if (from_ms > e->quiet_from_ms)
    e->quiet_from_ms = from_ms;
  nbdkit_debug ("migrate: export \"%s\": no session copies for %" PRIu64 " ms",
                e->name, owner_quiet_ms (e));
  return !slow;
}

/* Take over what the record says. */
static int
adopt (struct export *e, const struct record *rec)
{
  struct session *s = &e->session;

  if (rec->last_end != RECORD_END_NONE) /* otherwise there was no migration */
    e->recorded_bytes = rec->disk_bytes;
  e->origin = rec->origin;
  s->last_end = rec->last_end;
  e->recorded_delay_ms = rec->delay_ms;
  e->recorded_map_id = rec->map_id;
  s->source_delay_ms = rec->source_delay_ms;
  /* R17: what an earlier session has sent, to this destination or another one,
   * may still land, and what would tell where was in memory.  A short while is
   * waited for before anything is copied; if a destination was seen to be
   * slower than that, all of it is doubtful.
   */
  e->must_settle = e->unclean_ms != 0;
  e->cut_off = e->must_settle && rec->last_end == RECORD_END_INTERRUPTED;
  if (e->must_settle)
    s->old.doubt = !owner_stay_quiet (e, quarantine_grace_ms (rec->delay_ms));
  if (copy_uri (&s->source, rec->source) == -1 ||
      copy_uri (&s->destination, rec->destination) == -1) {
    nbdkit_error ("migrate: strdup: %m");
    return -1;
  }
  if (owner_is_remote (rec->owner, s->source, s->destination)) {
    e->disk_bytes = rec->disk_bytes;
    e->chunk_bytes = rec->chunk_bytes;
  }
  return 0;
}

/* If it is not to be believed nothing is known, which costs time only. */
static void
read_history (struct export *e)
{
  CLEANUP_FREE char *why = NULL;

  history_read (&e->session.history, e->history_path, &why);
  if (why != NULL)
    nbdkit_error ("migrate: export \"%s\": reading %s: %s", e->name,
                  e->history_path, why);
}

/* The only export that is served here has no record; whether the record of
 * another name may be about it.
 */
static int
has_other_record (const struct export *e)
{
  CLEANUP_FREE char *name = NULL;
  const int r = other_record_find (config.dir, e->name, &name);

  if (r == -1)
    nbdkit_error ("migrate: export \"%s\" is not served: whether there are "
                  "records of others in migrate-dir, %s, cannot be told: %m",
                  e->name, config.dir);
  if (r != 1)
    return r;
  nbdkit_error ("migrate: export \"%s\" is not served, its owner is unknown: "
                "%s has no record of it, and one of an export \"%s\" that is "
                "not at its source any more; if that is the same disk, whose "
                "name as the default export has changed, let the plugin give "
                "it its old name, or say who owns it with 'nbdmigrate reopen "
                "URI owner=...' and the URI of this proxy; otherwise use "
                "another migrate-dir",
                e->name, config.dir, name);
  return 1;
}

int
owner_load (struct export *e, enum owner *owner)
{
  CLEANUP_FREE char *why = NULL;
  struct record rec;
  int r;

  *owner = OWNER_SOURCE;
  e->record = record_new (config.dir, e->name, config.state_sync);
  e->history_path = state_file_path (config.dir, "history", e->name);
  if (e->record == NULL || e->history_path == NULL) {
    nbdkit_error ("migrate: export \"%s\": record in migrate-dir: %m", e->name);
    return -1;
  }
  switch (record_open (e->record, 0, &rec, &why)) {
  case RECORD_NONE:
    if (!config.named_exports && (r = has_other_record (e)) != 0) {
      *owner = OWNER_UNKNOWN;
      return r == -1 ? -1 : 0;
    }
    e->origin = strtoull (e->id, NULL, 16);
    e->session.history.complete = true; /* there was no destination yet */
    return 0;
  case RECORD_OK:
    *owner = rec.owner;
    read_history (e);
    if (why != NULL)
      nbdkit_error ("migrate: export \"%s\": %s", e->name, why);
    return adopt (e, &rec);
  case RECORD_LACKING: /* nothing is settled by that */
    nbdkit_error ("migrate: export \"%s\" is refused for now: %s; when there "
                  "is enough of it again, clients can connect",
                  e->name, why ? why : "no memory");
    return -1;
  case RECORD_UNREADABLE:
    break;
  }
  *owner = OWNER_UNKNOWN;
  nbdkit_error ("migrate: export \"%s\" is not served, its owner is unknown: "
                "%s",
                e->name, why ? why : "no memory");
  return 0;
}

void
owner_note_size (struct export *e)
{
  if (e->recorded_bytes == 0 || e->recorded_bytes == e->disk_bytes)
    return;
  nbdkit_error ("migrate: export \"%s\" has %" PRIu64 " bytes, and had %" PRIu64
                " when its latest migration was recorded in %s: what that one "
                "has copied counts no more, and the next one copies everything",
                e->name, e->disk_bytes, e->recorded_bytes, config.dir);
  /* Only a run that was interrupted, or detached, could be gone on with. */
  if (e->session.last_end == RECORD_END_INTERRUPTED ||
      e->session.last_end == RECORD_END_DETACHED)
    e->session.last_end = RECORD_END_NONE;
}

int
owner_record_history (struct export *e)
{
  CLEANUP_FREE char *why = NULL;

  if (history_write (&e->session.history, e->history_path, config.state_sync,
                     &why) == 0)
    return 0;
  nbdkit_error ("migrate: export \"%s\": writing %s: %s", e->name,
                e->history_path, why ? why : strerror (errno));
  return -1;
}

/* Also of earlier destinations where something may still land: the next process
 * will not know which they were.
 */
static uint32_t
delay_ms (struct export *e)
{
  const uint64_t ms = place_delay_ms (e, OWNER_DESTINATION);
  const uint64_t elsewhere_ms = e->session.elsewhere_delay_ms;
  const uint64_t longest_ms = ms > elsewhere_ms ? ms : elsewhere_ms;

  return longest_ms < UINT32_MAX ? longest_ms : UINT32_MAX;
}

static uint32_t
source_delay_ms (struct export *e)
{
  const uint64_t ms = place_delay_ms (e, OWNER_SOURCE);

  return ms < UINT32_MAX ? ms : UINT32_MAX;
}

/* Not over what a commit has recorded. */
bool
owner_record_again (struct export *e)
{
  const struct session *s = &e->session;
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  errno = EBUSY;
  if (t.gate != GATE_OPEN || t.owner == OWNER_UNKNOWN)
    return false;
  return owner_record (e, t.owner,
                       s->client != NULL && s->last_end == RECORD_END_NONE
                         ? RECORD_END_INTERRUPTED
                         : s->last_end) == OWNER_RECORDED;
}

/* With the first record of a disk there is a history, too: that there was no
 * destination (R18).
 */
static bool
try_delay (struct export *e, enum owner owner, enum record_end end)
{
  if ((e->session.destination != NULL || owner_record_history (e) == 0) &&
      owner_record (e, owner, end) == OWNER_RECORDED)
    return true;
  e->no_delay_until_ms = clock_ms () + DELAY_AGAIN_MS;
  return false;
}

/* Not while a guest may wait for it, and not over what a commit has recorded.
 */
bool
owner_update_delay (struct export *e)
{
  const struct session *s = &e->session;
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  if (t.gate != GATE_OPEN || t.owner == OWNER_UNKNOWN ||
      clock_ms () < e->no_delay_until_ms)
    return false;
  if (s->client == NULL)
    return try_delay (e, t.owner, s->last_end);
  if (t.owner == OWNER_SOURCE && s->last_end == RECORD_END_NONE)
    return try_delay (e, OWNER_SOURCE, RECORD_END_INTERRUPTED);
  return false;
}

void
owner_record_delay (struct export *e)
{
  const enum owner owner = tracker_owner (e->tracker);

  tracker_note_delay (e->tracker, old_connections_age_ms (&e->session.old));
  if (owner != OWNER_UNKNOWN && delay_ms (e) > e->recorded_delay_ms)
    owner_record (e, owner, e->session.last_end);
}

enum owner_outcome
owner_record (struct export *e, enum owner owner, enum record_end end)
{
  struct record rec = {
    .owner = owner,
    .last_end = end,
    .disk_bytes = e->disk_bytes,
    .chunk_bytes = e->chunk_bytes,
    .export_id = strtoull (e->id, NULL, 16),
    .origin = e->origin,
    .delay_ms = delay_ms (e),
    .source_delay_ms = source_delay_ms (e),
    .map_id = owner == OWNER_SOURCE ? durable_map_id (e) : 0,
  };
  const char *destination = e->session.destination;
  CLEANUP_FREE char *why = NULL;
  enum record_outcome outcome;
  int64_t begun_us;

  if (destination != NULL && strlen (destination) > RECORD_URI_MAX) {
    nbdkit_error ("migrate: export \"%s\": the destination's URI has more "
                  "than %d bytes",
                  e->name, RECORD_URI_MAX);
    return OWNER_KEPT;
  }
  if (destination != NULL)
    strcpy (rec.destination, destination);
  if (e->session.source != NULL) /* 'begin' has checked its length */
    strcpy (rec.source, e->session.source);
  begun_us = clock_us ();
  outcome = record_write (e->record, &rec, &why);
  e->record_us = clock_us () - begun_us;
  if (outcome == RECORD_WRITTEN) {
    e->recorded_bytes = e->disk_bytes;
    e->recorded_delay_ms = rec.delay_ms;
    nbdkit_debug ("migrate: export \"%s\": recorded: owner %s, %s", e->name,
                  owner_name (owner), record_end_name (rec.last_end));
    return OWNER_RECORDED;
  }
  nbdkit_error ("migrate: export \"%s\": recording that the owner is %s: %s",
                e->name, owner_name (owner), why ? why : "no memory");
  return outcome == RECORD_KEPT ? OWNER_KEPT : OWNER_UNSURE;
}
