/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands for anyone: choosing an export, looking at it, wishing. */

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "call.h"
#include "command-mirror.h"
#include "cleanup.h"
#include "uri.h"
#include "base/clock.h"
#include "base/config.h"
#include "export/durable-map.h"
#include "export/owner.h"
#include "export/place.h"
#include "relay/relay.h"
#include "session-sockets.h"
#include "session.h"

/* Whether the client is the session of the export it is attached to. */
static bool
has_session (struct call *call)
{
  struct export *e = call->export;

  if (e == NULL)
    return false;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  return e->session.client == call->client;
}

/* How long 'begin' waits at least (R17), as far as that has begun already. */
static int64_t
settle_ms (struct export *e)
{
  const uint64_t copies = owner_quiet_ms (e), source = place_settle_ms (e);

  return copies > source ? copies : source;
}

/* The same, with what begins with it. */
static int64_t
begin_ms (struct export *e)
{
  const uint64_t wait_ms = session_wait_ms (e);
  const uint64_t most_ms =
    wait_ms < PLACE_QUIET_MAX_MS ? wait_ms : PLACE_QUIET_MAX_MS;
  const int64_t now_ms = settle_ms (e);

  return now_ms > (int64_t)most_ms ? now_ms : (int64_t)most_ms;
}

json_t *
command_attach (struct call *call)
{
  const char *name = "";
  struct relay_status s = { .up = false };
  struct export *e;

  if (call_string (call, "export", false, &name) == -1)
    return NULL;
  if (has_session (call))
    return call_fail (call, "SessionBusy",
                      "this connection is the session of export \"%s\": end "
                      "that first",
                      call->export->name);
  e = export_find_or_load (name);
  if (e == NULL)
    return call_fail (call, "ExportNotFound",
                      "no client has opened an export \"%s\" yet", name);
  call->client->export = e;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  if (place_is_remote (e) && place_relay (e) != NULL)
    relay_get_status (place_relay (e), &s);
  return json_pack (
    "{s:s, s:s, s:I, s:I, s:s, s:s?, s:s, s:s?, s:I, s:I, s:b}", "export",
    e->name, "id", e->id, "disk_bytes", (json_int_t)e->disk_bytes,
    "chunk_bytes", (json_int_t)e->chunk_bytes, "owner",
    owner_name (tracker_owner (e->tracker)), "place",
    place_is_remote (e) ? place_uri (e) : NULL, "place_id", s.peer.id,
    "destination", e->session.destination, "settle_ms",
    (json_int_t)begin_ms (e), "max_gate_ms", (json_int_t)config.max_gate_ms,
    "session", e->session.client != NULL);
}

/* The sum of a counter's lanes, by its place in the struct. */
static json_int_t
sum (const struct export *e, size_t at)
{
  json_int_t n = 0;

  for (unsigned i = 0; i < LANES; i++)
    n += (json_int_t)__atomic_load_n (
      (const uint64_t *)((const char *)&e->guest[i] + at), __ATOMIC_RELAXED);
  return n;
}

static json_t *
guest_status (const struct export *e)
{
#define SUM(member) sum (e, offsetof (struct guest_counters, member))
  return json_pack ("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "reads",
                    SUM (reads), "read_bytes", SUM (read_bytes), "writes",
                    SUM (writes), "written_bytes", SUM (written_bytes),
                    "zeroes", SUM (zeroes), "zeroed_bytes", SUM (zeroed_bytes),
                    "trims", SUM (trims), "trimmed_bytes", SUM (trimmed_bytes),
                    "flushes", SUM (flushes));
#undef SUM
}

static const char *
gate_name (enum gate_state gate)
{
  static const char *const names[] = {
    [GATE_OPEN] = "open",
    [GATE_CLOSED] = "closed",
    [GATE_COMMITTING] = "committing",
    [GATE_COMMITTED] = "committed",
  };

  return names[gate];
}

static json_t *
tracker_status (struct tracker *t)
{
  struct tracker_status s;

  tracker_get_status (t, &s);

  const struct {
    const char *name;
    uint64_t value;
  } numbers[] = {
    { "disk_bytes", s.disk_bytes },
    { "chunk_bytes", s.chunk_bytes },
    { "epoch", s.epoch },
    { "dirty_bytes", s.dirty_bytes },
    { "leased_bytes", s.leased_bytes },
    { "unflushed_bytes", s.unflushed_bytes },
    { "quarantined_bytes", s.quarantined_bytes },
    { "quarantine_ms", s.quarantine_ms },
    { "remaining_bytes", s.remaining_bytes },
    { "in_flight_bytes", s.in_flight_bytes },
    { "in_flight_requests", s.in_flight_requests },
    { "hot_bytes", s.hot_bytes },
    { "guest_bytes", s.guest_bytes },
    { "changed_bytes", s.dirt.changed },
    { "changed_bytes_per_second", s.dirt_rate.changed },
    { "touched_bytes", s.dirt.touched },
    { "touched_bytes_per_second", s.dirt_rate.touched },
    { "dirtied_bytes", s.dirt.dirtied },
    { "dirty_bytes_per_second", s.dirt_rate.dirtied },
    { "redirtied_bytes", s.dirt.redirtied },
    { "redirtied_bytes_per_second", s.dirt_rate.redirtied },
    { "gates_expired", s.gates_expired },
    { "last_pause_us", s.last_pause_us },
  };
  json_t *json =
    json_pack ("{s:s, s:b, s:s}", "owner", owner_name (s.owner), "tracking",
               (int)s.tracking, "gate", gate_name (s.gate));

  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    if (json_object_set_new (json, numbers[i].name,
                             json_integer (numbers[i].value)) == -1) {
      json_decref (json);
      return NULL;
    }
  return json;
}

/* What is guarded by the session lock.  Copies: the answer is written after
 * the lock was dropped.
 */
static json_t *
session_status (struct export *e)
{
  struct session *s = &e->session;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);

  session_sockets_look (e);
  return json_pack (
    "{s:s, s:s, s:b, s:s?, s:s?, s:s?, s:s?, s:s, s:b, s:i, s:I, s:I, s:I, "
    "s:I, s:I, s:o, s:o}",
    "export", e->name, "id", e->id, "session", s->client != NULL, "place",
    place_is_remote (e) ? place_uri (e) : NULL, "source", s->source,
    "destination", s->destination, "promise", s->promise, "last_end",
    record_end_name (s->last_end), "untouched", (int)s->untouched,
    "old_connections", (int)session_sockets_late (e), "unanswered_ms",
    (json_int_t)session_sockets_late_ms (e), "source_late_ms",
    (json_int_t)place_late_ms (e), "source_delay_ms",
    (json_int_t)place_delay_ms (e, OWNER_SOURCE), "quiet_ms",
    (json_int_t)settle_ms (e), "record_us", (json_int_t)e->record_us,
    "progress", s->progress ? json_deep_copy (s->progress) : json_null (),
    "wishes", s->wishes ? json_deep_copy (s->wishes) : json_object ());
}

#define UNKNOWN_MAX 64 /* ranges that are listed */

static void
add_unknown (void *opaque, uint64_t offset, uint64_t length, int64_t left_ms)
{
  json_t *list = opaque;

  if (json_array_size (list) < UNKNOWN_MAX)
    json_array_append_new (list, json_pack ("{s:I, s:I, s:I}", "offset",
                                            (json_int_t)offset, "length",
                                            (json_int_t)length, "left_ms",
                                            (json_int_t)left_ms));
}

static json_t *
unknown_status (struct relay *relay)
{
  json_t *list = json_array ();

  if (list != NULL)
    relay_unknown (relay, add_unknown, list);
  return list;
}

/* The way to the remote place where the disk is, otherwise to the one that it
 * is about to go to, if there is one.
 */
static json_t *
relay_status (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  struct relay *relay =
    place_is_remote (e) ? place_relay (e) : place_destination (e);
  struct relay_status s;

  if (relay == NULL)
    return json_null ();
  relay_get_status (relay, &s);
  return json_pack (
    "{s:b, s:b, s:b, s:I, s:I, s:I, s:i, s:i, s:I, s:I, s:I, s:o}", "up",
    (int)s.up, "held", (int)s.held, "failing", (int)s.failing, "silent_ms",
    (json_int_t)s.silent_ms, "oldest_request_ms",
    (json_int_t)s.oldest_request_ms, "longest_answer_ms",
    (json_int_t)s.longest_answer_ms, "connections", (int)s.connections,
    "requests_in_flight", (int)s.requests_in_flight, "losses",
    (json_int_t)s.losses, "replayed_writes", (json_int_t)s.replayed_writes,
    "unflushed_log_bytes", (json_int_t)s.log_used_bytes, "unknown",
    unknown_status (relay));
}

static json_t *
refusal_status (struct export *e)
{
  CLEANUP_FREE char *text = local_refusal (e);

  return text ? json_string (text) : json_null ();
}

static json_t *
throttle_status (struct export *e)
{
  struct throttle_status s;

  throttle_get_status (&e->throttle, &s);
  return json_pack (
    "{s:I, s:i, s:I, s:I, s:I, s:I}", "bytes_per_second", (json_int_t)s.rate,
    "waiting_requests", (int)s.waiting, "charged_bytes", (json_int_t)s.charged,
    "delayed_requests", (json_int_t)s.delayed_requests, "delayed_us",
    (json_int_t)s.delayed_us, "longest_us", (json_int_t)s.longest_us);
}

static json_t *
latency_status (struct export *e)
{
  struct latency_status s;

  latency_get_status (&e->latency, clock_ms (), &s);

  const uint64_t requests =
    s.kinds[LATENCY_READ].all + s.kinds[LATENCY_WRITE].all + s.others;

  return json_pack (
    "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "requests",
    (json_int_t)requests, "at_us", (json_int_t)clock_us (), "window_ms",
    (json_int_t)s.window_ms, "reads",
    (json_int_t)s.kinds[LATENCY_READ].requests, "reads_us",
    (json_int_t)s.kinds[LATENCY_READ].mean_us, "reads_99_us",
    (json_int_t)s.kinds[LATENCY_READ].high_us, "writes",
    (json_int_t)s.kinds[LATENCY_WRITE].requests, "writes_us",
    (json_int_t)s.kinds[LATENCY_WRITE].mean_us, "writes_99_us",
    (json_int_t)s.kinds[LATENCY_WRITE].high_us, "throttle_us",
    (json_int_t)s.throttle_us, "gate_us", (json_int_t)s.gate_us);
}

static json_t *
dirty_map_status (struct export *e)
{
  static const char *const lives[] = {
    [DIRTY_MAP_NONE] = "none",
    [DIRTY_MAP_LIVE] = "live",
    [DIRTY_MAP_STUCK] = "stuck",
  };
  struct dirty_map_status s;

  durable_map_get_status (e, &s);
  return json_pack ("{s:s, s:I, s:I, s:I, s:I}", "state", lives[s.life],
                    "marked_bytes", (json_int_t)s.marked_bytes, "first_touches",
                    (json_int_t)s.first_touches, "syncs", (json_int_t)s.syncs,
                    "cleared_chunks", (json_int_t)s.cleared);
}

json_t *
command_status (struct call *call)
{
  struct export *e = call->export;
  /* In this order: with no session, the owner that follows is final (R11). */
  json_t *json = session_status (e);
  CLEANUP_JSON json_t *tracker = tracker_status (e->tracker);

  if (json == NULL || json_object_update (json, tracker) == -1 ||
      json_object_set_new (json, "relay", relay_status (e)) == -1 ||
      json_object_set_new (json, "throttle", throttle_status (e)) == -1 ||
      json_object_set_new (json, "guest_latency", latency_status (e)) == -1 ||
      json_object_set_new (json, "local_refusal", refusal_status (e)) == -1 ||
      json_object_set_new (json, "mirror", mirror_status (e)) == -1 ||
      json_object_set_new (json, "dirty_map", dirty_map_status (e)) == -1 ||
      json_object_set_new (json, "guest", guest_status (e)) == -1) {
    json_decref (json);
    return NULL;
  }
  return json;
}

/* ---- wish -------------------------------------------------------------- */

static const char *const wish_names[] = {
  "rate", "background", "finish", "max_pause_ms", "converge", "cancel", "pause"
};
#define NR_WISHES (sizeof wish_names / sizeof wish_names[0])
#define BACKGROUND_MAX 100

/* What nobody would read is not accepted in silence. */
static int
check_names (struct call *call)
{
  const char *name;
  json_t *value;

  json_object_foreach (call->args, name, value) {
    size_t i = 0;

    while (i < NR_WISHES && strcmp (name, wish_names[i]) != 0)
      i++;
    if (i == NR_WISHES) {
      call_fail (call, "BadArgument", "nothing is known of a wish \"%.40s\"",
                 name);
      return -1;
    }
  }
  return 0;
}

static int
check_converge (struct call *call)
{
  static const char *const names[] = { "auto", "mirror", "throttle", "off" };
  const char *name = NULL;

  if (call_string (call, "converge", false, &name) == -1)
    return -1;
  for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++)
    if (strcmp (name, names[i]) == 0)
      return 0;
  if (name)
    call_fail (call, "BadArgument",
               "\"converge\" must be auto, mirror, throttle or off, not "
               "\"%.40s\"",
               name);
  return name ? -1 : 0;
}

static int
check_background (struct call *call)
{
  uint64_t background = 0;

  if (call_u64 (call, "background", false, &background) == -1)
    return -1;
  if (background <= BACKGROUND_MAX)
    return 0;
  call_fail (call, "BadArgument",
             "\"background\": %" PRIu64 " must be from 0 to %d", background,
             BACKGROUND_MAX);
  return -1;
}

static int
check_wishes (struct call *call)
{
  const char *finish;
  uint64_t number;
  bool cancel = true, pause;

  if (check_names (call) == -1 ||
      call_u64 (call, "rate", false, &number) == -1 ||
      call_u64 (call, "max_pause_ms", false, &number) == -1 ||
      check_background (call) == -1 ||
      call_finish (call, false, &finish) == -1 || check_converge (call) == -1 ||
      call_bool (call, "cancel", false, &cancel) == -1 ||
      call_bool (call, "pause", false, &pause) == -1)
    return -1;
  if (!cancel)
    call_fail (call, "BadArgument", "\"cancel\" can only be true");
  return call->error ? -1 : 0;
}

static int
keep_wishes (struct session *s, const json_t *args)
{
  if (s->wishes == NULL && (s->wishes = json_object ()) == NULL)
    return -1;
  for (size_t i = 0; i < NR_WISHES; i++) {
    json_t *value = json_object_get (args, wish_names[i]);

    if (value && json_object_set (s->wishes, wish_names[i], value) == -1)
      return -1;
  }
  return 0;
}

/* The session has committed, or is doing so. */
static bool
is_too_late (struct export *e)
{
  struct tracker_status t;

  tracker_get_status (e->tracker, &t);
  return e->session.client != NULL &&
         (e->session.last_end != RECORD_END_NONE || t.gate == GATE_COMMITTING ||
          t.gate == GATE_COMMITTED);
}

/* As 'nbdmigrate --finish=handover ... local:' is: nobody else can serve it. */
static bool
is_local_handover (struct call *call)
{
  const struct session *s = &call->export->session;
  const char *finish =
    json_string_value (json_object_get (call->args, "finish"));

  return finish != NULL && strcmp (finish, "handover") == 0 &&
         s->client != NULL && uri_is_local (s->destination);
}

json_t *
command_wish (struct call *call)
{
  struct session *s = &call->export->session;

  if (check_wishes (call) == -1)
    return NULL;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  if (is_too_late (call->export))
    return call_fail (call, "Committing",
                      "too late: the disk is being cut over, or was; "
                      "'status' tells the owner in the end");
  if (is_local_handover (call))
    return call_fail (call, "BadArgument",
                      "the disk comes back to the proxy's local image, which "
                      "has no other server to hand the guest over to");
  if (s->client && keep_wishes (s, call->args) == -1)
    return NULL;
  return json_pack ("{s:b}", "session", s->client != NULL);
}
