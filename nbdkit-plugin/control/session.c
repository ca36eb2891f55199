/* SPDX-License-Identifier: BSD-3-Clause */
/* Beginning and ending a session.
 *
 * A session can be ended by its own thread (the connection broke, or was
 * silent) and by another's (abort).  Whoever does it holds the session lock,
 * and every command of a session runs under that lock and looks first whether
 * it still is the session.  So nothing can be leased on behalf of a session
 * that has ended.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "base/clock.h"
#include "control.h"
#include "export/audit.h"
#include "export/allocation.h"
#include "export/durable-map.h"
#include "export/mirroring.h"
#include "export/place.h"
#include "export/export.h"
#include "export/owner.h"
#include "session.h"
#include "uri.h"

/* After a detach a migrator that has leased nothing since has nothing to write.
 * It may still read, for a digest.
 */
static bool
is_done_writing (struct export *e)
{
  struct tracker_status t;

  if (e->session.last_end != RECORD_END_DETACHED)
    return false;
  tracker_get_status (e->tracker, &t);
  return t.leased_bytes == 0 && t.quarantined_bytes == 0;
}

/* R17: Q is about the destination it was kept for.  Nothing can land on one to
 * which nothing was ever sent; and whoever comes back to an earlier one must
 * take all of it for doubtful.  But an earlier one may have got another
 * address: the usual time is waited for before anything is copied.
 */
static void
note_late_writes (struct export *e, const struct tracker_status *t)
{
  struct session *s = &e->session;
  const bool late = t->quarantined_bytes > 0 || t->mirrored_in_flight > 0;
  const uint64_t delay_ms =
    t->delay_ms > s->elsewhere_delay_ms ? t->delay_ms : s->elsewhere_delay_ms;

  if (s->past == PAST_NOTHING) {
    if (late || s->old.n > 0 || s->old.doubt)
      owner_stay_quiet (e, quarantine_grace_ms (delay_ms));
    s->late_elsewhere |= late;
    tracker_set_quarantined (e->tracker, false);
  }
  else if (s->late_elsewhere)
    tracker_set_quarantined (e->tracker, true);
}

/* How slow one server was says nothing of another one, whose late writes would
 * be waited for for as long.  It is remembered of those where something may
 * still land, for whoever comes back to one of them.
 */
static void
note_delays (struct export *e, const struct tracker_status *t)
{
  struct session *s = &e->session;
  const bool late = s->late_elsewhere || t->quarantined_bytes > 0 ||
                    s->old.n > 0 || s->old.doubt || e->must_settle;

  if (late && t->delay_ms > s->elsewhere_delay_ms)
    s->elsewhere_delay_ms = t->delay_ms;
  tracker_set_delay (
    e->tracker, late && s->past == PAST_UNKNOWN ? s->elsewhere_delay_ms : 0);
}

/* R17: what a process before this one had under way is waited for once, and
 * where it was sent may be away all that time: who comes back there must take
 * all of it for doubtful.
 */
static void
doubt_latest (struct export *e)
{
#ifdef PLANT_BUG_quiet_from_the_start
  return;
#endif
  if (e->must_settle && e->cut_off)
    e->session.late_elsewhere = e->session.old.doubt = true;
}

/* R18: W stays right only for the destination it was kept for.  It is cleared
 * only if nothing was ever written to this one.  'same': by its URI.
 */
static void
note_destination (struct export *e, bool same)
{
  struct session *s = &e->session;
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  s->past = history_meet (&s->history, s->destination, s->fds, s->nr_fds);
  if (s->past == PAST_NOTHING && uri_is_local (s->destination))
    s->past = PAST_UNKNOWN; /* the guest has written there */
  if (s->past != PAST_LATEST) {
    s->latest_in_use = false;
    tracker_set_written (e->tracker, s->past == PAST_UNKNOWN);
    if (!same)
      doubt_latest (e);
    note_late_writes (e, &t);
    note_delays (e, &t);
  }
  else if (s->latest_in_use)
    s->past = PAST_UNKNOWN;
}

void
session_replace_sockets (struct export *e,
                         const struct session_sockets *sockets)
{
  session_sockets_give_up (e, sockets);
  session_sockets_keep (e, sockets);
  note_destination (e, true); /* a name may lead elsewhere now */
}

/* What was left out because of a promise does not count for who makes another
 * one, or none.  (Who asks for an incremental copy says that the destination
 * was whole.)
 */
static bool
is_promise_kept (const struct session *s, const char *promise)
{
  return s->promise == NULL || *s->promise == '\0' ||
         strcmp (s->promise, promise) == 0;
}

/* R20; the tracker refuses as well if it was off meanwhile. */
static bool
may_resume (const struct export *e, bool same,
            const struct session_request *request)
{
  const struct session *s = &e->session;

  if (request->restart || !same)
    return false;
  return s->last_end == RECORD_END_DETACHED
           ? request->incremental
           : s->last_end == RECORD_END_INTERRUPTED &&
               is_promise_kept (s, request->promise);
}

static void
forget_messages (struct session *s)
{
  json_decref (s->progress);
  json_decref (s->wishes);
  s->progress = s->wishes = NULL;
}

/* -1: no memory. */
static int
copy_text (char **copy, const char *text)
{
  *copy = text ? strdup (text) : NULL;
  return text == NULL || *copy != NULL ? 0 : -1;
}

static void
note_before (struct export *e)
{
  struct session *s = &e->session;

  session_state_forget_before (s);
  s->before = (struct session_before){
    .kept = !tracker_is_tracking (e->tracker),
    .owner = tracker_owner (e->tracker),
    .last_end = s->last_end,
    .source_place = tracker_place (e->tracker, OWNER_SOURCE),
    .destination_place = tracker_place (e->tracker, OWNER_DESTINATION),
    .delay_ms = place_delay_ms (e, OWNER_DESTINATION),
    .source_delay_ms = s->source_delay_ms,
  };
  if (copy_text (&s->before.source, s->source) == -1 ||
      copy_text (&s->before.destination, s->destination) == -1)
    s->before.kept = false;
}

/* R17: a server that was away or stopped since this process began goes on only
 * now, with what the one before had sent.  (What is read back waits by itself.)
 */
uint64_t
session_wait_ms (struct export *e)
{
  const uint64_t delay_ms = place_delay_ms (e, OWNER_DESTINATION);

#ifdef PLANT_BUG_quiet_from_the_start
  return 0;
#endif
  return e->must_settle && !e->session.old.doubt
           ? quarantine_grace_ms (delay_ms)
           : 0;
}

/* Where the disk is, is the source of this migration. */
static void
promote (struct export *e, const char *destination)
{
  struct session *s = &e->session;

  if (tracker_owner (e->tracker) == OWNER_DESTINATION) {
    s->source_delay_ms = place_delay_ms (e, OWNER_DESTINATION);
    tracker_promote (e->tracker);
    free (s->source);
    s->source = s->destination;
    s->destination = NULL;
  }
  if (tracker_place (e->tracker, OWNER_SOURCE) == PLACE_LOCAL) {
    free (s->source);
    s->source = NULL;
  }
  tracker_set_place (e->tracker, OWNER_DESTINATION,
                     uri_is_local (destination) ? PLACE_LOCAL : place_free (e));
}

int
session_begin (struct export *e, struct client *client,
               const struct session_request *request,
               const struct session_sockets *sockets, bool *resumed)
{
  struct session *s = &e->session;
  const bool same =
    s->destination && strcmp (s->destination, request->destination) == 0;
  const uint64_t chunk_bytes = e->chunk_bytes > request->block_bytes
                                 ? e->chunk_bytes
                                 : request->block_bytes; /* R19 */
  char *destination = strdup (request->destination);
  char *promise = strdup (request->promise);
  bool resume;

  s->began_us = clock_us ();
  session_sockets_keep (e, sockets);
  s->process = client_process (client); /* for who gives them up as well */
  s->promised = false;
  if (destination == NULL || promise == NULL ||
      tracker_set_chunk (e->tracker, chunk_bytes) == -1) {
    free (destination);
    free (promise);
    session_sockets_give_up (e, NULL);
    session_sockets_leave_source (e);
    session_state_close_fds (s);
    errno = ENOMEM;
    return -1;
  }
  resume = may_resume (e, same, request);
  note_before (e);
  promote (e, destination);
  free (s->destination);
  s->destination = destination;
  free (s->promise);
  s->promise = promise;
  __atomic_store_n (&s->client, client, __ATOMIC_RELEASE);
  s->last_end = RECORD_END_NONE;
  s->untouched = false;
  forget_messages (s);
  client_set_session (client, true);
  place_local_begins (e);
  if (session_wait_ms (e) > 0)
    owner_stay_quiet (e, session_wait_ms (e));
  note_destination (e, same);
  *resumed = tracker_begin (e->tracker, resume, same); /* R1 */
  durable_map_begin (e, *resumed);                     /* R14 */
  lately_begin (&s->lately, *resumed);                 /* R20 */
  session_sockets_look (e);
  nbdkit_debug ("migrate: export \"%s\": session begins, to %s%s", e->name,
                destination, *resumed ? ", resumed" : "");
  return 0;
}

/* After a pivot there is nothing to track any more.  Where the disk is not,
 * this filter needs no connection any more.
 */
static void
settle_places (struct export *e)
{
  const enum owner owner = tracker_owner (e->tracker);

  if (owner != OWNER_SOURCE)
    durable_map_void (e); /* the record says so already */
  if (owner == OWNER_DESTINATION)
    tracker_stop (e->tracker);
  else
    place_close (e, tracker_place (e->tracker, OWNER_DESTINATION));
  if (owner != OWNER_SOURCE)
    place_close_source (e);
}

void
session_note_end (struct export *e, enum record_end end)
{
  e->session.last_end = end;
  if (e->session.destination == NULL) /* nothing ever began */
    return;
  /* If it fails, a restarted proxy takes it for an interruption: safe. */
  owner_record (e, OWNER_SOURCE, end);
}

void
session_end (struct export *e)
{
  struct session *s = &e->session;

  if (s->client == NULL)
    return;
  /* First of all: what was written is known only once nothing can be sent. */
  if (!is_done_writing (e))
    session_sockets_give_up (e, NULL);
  session_sockets_leave_source (e);
  session_state_close_fds (s);
  mirroring_end (
    e); /* or a write could be mirrored, and U, after the next line */
  tracker_end_session (e->tracker); /* R7 */
#ifndef PLANT_BUG_throttle_outlives_session
  throttle_set (&e->throttle, 0, 0);
#endif
  __atomic_store_n (&e->local.writer, 0, __ATOMIC_SEQ_CST);
  allocation_session_ended (e->allocation);
  shared_reads_end (&e->shared_reads);
  session_sockets_look (e);
  client_set_session (s->client, false);
  __atomic_store_n (&s->client, NULL, __ATOMIC_RELEASE);
  if (s->last_end == RECORD_END_NONE)
    s->last_end = RECORD_END_INTERRUPTED;
  else if (s->last_end == RECORD_END_DETACHED) {
    s->latest_in_use = true; /* R18, R20: and W is kept accordingly */
    tracker_set_written (e->tracker, true);
    session_note_end (e, RECORD_END_DETACHED); /* not in the pause */
  }
  durable_map_note_end (e);
  settle_places (e);
  durable_map_look (e);
  /* Wishes were for this migrator: the next one must not be cancelled by
   * what somebody asked of this one.  The progress would be stale.
   */
  forget_messages (s);
  audit_end (e, tracker_owner (e->tracker));
}

static void
swap_texts (struct session *s)
{
  struct session_before *b = &s->before;
  char *source = s->source, *destination = s->destination;

  s->source = b->source;
  s->destination = b->destination;
  b->source = source;
  b->destination = destination;
}

/* The disk has been in the same place all the time, so whichever of the two
 * records is there in the end is right.
 */
static void
take_back (struct export *e)
{
  struct session *s = &e->session;
  const struct session_before *b = &s->before;

  durable_map_void (e);
  swap_texts (s);
  tracker_set_delay (e->tracker, b->delay_ms);
  s->source_delay_ms = b->source_delay_ms;
  if (owner_record (e, b->owner, b->last_end) != OWNER_RECORDED) {
    swap_texts (s);
    return;
  }
  if (b->owner == OWNER_DESTINATION)
    tracker_demote (e->tracker, b->source_place);
  else
    tracker_set_place (e->tracker, OWNER_DESTINATION, b->destination_place);
  tracker_stop (e->tracker);
  durable_map_look (e);
  s->last_end = b->last_end;
  s->untouched = true;
  audit_untouched (e);
}

void
session_end_untouched (struct export *e)
{
  struct session *s = &e->session;
  const bool over = s->last_end != RECORD_END_NONE; /* by a commit */

  if (s->client == NULL)
    return;
  session_end (e);
  if (!over && s->before.kept)
    take_back (e);
  session_state_forget_before (s);
}

void
session_leave (struct export *e, const struct client *client)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  if (e->session.client == client)
    session_end (e);
}

bool
session_watch (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);

  return session_sockets_look (e);
}
