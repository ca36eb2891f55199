/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening one disk of a migration and checking everything about it.
 *
 * Nothing is written before disk_open has succeeded for all disks.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "announcement.h"
#include "cleanup.h"
#include "disk/disk.h"
#include "nbd-limits.h"
#include "protocol.h"
#include "proxy/proxy.h"
#include "base/say.h"
#include "units.h"
#include "uri.h"

/* To each server, of which as many are used as help. */
#define CONNECTIONS 8
#define CONNECTIONS_SHARED 2
#define IN_FLIGHT_BYTES (56 * 1024 * 1024) /* all disks together */
/* Free pieces may be too short. */
#define BUFFER_BYTES (64 * 1024 * 1024)
#define MANY_DISKS 8
#define RELAY_CONNECTIONS 4 /* that the proxy makes, if there is room */

#define READER_CONNECT_MS 2000

const struct connection_options disk_source_options = { .allocation = true };

/* Where it says that there are zeroes no hole is written, and where there is
 * data --destination-is-zero is doubted first.  To ask for that costs a round
 * trip a connection, and one is enough.
 */
static struct connection_options
first_options (const struct disk *d)
{
  return (struct connection_options){
    .allocation =
      d->settings->options->destination_is_zero || d->source->has_allocation,
  };
}

const struct connection_options disk_more_options = { .allocation = false };

static const struct connection_options base_options = {
  .depth_context = COPIER_DEPTH_CONTEXT,
};

/* ---- opening: the source ----------------------------------------------- */

/* libnbd's words do not tell what to do. */
static const char *
server_hint (const char *why)
{
  if (proxy_unreachable (why))
    return "; is that server running?";
  if (strstr (why, "requires TLS") != NULL)
    return "; a URI with TLS begins with nbds:// or nbds+unix://";
  if (strstr (why, "disconnected unexpectedly") != NULL)
    return "; what that server prints may tell why";
  return "";
}

static const char *
connect_hint (const char *what, const char *why)
{
  if (strcmp (what, "source") == 0)
    return proxy_hint (why);
  return server_hint (why);
}

static int
connect_failed (struct disk *d, const char *uri, const char *what, char *why)
{
  const int err = errno;

  loop_run_once (d->settings->loop,
                 0); /* was it a signal that ended the wait? */
  if (why == NULL)
    failure_note (d->settings->failure, "connecting to the %s %s: %s", what,
                  uri, strerror (err));
  else
    failure_note (d->settings->failure, "connecting to the %s %s: %s%s", what,
                  uri, why, connect_hint (what, why));
  free (why);
  return -1;
}

static int
open_source (struct disk *d)
{
  char *why;

  d->source =
    endpoint_open (d->settings->loop, d->pair->source, &disk_source_options,
                   d->settings->cancel_fd, &why);
  if (d->source == NULL)
    return connect_failed (d, d->pair->source, "source", why);
  wire_count (d->source, &d->from_wire);
  d->source->is_here = true; /* where its control socket is */
  d->disk_bytes = d->source->disk_bytes;
  if (d->settings->options->control != NULL)
    d->control_path = copy_text (d->settings->options->control);
  else
    d->control_path = endpoint_announcement (d->source, ANNOUNCE_CONTROL);
  if (d->control_path != NULL)
    return 0;
  failure_note (
    d->settings->failure,
    "the source %s announces no control socket: it must be served by "
    "nbdkit --filter=migrate (or give --control=SOCKET)",
    d->pair->source);
  return -1;
}

static int
open_control (struct disk *d)
{
  char *why;

  d->control = control_open (d->settings->loop, d->control_path,
                             CONTROL_GREETING_MS, &why);
  if (d->control != NULL)
    return 0;
  failure_note (
    d->settings->failure,
    "connecting to the control socket %s of %s: %s; nbdmigrate must "
    "run on the proxy's host, as its user or root",
    d->control_path, d->pair->source, why ? why : strerror (errno));
  free (why);
  return -1;
}

int
disk_fail_is_there (struct disk *d)
{
  const char *source = d->pair->source, *destination = d->pair->destination;

  d->is_there = true;
  if (d->place == NULL)
    failure_note (d->settings->failure,
                  "the disk %s is in the proxy's local image already", source);
  else if (strcmp (d->place, destination) == 0)
    failure_note (d->settings->failure, "the disk %s is at %s already", source,
                  d->place);
  else
    failure_note (d->settings->failure,
                  "the disk %s is at %s already, to which %s leads, too",
                  source, d->place, destination);
  return -1;
}

/* Nobody is: after a handover, or the proxy cannot tell who owns it. */
static int
fail_not_served (struct disk *d, const json_t *attached)
{
  const char *to =
    json_string_value (json_object_get (attached, "destination"));

  d->owned_elsewhere = true;
  failure_note (d->settings->failure,
                "the disk %s was handed over to %s, and its proxy serves it to "
                "nobody: move it on from there; or, if no guest has used it "
                "there, take it back first with 'nbdmigrate reopen %s'",
                d->pair->source, to ? to : "a destination", d->pair->source);
  return -1;
}

static void
note_place (struct disk *d, const json_t *attached)
{
  const char *place = json_string_value (json_object_get (attached, "place"));
  const char *id = json_string_value (json_object_get (attached, "place_id"));

  d->place = place ? copy_text (place) : NULL;
  d->place_id = id && *id != '\0' ? copy_text (id) : NULL;
  protocol_get_u64 (attached, "settle_ms", &d->settle_ms);
}

/* Is this socket about the disk that the URI serves? */
static int
check_attached (struct disk *d, const struct control_answer *a)
{
  const bool named = d->settings->options->control != NULL;
  CLEANUP_FREE char *foreign =
    proxy_is_foreign (d->source, d->control_path, named, a->value);
  const char *owner = json_string_value (json_object_get (a->value, "owner"));
  uint64_t disk_bytes = 0;

  if (protocol_get_u64 (a->value, "disk_bytes", &disk_bytes) != 1 ||
      protocol_get_u64 (a->value, "chunk_bytes", &d->chunk_bytes) != 1 ||
      protocol_get_u64 (a->value, "max_gate_ms", &d->max_gate_ms) != 1 ||
      owner == NULL || d->chunk_bytes == 0) {
    failure_note (d->settings->failure,
                  "the control socket %s of %s gave an incomplete answer to "
                  "attach",
                  d->control_path, d->pair->source);
    return -1;
  }
  if (foreign != NULL) {
    failure_note (d->settings->failure, "finding the disk of %s: %s",
                  d->pair->source, foreign);
    return -1;
  }
  if (disk_bytes != d->disk_bytes) {
    failure_note (
      d->settings->failure,
      "the control socket %s belongs to another disk than the source "
      "%s: it has %" PRIu64 " bytes, the source %" PRIu64
      "; leave --control out to use the announced socket",
      d->control_path, d->pair->source, disk_bytes, d->disk_bytes);
    return -1;
  }
  d->attached = true;
  if (strcmp (owner, "source") != 0 && strcmp (owner, "destination") != 0)
    return fail_not_served (d, a->value);
  note_place (d, a->value);
  if (strcmp (d->place ? d->place : URI_LOCAL, d->pair->destination) == 0)
    return disk_fail_is_there (d);
  return 0;
}

static int
check_pause (struct disk *d, const char *option, uint64_t ms)
{
  char asked[UNITS_TEXT_MAX], allowed[UNITS_TEXT_MAX];

  if (ms <= d->max_gate_ms)
    return 0;
  failure_note (d->settings->failure,
                "%s of %s is above what the proxy of %s allows: %s "
                "(migrate-max-gate)",
                option, units_format_ms (asked, ms), d->pair->source,
                units_format_ms (allowed, d->max_gate_ms));
  return -1;
}

static int
attach (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (d->control, "attach",
                json_pack ("{s:s}", "export", d->source->export_name), 5000,
                &a);
  if (a.value == NULL) {
    failure_note (d->settings->failure,
                  "choosing the export '%s' on the control socket %s of %s: %s",
                  d->source->export_name, d->control_path, d->pair->source,
                  a.desc);
    return -1;
  }
  if (check_attached (d, &a) == -1)
    return -1;
  if (check_pause (d, "--max-pause", d->settings->options->max_pause_ms) == -1)
    return -1;
  return check_pause (d, "--max-pause-late",
                      d->settings->options->max_pause_late_ms);
}

/* ---- opening: the destination ------------------------------------------ */

static int
refuse_destination (struct disk *d, const char *why)
{
  failure_note (d->settings->failure,
                "the destination %s cannot be used for %s: %s",
                d->pair->destination, d->pair->source, why);
  return -1;
}

static int
check_size (struct disk *d)
{
  const struct endpoint *e = d->destination;
  const uint64_t block = e->minimum_bytes;
  const uint64_t needed = (d->disk_bytes + block - 1) / block * block;
  char a[UNITS_TEXT_MAX], b[UNITS_TEXT_MAX];

  if (e->disk_bytes < d->disk_bytes) {
    failure_note (d->settings->failure,
                  "the destination %s is too small for %s: it has %" PRIu64
                  " bytes (%s), the source %" PRIu64 " (%s)",
                  d->pair->destination, d->pair->source, e->disk_bytes,
                  units_format_bytes (a, e->disk_bytes), d->disk_bytes,
                  units_format_bytes (b, d->disk_bytes));
    return -1;
  }
  if (e->disk_bytes < needed)
    return refuse_destination (d, "its minimum block does not divide the "
                                  "disk's end, which could not be written");
  if (!nbd_minimum_is_valid (block))
    return refuse_destination (d, "its minimum block is no power of two of at "
                                  "most 64 KiB, as the NBD protocol demands");
  if (block > d->chunk_bytes) /* R19: 'begin' asks for it */
    d->chunk_bytes = block;
  if (e->disk_bytes > d->disk_bytes)
    say_info ("the destination %s is larger than the source: its last %" PRIu64
              " bytes stay untouched",
              d->pair->destination, e->disk_bytes - d->disk_bytes);
  return 0;
}

static int
check_destination (struct disk *d)
{
  const struct endpoint *e = d->destination;
  CLEANUP_FREE char *id = endpoint_announcement (e, ANNOUNCE_ID);
  CLEANUP_FREE char *source_id = endpoint_announcement (d->source, ANNOUNCE_ID);

  CLEANUP_FREE char *relays = endpoint_announcement (e, ANNOUNCE_RELAY);

  if (id != NULL && source_id != NULL && strcmp (id, source_id) == 0)
    return refuse_destination (d, "it is the source itself");
  if (id != NULL && d->place_id != NULL && strcmp (id, d->place_id) == 0)
    return disk_fail_is_there (d);
  /* To the source, maybe. */
  if (relays != NULL)
    return refuse_destination (d, "it is a proxy that relays to another server "
                                  "since a pivot; name a server that holds a "
                                  "disk");
  if (e->read_only)
    return refuse_destination (d, "it is read-only; export it writable");
  if (!e->can_flush)
    return refuse_destination (d, "its server does not offer flush, so no "
                                  "write could be known to be durable");
  return check_size (d);
}

/* What the server says is only that there is no such export. */
static void
note_local_refusal (struct disk *d, char **why)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  const char *text;

  control_wait (d->control, "status", CONTROL_NO_ARGUMENTS, 5000, &a);
  text = json_string_value (json_object_get (a.value, "local_refusal"));
  if (text == NULL)
    return;
  free (*why);
  if (asprintf (why, "the disk cannot come back to the proxy's local image: %s",
                text) == -1)
    *why = NULL;
}

unsigned
disk_connections (const struct disk *d)
{
  return d->settings->nr_disks < MANY_DISKS ? CONNECTIONS : CONNECTIONS / 4;
}

/* Others need connections to it, too: the relay of a pivot. */
static struct endpoint_wanted
destination_wanted (const struct disk *d)
{
  const struct options *o = d->settings->options;
  const bool relay = !o->connections && o->finish == FINISH_PIVOT;

  return (struct endpoint_wanted){
    .connections = o->connections ? o->connections : disk_connections (d),
    .others = relay ? RELAY_CONNECTIONS : 0,
  };
}

/* Where there are other disks to be opened first, what is begun would wait
 * longer than a server may like.
 */
static unsigned
connections_ahead (const struct disk *d)
{
  const struct endpoint_wanted wanted = destination_wanted (d);

  return d->settings->nr_disks == 1 ? wanted.connections - 1 + wanted.others
                                    : 0;
}

/* It may be waiting for that destination. */
static bool
is_being_moved (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (d->control, "status", CONTROL_NO_ARGUMENTS, 5000, &a);
  return json_is_true (json_object_get (a.value, "session"));
}

static int
open_destination (struct disk *d)
{
  const struct connection_options options = first_options (d);
  char *why;

  d->destination = endpoint_open_ahead (
    d->settings->loop, d->pair->connect, &options, &disk_more_options,
    connections_ahead (d), d->settings->cancel_fd, &why);
  if (d->destination == NULL) {
    if (is_being_moved (d)) {
      failure_note (d->settings->failure,
                    "starting the migration of %s: another migration of this "
                    "disk is running, see 'nbdmigrate status' (and connecting "
                    "to %s: %s)",
                    d->pair->source, d->pair->destination,
                    why ? why : "no memory");
      free (why);
      return -1;
    }
    if (uri_is_local (d->pair->destination))
      note_local_refusal (d, &why);
    return connect_failed (d, d->pair->destination, "destination", why);
  }
  wire_count (d->destination, &d->to_wire);
  return check_destination (d);
}

/* ---- opening: the base ------------------------------------------------- */

static int
open_base (struct disk *d)
{
  const char *uri = d->base_uri;
  char *why;

  if (uri == NULL)
    return 0;
  d->base = endpoint_open (d->settings->loop, uri, &base_options,
                           d->settings->cancel_fd, &why);
  if (d->base == NULL)
    return connect_failed (d, uri, "shared base", why);
  if (!d->base->has_depth) {
    failure_note (
      d->settings->failure,
      "the shared base %s of %s does not offer " COPIER_DEPTH_CONTEXT
      "; start qemu-nbd with --allocation-depth",
      uri, d->pair->source);
    return -1;
  }
  if (d->base->disk_bytes != d->disk_bytes) {
    failure_note (d->settings->failure,
                  "the shared base %s has %" PRIu64 " bytes, the source %s has "
                  "%" PRIu64
                  ": it must be the server that the proxy reads from",
                  uri, d->base->disk_bytes, d->pair->source, d->disk_bytes);
    return -1;
  }
  return 0;
}

int
disk_open (struct disk *d, const struct pair *pair, const char *base_uri,
           const struct disk_settings *settings)
{
  d->pair = pair;
  d->base_uri = base_uri;
  d->settings = settings;
  if (open_source (d) == -1 || open_control (d) == -1 || attach (d) == -1 ||
      open_destination (d) == -1)
    return -1;
  return open_base (d);
}

/* ---- more connections -------------------------------------------------- */

/* The server's words may be that there is no such export. */
static int
too_few (struct disk *d, const struct endpoint *e, const char *what, char *why)
{
  failure_note (d->settings->failure,
                "connecting to the %s %s: %u connection%s could be had, and "
                "not as many as --connections asks for: %s",
                what, e->uri, e->nr_connections,
                e->nr_connections == 1 ? "" : "s", why);
  free (why);
  return -1;
}

/* A server that admits fewer connections is content with fewer; but what was
 * written over connections to different disks would be spread over them, and
 * even one connection might be to the wrong one.
 */
static int
widen_one (struct disk *d, struct endpoint *e, const char *what,
           const struct connection_options *options,
           const struct endpoint_wanted *wanted)
{
  enum endpoint_widened widened;
  char *why;

  widened = endpoint_widen (e, d->settings->loop, options, wanted,
                            d->settings->cancel_fd, &why);
  if (widened == ENDPOINT_WIDENED) {
    free (why);
    return 0;
  }
  if (widened == ENDPOINT_DIFFERS || why == NULL ||
      strcmp (why, "interrupted") == 0)
    return connect_failed (d, e->uri, what, why);
  if (d->settings->options->connections != 0)
    return too_few (d, e, what, why);
  if (strstr (why, strerror (EMFILE)) != NULL)
    say_info ("nbdmigrate may not open enough files (ulimit -n) for %u "
              "connections to the %s %s: going on with %u (%s)",
              wanted->connections + wanted->others, what, e->uri,
              e->nr_connections, why);
  else
    say_info ("the %s %s admits fewer than %u connections: going on with %u "
              "(%s)",
              what, e->uri, wanted->connections + wanted->others,
              e->nr_connections, why);
  if (e == d->destination)
    d->destination_is_full = true;
  free (why);
  return 0;
}

/* Answers that carry no data need few connections: one for the copying, and one
 * for questions beside it.  Each is another open of the source's disk, which on
 * some file systems (tmpfs) looks for the first hole in all of it.
 *
 * Others need some, too: a guest that connects again.  Who asks for a number
 * gets it.
 */
static int
widen (struct disk *d)
{
  const struct options *o = d->settings->options;
  const unsigned chosen = disk_connections (d);
  const struct endpoint_wanted from = {
    .connections = o->connections          ? o->connections
                   : d->not_shared == NULL ? CONNECTIONS_SHARED
                                           : chosen,
    .others = o->connections ? 0 : 1,
  };
  const struct endpoint_wanted to = destination_wanted (d);

  if (widen_one (d, d->source, "source", &disk_source_options, &from) == -1)
    return -1;
  return widen_one (d, d->destination, "destination", &disk_more_options, &to);
}

/* ---- the reader -------------------------------------------------------- */

/* What is written over a connection may be seen over that one only: a server
 * can give each client a disk of its own.  So what is said of the destination
 * is read over one that never writes.  After a pivot it is the proxy that has
 * such connections, but --verify may not stop the guest's own for long.
 */
static bool
needs_reader (const struct options *o)
{
  return o->finish != FINISH_PIVOT || o->verify || o->digest;
}

/* Of several connections a part: a server of many clients has no place for
 * more, and the copying misses them little.
 */
static unsigned
readers_of (const struct disk *d)
{
  const unsigned connections = d->destination->nr_connections;

  if (connections < 4)
    return d->destination_is_full && connections > 1 ? 1 : 0;
  return d->settings->options->verify ? connections / 4 : 1;
}

/* One more.  Many servers admit one client only, and let others wait without a
 * word: not for long, measured by how long the first connection took.
 */
static int
open_reader (struct disk *d)
{
  struct connection_options options = first_options (d);
  char *why;

  options.connect_ms = READER_CONNECT_MS;
  if (d->destination->connect_us > READER_CONNECT_MS * INT64_C (1000) / 8)
    options.connect_ms = (unsigned)(d->destination->connect_us * 8 / 1000);
  d->reader = endpoint_open (d->settings->loop, d->pair->connect, &options,
                             d->settings->cancel_fd, &why);
  loop_run_once (d->settings->loop,
                 0); /* was it a signal that ended the wait? */
  if (d->reader == NULL) {
    free (why);
    return d->settings->failure->stop == STOP_NO ? 0 : -1;
  }
  wire_count (d->reader, &d->to_wire);
  if (!endpoint_differs (d->destination, d->reader, &why))
    return 0;
  endpoint_close (d->reader);
  d->reader = NULL;
  return connect_failed (d, d->pair->destination, "destination", why);
}

static int
make_reader (struct disk *d)
{
  const struct options *o = d->settings->options;
  const unsigned n = readers_of (d);

  if (!needs_reader (o))
    return 0;
  if (n == 0)
    return d->destination_is_full ? 0 : open_reader (d);
  d->reader = endpoint_split (d->destination, n);
  return 0;
}

struct endpoint *
disk_reader (const struct disk *d)
{
  return d->reader != NULL && d->reader->nr_connections > 0 &&
             endpoint_broken (d->reader) == NULL
           ? d->reader
           : d->destination;
}

int
disk_widen_reader (struct disk *d)
{
  const struct endpoint_wanted wanted = {
    .connections = d->destination->nr_connections,
  };

  if (disk_reader (d) == d->destination)
    return 0;
  endpoint_narrow (d->destination);
  return widen_one (d, d->reader, "destination", &disk_more_options, &wanted);
}

static int
make_copier (struct disk *d)
{
  const struct options *o = d->settings->options;
  const struct copier_options options = {
    .chunk_bytes = d->chunk_bytes,
    .request_bytes = o->request_bytes,
    .depth = o->depth,
    .all_connections = o->connections != 0,
    .in_flight_bytes = IN_FLIGHT_BYTES / d->settings->nr_disks,
    .buffer_bytes = BUFFER_BYTES / d->settings->nr_disks,
    .destination_is_zero = o->destination_is_zero,
    .base = d->base,
    .reader = d->reader,
    .bucket = d->settings->bucket,
    .sample_seed = d->settings->sample_seed,
    .ended = disk_part_ended,
    .ask = disk_ask_extents,
    .distrusted = disk_distrust,
    .not_blank = disk_not_blank,
    .wrote = disk_wrote,
    .opaque = d,
  };

  const uint64_t chunks = (d->disk_bytes + d->chunk_bytes - 1) / d->chunk_bytes;

  if (o->verify && bitmap_init (&d->unverified, chunks) == -1) {
    failure_note (d->settings->failure, "preparing to verify %s: %s",
                  d->pair->source, strerror (errno));
    return -1;
  }
  d->copier =
    copier_new (d->settings->loop, d->source, d->destination, &options);
  if (d->copier == NULL)
    failure_note (d->settings->failure, "preparing to copy %s: %s",
                  d->pair->source, strerror (errno));
  return d->copier ? 0 : -1;
}

/* Why there is nothing to go on from, by how the latest migration ended, and
 * whether it had the same destination.
 */
static const char *
why_no_detach (const char *last_end, bool same)
{
  if (strcmp (last_end, "detached") == 0)
    return "its proxy was started again since the detach";
  if (strcmp (last_end, "aborted") == 0)
    return "'cancel' has dropped what was tracked";
  if (strcmp (last_end, "interrupted") == 0 && same)
    return "the run before was interrupted, and it had other options or its "
           "proxy was started again since";
  if (strcmp (last_end, "interrupted") == 0)
    return "another migration of it has begun since, or there was no detach";
  if (strcmp (last_end, "pivoted") == 0 ||
      strcmp (last_end, "handed-over") == 0)
    return "another migration has moved it since, or there was no detach";
  return "it was handed over and taken back by 'reopen' since, or has another "
         "size now, or there was no detach";
}

/* --incremental: 'begin' makes the filter forget it. */
static void
note_detach (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  const char *end, *to;

  control_wait (d->control, "status", CONTROL_NO_ARGUMENTS, 5000, &a);
  end = json_string_value (json_object_get (a.value, "last_end"));
  to = json_string_value (json_object_get (a.value, "destination"));
  if (end == NULL || to == NULL) {
    d->no_detach = "it was not detached before";
    return;
  }
  d->latest = strdup (to);
  if (strcmp (end, "detached") != 0 ||
      !json_is_true (json_object_get (a.value, "tracking")))
    d->no_detach = why_no_detach (end, strcmp (to, d->pair->destination) == 0);
}

/* The proxy offers to read into shared memory to a process that has a control
 * connection, and the first connection to it was there before that.
 */
static void
prepare_sharing (struct disk *d)
{
  const char *why = NULL;

  if (!d->settings->options->shared_memory)
    why = "--no-shared-memory";
  else if (!endpoint_is_unix (d->source))
    why = "the source is not reached by a Unix socket";
  else {
    endpoint_exchange_first (d->source, d->settings->loop, &disk_source_options,
                             d->settings->cancel_fd);
    if (!d->source->connections[0]->can_cache)
      why = "the proxy does not offer it, or admits no other connection";
  }
  if (why != NULL)
    d->not_shared = strdup (why);
}

int
disk_widen (struct disk *d)
{
  prepare_sharing (d);
  if (widen (d) == -1 || make_reader (d) == -1 || make_copier (d) == -1)
    return -1;
  d->swept = true; /* nothing is taken before the first pass */
  if (d->settings->options->incremental)
    note_detach (d);
  return 0;
}
