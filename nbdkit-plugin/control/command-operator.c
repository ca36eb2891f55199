/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands for the operator: they work whoever has the session.
 *
 * 'reopen' may wait for a destination for seconds.  The session lock is free
 * then, so that clients, 'status' and the end of nbdkit need not wait.  The
 * owner stays what it was: a session begins only where the source owns the
 * disk, and no other reopen passes.
 */

#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "call.h"
#include "cleanup.h"
#include "export/audit.h"
#include "export/durable-map.h"
#include "export/place.h"
#include "export/owner.h"
#include "relay/relay.h"
#include "uri.h"
#include "session.h"

/* What an 'abort' finds, so that its caller can say what it has ended. */
static json_t *
describe (struct export *e)
{
  const struct session *s = &e->session;
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  return json_pack ("{s:b, s:b, s:s, s:s, s:s?}", "session", s->client != NULL,
                    "tracking", (int)t.tracking, "owner", owner_name (t.owner),
                    "last_end", record_end_name (s->last_end), "destination",
                    s->destination);
}

/* Several disks change their owners all or none: nobody but their migration may
 * end that (R10).  It takes no longer than the gate may be shut.
 */
static bool
is_committing (struct export *e)
{
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  return t.gate == GATE_COMMITTING || t.gate == GATE_COMMITTED;
}

json_t *
command_abort (struct call *call)
{
  struct export *e = call->export;
  struct session *s = &e->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  struct client *victim = s->client;
  json_t *found;
  bool tracking;

  if (is_committing (e))
    return call_fail (call, "Committing",
                      "the disk is changing its owner just now, which "
                      "its migration may still take back; 'status' tells the "
                      "owner in the end");
  found = describe (e);
  tracking = json_is_true (json_object_get (found, "tracking"));
  s->promised = victim == call->client;
  session_end (e);
  /* Still under the lock, so it cannot have been freed (control.h). */
  if (victim && victim != call->client)
    client_disconnect (victim);
  durable_map_void (e); /* R14: before a write goes untracked */
  tracker_stop (e->tracker);
  durable_map_look (e);
  /* Where there was nothing, nothing has been aborted. */
  if ((victim || tracking) && tracker_owner (e->tracker) == OWNER_SOURCE) {
    session_note_end (e, RECORD_END_ABORTED);
    audit_cancel (e);
  }
  nbdkit_debug ("migrate: export \"%s\": aborted, tracking is off", e->name);
  return found;
}

/* Which owner is wished; OWNER_UNKNOWN after call_fail.  There may be only one
 * that can be.
 */
static enum owner
get_owner (struct call *call, enum owner now)
{
  const char *text = now == OWNER_UNKNOWN       ? NULL
                     : now == OWNER_DESTINATION ? "destination"
                                                : "source";

  if (call_string (call, "owner", false, &text) == -1)
    return OWNER_UNKNOWN;
  if (text == NULL) {
    call_fail (call, "BadArgument",
               "who owns the disk is not known: say it, with owner=source or "
               "owner=destination; nbdkit's own messages say why");
    return OWNER_UNKNOWN;
  }
  if (strcmp (text, "source") == 0)
    return OWNER_SOURCE;
  if (strcmp (text, "destination") == 0)
    return OWNER_DESTINATION;
  call_fail (call, "BadArgument",
             "\"owner\" must be source or destination, not \"%s\"", text);
  return OWNER_UNKNOWN;
}

/* 'connected': guests are served now. */
static json_t *
answer (struct export *e, enum owner owner, bool connected)
{
  return json_pack ("{s:s, s:s?, s:b}", "owner", owner_name (owner), "place",
                    place_is_remote (e) ? place_uri (e) : NULL, "connected",
                    (int)connected);
}

/* The disk is in the local place and was another owner's.  R20: every chunk
 * becomes dirty.
 */
static json_t *
serve_from_local (struct call *call)
{
  struct export *e = call->export;
  char *before = e->session.source;

  durable_map_void (e);
  e->session.source = NULL;
  if (owner_record (e, OWNER_SOURCE, RECORD_END_NONE) != OWNER_RECORDED) {
    e->session.source = before;
    return call_fail (call, "Failed",
                      "the owner could not be recorded in the state "
                      "file; nbdkit's own messages say why");
  }
  free (before);
  e->session.last_end = RECORD_END_NONE;
  e->session.latest_in_use = true; /* somebody may have used it */
  tracker_set_place (e->tracker, OWNER_SOURCE, PLACE_LOCAL);
  tracker_set_owner (e->tracker, OWNER_SOURCE, true);
  audit_reopen (e, OWNER_SOURCE);
  return answer (e, OWNER_SOURCE, true);
}

/* Whether the one in that role is in the local place, as far as is known. */
static bool
is_local (const struct export *e, enum owner role)
{
  const char *to = e->session.destination;

  return role == OWNER_SOURCE ? e->session.source == NULL
                              : to != NULL && uri_is_local (to);
}

/* ---- A remote place ---------------------------------------------------- */

/* Its URI, by its role. */
static char **
uri_of (struct export *e, enum owner role)
{
  return role == OWNER_SOURCE ? &e->session.source : &e->session.destination;
}

/* Where it is: said with the command, or remembered.  The caller frees it.
 * NULL after call_fail.
 */
static char *
get_uri (struct call *call, enum owner role)
{
  const char *uri = *uri_of (call->export, role);
  char *copy;

  if (call_string (call, "destination", false, &uri) == -1)
    return NULL;
  if (uri == NULL)
    return call_fail (call, "BadArgument",
                      "the state file does not tell the destination's "
                      "URI: give it, as destination=URI");
  if (strlen (uri) >
      (role == OWNER_SOURCE ? RECORD_SOURCE_MAX : RECORD_URI_MAX))
    return call_fail (call, "BadArgument",
                      "the URI is too long for the state file");
  copy = strdup (uri);
  return copy != NULL ? copy : call_fail (call, "Failed", "no memory");
}

/* Something will be written that no 'begin' has named (R18).  False after
 * call_fail.
 */
static bool
forget_history (struct call *call)
{
  struct export *e = call->export;

  history_forget (&e->session.history);
  if (owner_record_history (e) == 0)
    return true;
  call_fail (call, "Failed",
             "nothing was changed: the history of the destinations "
             "could not be removed; nbdkit's own messages say why");
  return false;
}

/* Whatever happens the session tells what the record says. */
static enum owner_outcome
record_place (struct export *e, enum owner role, const char *uri,
              enum record_end end)
{
  char **kept = uri_of (e, role);
  char *before = *kept;
  enum owner_outcome outcome = OWNER_KEPT;

  *kept = strdup (uri);
  if (*kept != NULL)
    outcome = owner_record (e, role, end);
  if (outcome == OWNER_RECORDED)
    free (before);
  else {
    free (*kept);
    *kept = before;
  }
  return outcome;
}

static json_t *
fail_to_record (struct call *call, enum owner now, enum owner_outcome outcome)
{
  /* It may be either place, and a client is not to get the wrong one. */
  if (outcome == OWNER_UNSURE &&
      (now == OWNER_SOURCE || now == OWNER_DESTINATION))
    tracker_set_owner (call->export->tracker, OWNER_UNKNOWN, false);
  return call_fail (call, "Failed",
                    "the owner could not be recorded in the state "
                    "file; nbdkit's own messages say why");
}

static json_t *
fail_to_connect (struct call *call, const char *why)
{
  const bool given = json_object_get (call->args, "destination") != NULL;

  return call_fail (call, "BadDestination", "nothing was changed: %s%s",
                    why ? why : "no memory",
                    given ? ""
                          : "; if the disk is at another address, give it as "
                            "destination=URI");
}

static json_t *
fail_in_use (struct call *call)
{
  return call_fail (call, "WrongOwner",
                    "the disk is served from %s already, and nothing was "
                    "changed; if the same disk is to be reached at another "
                    "address, end the server at the old one first",
                    place_uri (call->export));
}

/* It must not lead back here.  False after call_fail.  The place of the record
 * may relay: it was a proxy, and was pivoted since.
 */
static bool
leads_elsewhere (struct call *call, enum owner role, const char *uri,
                 const struct remote_peer *peer)
{
  const char *known = *uri_of (call->export, role);

  if (strcmp (peer->id, call->export->id) == 0) {
    call_fail (call, "BadDestination",
               "nothing was changed: %s is this proxy itself, and not "
               "its destination",
               uri);
    return false;
  }
  if (!peer->relays || (known != NULL && strcmp (uri, known) == 0))
    return true;
  call_fail (call, "BadDestination",
             "nothing was changed: %s is a proxy that relays to "
             "another server itself: give the URI of that server",
             uri);
  return false;
}

/* It may take a while, and nobody is to wait for that: the session lock is
 * dropped meanwhile.
 */
static void
close_relay (struct export *e, struct relay *relay)
{
  pthread_mutex_unlock (&e->session.lock);
  relay_close (relay);
  pthread_mutex_lock (&e->session.lock);
}

/* ---- Nobody is connected to it ----------------------------------------- */

/* The session lock is dropped meanwhile.  NULL after call_fail. */
static struct relay *
connect_relay (struct call *call, enum owner role, const char *uri)
{
  const struct relay_waiter waiter = { call_is_alive, call };
  struct export *e = call->export;
  CLEANUP_FREE char *why = NULL;
  struct relay_status status;
  struct relay *relay;

  pthread_mutex_unlock (&e->session.lock);
  relay = place_resume (e, uri, &waiter, &why);
  pthread_mutex_lock (&e->session.lock);
  if (relay == NULL) {
    fail_to_connect (call, why);
    return NULL;
  }
  relay_get_status (relay, &status);
  if (leads_elsewhere (call, role, uri, &status.peer))
    return relay;
  close_relay (e, relay);
  return NULL;
}

/* Meanwhile a client may have been faster, at the address that was known. */
static json_t *
was_faster (struct call *call, enum owner role, const char *uri)
{
  if (strcmp (uri, *uri_of (call->export, role)) != 0)
    return fail_in_use (call);
  return answer (call->export, role, true);
}

/* The relay is taken.  R20: taken back from a handover, every chunk becomes
 * dirty.
 */
static json_t *
install_relay (struct call *call, enum owner now, enum owner role,
               const char *uri, struct relay *relay)
{
  struct export *e = call->export;
  const enum record_end end = role == OWNER_DESTINATION ? RECORD_END_PIVOTED
                              : now == OWNER_SOURCE     ? e->session.last_end
                                                        : RECORD_END_NONE;
  enum owner_outcome outcome;

  if (now != role)
    durable_map_void (e);
  outcome = record_place (e, role, uri, end);
  if (outcome != OWNER_RECORDED) {
    fail_to_record (call, now, outcome);
    close_relay (e, relay);
    return NULL;
  }
  place_set (e, tracker_place (e->tracker, role), relay);
  e->session.last_end = end;
  if (now != role && role == OWNER_SOURCE)
    e->session.latest_in_use = true; /* somebody may have used it */
  tracker_set_owner (e->tracker, role, now != role && role == OWNER_SOURCE);
  if (role == OWNER_DESTINATION)
    tracker_stop (e->tracker); /* as after the pivot that this settles */
  durable_map_look (e);
  relay_unhold (relay, true);
  audit_reopen (e, role);
  return answer (call->export, role, true);
}

/* There is no relay to it.  It must be there: a wrong URI would be known only
 * when the guest finds out.
 */
static json_t *
serve_from_remote (struct call *call, enum owner now, enum owner role)
{
  struct export *e = call->export;
  CLEANUP_FREE char *uri = get_uri (call, role);
  const unsigned place = tracker_place (e->tracker, role);
  struct relay *relay;
  json_t *result;

  if (uri == NULL)
    return NULL;
  relay = connect_relay (call, role, uri);
  if (relay == NULL)
    return NULL;
  if (e->places[place].relay == NULL && forget_history (call))
    return install_relay (call, now, role, uri, relay);
  result = e->places[place].relay == NULL ? NULL : was_faster (call, role, uri);
  close_relay (e, relay);
  return result;
}

/* ---- Guests are connected, and it is lost ------------------------------ */

/* The relay is held and has connected there.  If the record may name either
 * place it stays so, and guests wait, until this is tried again.  Otherwise
 * they are served when nothing can land any more that was sent before the loss.
 */
static json_t *
record_move (struct call *call, enum owner role, const char *uri)
{
  struct export *e = call->export;
  const enum owner_outcome outcome =
    record_place (e, role, uri, e->session.last_end);
  struct relay_status s;

  if (outcome == OWNER_UNSURE)
    return call_fail (call, "Failed",
                      "whether %s or %s is recorded as the place of "
                      "the disk is not sure (nbdkit's own messages say why): "
                      "guests wait, and neither is used, until reopen is "
                      "repeated",
                      place_uri (e), uri);
  relay_unhold (place_relay (e), outcome == OWNER_RECORDED);
  if (outcome == OWNER_KEPT)
    return fail_to_record (call, OWNER_UNKNOWN, outcome);
  audit_reopen (e, role);
  relay_get_status (place_relay (e), &s);
  return answer (call->export, role, s.up);
}

/* A relay stays as long as the disk is there, and only a reopen or a session
 * could change that, which begins only without the other: it may be used while
 * the session lock is dropped.  One that is held already stays so until it is
 * sure where the disk is.
 */
static json_t *
move_place (struct call *call, enum owner role, const char *uri, bool was_held)
{
  const struct relay_waiter waiter = { call_is_alive, call };
  struct export *e = call->export;
  struct relay *relay = place_relay (e);
  CLEANUP_FREE char *why = NULL;
  struct remote_peer peer;
  bool held, connected;

  pthread_mutex_unlock (&e->session.lock);
  held = relay_hold (relay) == 0;
  connected = held && relay_move (relay, uri, &waiter, &peer, &why) == 0;
  pthread_mutex_lock (&e->session.lock);
  if (!held)
    return fail_in_use (call);
  if (!connected)
    fail_to_connect (call, why);
  else if (leads_elsewhere (call, role, uri, &peer) && forget_history (call))
    return record_move (call, role, uri);
  if (!was_held)
    relay_unhold (relay, false);
  return NULL;
}

/* The disk is in the local image, where no URI leads. */
static json_t *
stay_local (struct call *call, enum owner now)
{
  if (json_object_get (call->args, "destination") == NULL)
    return answer (call->export, now, true);
  return call_fail (call, "WrongOwner",
                    "the disk is served from the proxy's local image, and "
                    "nothing was changed; 'nbdmigrate' moves it elsewhere");
}

/* The wish is the owner already.  Another place than the one in use must not be
 * passed over in silence: who names it believes that the disk is there.
 */
static json_t *
stay (struct call *call, enum owner now)
{
  struct export *e = call->export;
  CLEANUP_FREE char *uri = NULL;
  struct relay_status s;

  if (!place_is_remote (e))
    return stay_local (call, now);
  if (place_relay (e) == NULL)
    return serve_from_remote (call, now, now);
  uri = get_uri (call, now);
  if (uri == NULL)
    return NULL;
  relay_get_status (place_relay (e), &s);
  if (s.held || strcmp (uri, place_uri (e)) != 0)
    return move_place (call, now, uri, s.held);
  return answer (e, now, s.up);
}

/* ---- reopen ------------------------------------------------------------ */

/* The URI would be of no use for a local source. */
static bool
destination_fits (struct call *call, enum owner owner)
{
  if (owner == OWNER_DESTINATION || call->export->session.source != NULL ||
      json_object_get (call->args, "destination") == NULL)
    return true;
  call_fail (call, "BadArgument",
             "a destination goes with owner=destination only; nothing "
             "was changed");
  return false;
}

/* The session lock is dropped while it connects; one at a time. */
static json_t *
reopen (struct call *call, enum owner now, enum owner owner)
{
  if (owner == now)
    return stay (call, now);
  /* A handover gave the disk to a guest elsewhere, which writes to the
   * destination if it lives: only the source may be taken back.
   */
  if (now == OWNER_FENCED && owner == OWNER_DESTINATION)
    return call_fail (call, "WrongOwner",
                      "the disk was handed over to a guest elsewhere, "
                      "which may be writing to the destination: it can only "
                      "be taken back to the source");
  if (now == OWNER_DESTINATION || now == OWNER_SOURCE)
    return call_fail (call, "WrongOwner",
                      "the disk is served from the %s, and the %s is "
                      "not up to date",
                      owner_name (now), owner_name (owner));
  if (is_local (call->export, owner))
    return serve_from_local (call);
  return serve_from_remote (call, now, owner);
}

json_t *
command_reopen (struct call *call)
{
  struct session *s = &call->export->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  const enum owner now = tracker_owner (call->export->tracker);
  const enum owner owner = get_owner (call, now);
  json_t *result;

  if (owner == OWNER_UNKNOWN || !destination_fits (call, owner))
    return NULL;
  if (s->client)
    return call_fail (call, "SessionBusy",
                      "a migration of this disk is running");
  if (s->reopening)
    return call_fail (call, "SessionBusy",
                      "another reopen of this disk is under way");
  s->reopening = true;
  result = reopen (call, now, owner);
  s->reopening = false;
  return result;
}
