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
#include <sys/stat.h>
#include <unistd.h>

#include "announcement.h"
#include "cleanup.h"
#include "run/migration.h"
#include "protocol.h"
#include "proxy/proxy.h"
#include "base/say.h"
#include "socket-reset.h"
#include "units.h"

/* Measured (tests/bench.sh copy): a longer request is slower where the
 * destination is a file, since it no longer fits a processor's cache; what it
 * would bring over a long line is brought by more connections.
 */
#define CONNECTIONS 8
#define REQUEST_BYTES (256 * 1024)
#define IN_FLIGHT_BYTES (16 * 1024 * 1024) /* all disks together */
#define MANY_DISKS 8

#define READER_CONNECT_MS 2000

static const struct connection_options source_options = { .allocation = true };

/* Where it says that there is data, --destination-is-zero is doubted first. */
struct connection_options
disk_destination_options (const struct disk *d)
{
  return (struct connection_options){
    .allocation = d->m->options->destination_is_zero,
  };
}

static const struct connection_options base_options = {
  .depth_context = COPIER_DEPTH_CONTEXT,
};

/* ---- opening: the source ----------------------------------------------- */

static const char *
connect_hint (const char *what, const char *why)
{
  if (strcmp (what, "source") == 0)
    return proxy_hint (why);
  return proxy_unreachable (why) ? "; is that server running?" : "";
}

static int
connect_failed (struct disk *d, const char *uri, const char *what, char *why)
{
  const int err = errno;

  loop_run_once (&d->m->loop, 0); /* was it a signal that ended the wait? */
  if (why == NULL)
    failure_note (&d->m->failure, "connecting to the %s %s: %s", what, uri,
                  strerror (err));
  else
    failure_note (&d->m->failure, "connecting to the %s %s: %s%s", what, uri,
                  why, connect_hint (what, why));
  free (why);
  return -1;
}

static int
open_source (struct disk *d)
{
  char *why;

  d->source = endpoint_open (&d->m->loop, d->pair->source, &source_options,
                             d->m->signals.fd, &why);
  if (d->source == NULL)
    return connect_failed (d, d->pair->source, "source", why);
  d->disk_bytes = d->source->disk_bytes;
  if (d->m->options->control != NULL)
    d->control_path = strdup (d->m->options->control);
  else
    d->control_path = endpoint_announcement (d->source, ANNOUNCE_CONTROL);
  if (d->control_path != NULL)
    return 0;
  failure_note (
    &d->m->failure,
    "the source %s announces no control socket: it must be served by "
    "nbdkit --filter=migrate (or give --control=SOCKET)",
    d->pair->source);
  return -1;
}

static int
open_control (struct disk *d)
{
  char *why;

  d->control =
    control_open (&d->m->loop, d->control_path, CONTROL_GREETING_MS, &why);
  if (d->control != NULL)
    return 0;
  failure_note (
    &d->m->failure,
    "connecting to the control socket %s of %s: %s; nbdmigrate must "
    "run on the proxy's host, as its user or root",
    d->control_path, d->pair->source, why ? why : strerror (errno));
  free (why);
  return -1;
}

/* Is this socket about the disk that the URI serves? */
static int
check_attached (struct disk *d, const struct control_answer *a)
{
  const bool named = d->m->options->control != NULL;
  CLEANUP_FREE char *foreign =
    proxy_is_foreign (d->source, d->control_path, named, a->value);
  const char *owner = json_string_value (json_object_get (a->value, "owner"));
  const char *place = json_string_value (json_object_get (a->value, "place"));
  const char *place_id;
  uint64_t disk_bytes = 0;

  if (protocol_get_u64 (a->value, "disk_bytes", &disk_bytes) != 1 ||
      protocol_get_u64 (a->value, "chunk_bytes", &d->chunk_bytes) != 1 ||
      protocol_get_u64 (a->value, "max_gate_ms", &d->max_gate_ms) != 1 ||
      owner == NULL || d->chunk_bytes == 0) {
    failure_note (&d->m->failure,
                  "the control socket %s of %s gave an incomplete answer to "
                  "attach",
                  d->control_path, d->pair->source);
    return -1;
  }
  if (foreign != NULL) {
    failure_note (&d->m->failure, "finding the disk of %s: %s", d->pair->source,
                  foreign);
    return -1;
  }
  if (disk_bytes != d->disk_bytes) {
    failure_note (
      &d->m->failure,
      "the control socket %s belongs to another disk than the source "
      "%s: it has %" PRIu64 " bytes, the source %" PRIu64
      "; leave --control out to use the announced socket",
      d->control_path, d->pair->source, disk_bytes, d->disk_bytes);
    return -1;
  }
  d->attached = true;
  place_id = json_string_value (json_object_get (a->value, "place_id"));
  if (place_id != NULL && *place_id != '\0')
    d->place_id = strdup (place_id);
  if (place != NULL && strcmp (place, d->pair->destination) == 0) {
    d->owned_elsewhere = true;
    failure_note (&d->m->failure, "the disk %s is at %s already",
                  d->pair->source, place);
    return -1;
  }
  if (strcmp (owner, "source") != 0 && strcmp (owner, "destination") != 0) {
    d->owned_elsewhere = true;
    failure_note (&d->m->failure,
                  "the disk %s is not served by its proxy (owner: %s), so it "
                  "cannot be migrated from here; nbdmigrate(1) tells under "
                  "'Moving a disk again' from where it can",
                  d->pair->source, owner);
    return -1;
  }
  return 0;
}

static int
attach (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (d->control, "attach",
                json_pack ("{s:s}", "export", d->source->export_name), 5000,
                &a);
  if (a.value == NULL) {
    failure_note (&d->m->failure,
                  "choosing the export '%s' on the control socket %s of %s: %s",
                  d->source->export_name, d->control_path, d->pair->source,
                  a.desc);
    return -1;
  }
  if (check_attached (d, &a) == -1)
    return -1;
  if (d->m->options->max_pause_ms > d->max_gate_ms) {
    char asked[UNITS_TEXT_MAX], allowed[UNITS_TEXT_MAX];

    failure_note (&d->m->failure,
                  "--max-pause of %s is above what the proxy of %s allows: %s "
                  "(migrate-max-gate)",
                  units_format_ms (asked, d->m->options->max_pause_ms),
                  d->pair->source, units_format_ms (allowed, d->max_gate_ms));
    return -1;
  }
  return 0;
}

/* ---- opening: the destination ------------------------------------------ */

static int
refuse_destination (struct disk *d, const char *why)
{
  failure_note (&d->m->failure, "the destination %s cannot be used for %s: %s",
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
    failure_note (&d->m->failure,
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
  if (e->minimum_bytes > d->chunk_bytes)
    return refuse_destination (d, "its minimum block is larger than a chunk; "
                                  "start the proxy with a larger "
                                  "migrate-chunk");
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
    return refuse_destination (d, "it is where the disk is already: the copy "
                                  "would overwrite what the guest writes "
                                  "there");
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

static int
open_destination (struct disk *d)
{
  const struct connection_options options = disk_destination_options (d);
  char *why;

  d->destination = endpoint_open (&d->m->loop, d->pair->connect, &options,
                                  d->m->signals.fd, &why);
  if (d->destination == NULL)
    return connect_failed (d, d->pair->destination, "destination", why);
  return check_destination (d);
}

/* ---- opening: the base ------------------------------------------------- */

static int
open_base (struct disk *d)
{
  const struct options *o = d->m->options;
  const char *uri;
  char *why;

  if (o->nr_shared_bases == 0)
    return 0;
  uri = o->shared_bases[d - d->m->disks];
  d->base =
    endpoint_open (&d->m->loop, uri, &base_options, d->m->signals.fd, &why);
  if (d->base == NULL)
    return connect_failed (d, uri, "shared base", why);
  if (!d->base->has_depth) {
    failure_note (
      &d->m->failure,
      "the shared base %s of %s does not offer " COPIER_DEPTH_CONTEXT
      "; start qemu-nbd with --allocation-depth",
      uri, d->pair->source);
    return -1;
  }
  if (d->base->disk_bytes != d->disk_bytes) {
    failure_note (&d->m->failure,
                  "the shared base %s has %" PRIu64 " bytes, the source %s has "
                  "%" PRIu64
                  ": it must be the server that the proxy reads from",
                  uri, d->base->disk_bytes, d->pair->source, d->disk_bytes);
    return -1;
  }
  return 0;
}

int
disk_open (struct disk *d)
{
  if (open_source (d) == -1 || open_control (d) == -1 || attach (d) == -1 ||
      open_destination (d) == -1)
    return -1;
  return open_base (d);
}

/* ---- more connections -------------------------------------------------- */

/* A server that admits fewer connections is left with one; but what was written
 * over connections to different disks would be spread over them, and even one
 * connection might be to the wrong one.
 */
static int
widen_one (struct disk *d, struct endpoint *e, const char *what,
           const struct connection_options *options, unsigned wanted)
{
  enum endpoint_widened widened;
  char *why;

  widened =
    endpoint_widen (e, &d->m->loop, options, wanted, d->m->signals.fd, &why);
  if (widened == ENDPOINT_WIDENED)
    return 0;
  if (widened == ENDPOINT_DIFFERS || d->m->options->connections != 0 ||
      why == NULL || strcmp (why, "interrupted") == 0)
    return connect_failed (d, e->uri, what, why);
  say_info ("the %s %s admits fewer than %u connections: going on with one "
            "(%s)",
            what, e->uri, wanted, why);
  free (why);
  return 0;
}

static int
widen (struct disk *d)
{
  const unsigned chosen =
    d->m->nr_disks < MANY_DISKS ? CONNECTIONS : CONNECTIONS / 4;
  const unsigned wanted =
    d->m->options->connections ? d->m->options->connections : chosen;
  const struct connection_options options = disk_destination_options (d);

  if (widen_one (d, d->source, "source", &source_options, wanted) == -1)
    return -1;
  return widen_one (d, d->destination, "destination", &options, wanted);
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
readers_of (const struct options *o, unsigned connections)
{
  if (connections < 4)
    return 0;
  return o->verify ? connections / 4 : 1;
}

/* One more.  Many servers admit one client only, and let others wait without a
 * word: not for long, measured by how long the first connection took.
 */
static int
open_reader (struct disk *d)
{
  struct connection_options options = disk_destination_options (d);
  char *why;

  options.connect_ms = READER_CONNECT_MS;
  if (d->destination->connect_us > READER_CONNECT_MS * INT64_C (1000) / 8)
    options.connect_ms = (unsigned)(d->destination->connect_us * 8 / 1000);
  d->reader = endpoint_open (&d->m->loop, d->pair->connect, &options,
                             d->m->signals.fd, &why);
  loop_run_once (&d->m->loop, 0); /* was it a signal that ended the wait? */
  if (d->reader == NULL) {
    free (why);
    return d->m->failure.stop == STOP_NO ? 0 : -1;
  }
  if (!endpoint_differs (d->destination, d->reader, &why))
    return 0;
  endpoint_close (d->reader);
  d->reader = NULL;
  return connect_failed (d, d->pair->destination, "destination", why);
}

static int
make_reader (struct disk *d)
{
  const struct options *o = d->m->options;
  const unsigned n = readers_of (o, d->destination->nr_connections);

  if (!needs_reader (o))
    return 0;
  if (n == 0)
    return open_reader (d);
  d->reader = endpoint_split (d->destination, n);
  return d->reader ? 0 : -1;
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
  const struct connection_options options = disk_destination_options (d);
  const unsigned wanted = d->destination->nr_connections;

  if (disk_reader (d) == d->destination)
    return 0;
  endpoint_narrow (d->destination);
  return widen_one (d, d->reader, "destination", &options, wanted);
}

static int
make_copier (struct disk *d)
{
  const struct options *o = d->m->options;
  const struct copier_options options = {
    .chunk_bytes = d->chunk_bytes,
    .request_bytes = o->request_bytes ? o->request_bytes : REQUEST_BYTES,
    .in_flight_bytes = IN_FLIGHT_BYTES / d->m->nr_disks,
    .destination_is_zero = o->destination_is_zero,
    .base = d->base,
    .reader = d->reader,
    .bucket = &d->m->bucket,
    .sample_seed = d->m->sample_seed,
    .ended = disk_part_ended,
    .ask = disk_ask_extents,
    .distrusted = disk_distrust,
    .wrote = disk_wrote,
    .opaque = d,
  };

  const uint64_t chunks = (d->disk_bytes + d->chunk_bytes - 1) / d->chunk_bytes;

  if (o->verify && bitmap_init (&d->unverified, chunks) == -1) {
    failure_note (&d->m->failure, "preparing to verify %s: %s", d->pair->source,
                  strerror (errno));
    return -1;
  }
  d->copier = copier_new (&d->m->loop, d->source, d->destination, &options);
  return d->copier ? 0 : -1;
}

/* --incremental: 'begin' makes the filter forget it. */
static void
note_detach (struct disk *d)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };
  const char *end, *to;

  control_wait (d->control, "status", NULL, 5000, &a);
  end = json_string_value (json_object_get (a.value, "last_end"));
  to = json_string_value (json_object_get (a.value, "destination"));
  if (end != NULL && to != NULL && strcmp (end, "detached") == 0 &&
      json_is_true (json_object_get (a.value, "tracking")))
    d->detached_to = strdup (to);
}

int
disk_widen (struct disk *d)
{
  if (widen (d) == -1 || make_reader (d) == -1 || make_copier (d) == -1)
    return -1;
  d->swept = true; /* nothing is taken before the first pass */
  if (d->m->options->incremental)
    note_detach (d);
  return 0;
}

/* ---- begin ------------------------------------------------------------- */

struct begin_answer {
  struct disk *d;
  bool done;
  char *desc;
};

static void
begun (void *opaque, const struct control_answer *a)
{
  struct begin_answer *b = opaque;
  struct disk *d = b->d;
  const char *past;

  b->done = true;
  if (a->value == NULL) {
    b->desc = strdup (a->desc);
    return;
  }
  d->begun = true;
  d->resumed = json_is_true (json_object_get (a->value, "resumed"));
  past = json_string_value (json_object_get (a->value, "past"));
  d->past_unknown = past != NULL && strcmp (past, "unknown") == 0;
  protocol_get_u64 (a->value, "epoch", &d->epoch);
  protocol_get_u64 (a->value, "remaining_bytes", &d->remaining_bytes);
}

/* --verify: an earlier run, which may not have read it back, has copied a part
 * of the disk, or left it out, and no more is known of which part it was.
 */
static void
verify_all_if_resumed (struct disk *d)
{
  if (d->m->options->verify && d->resumed)
    bitmap_set (&d->unverified, 0, d->unverified.bits);
}

/* On what ranges may be left out; the caller frees it. */
static char *
promise (const struct disk *d)
{
  const struct options *o = d->m->options;
  const char *base =
    o->nr_shared_bases > 0 ? o->shared_bases[d - d->m->disks] : NULL;
  char *text;

  if (asprintf (&text, "%s%s%s", o->destination_is_zero ? "zero " : "",
                base ? "base " : "", base ? base : "") == -1)
    return NULL;
  return text;
}

/* The filter gets our sockets to the destination, so that it can make sure that
 * nothing of ours is sent after the session's end (R7), and the ledger of them,
 * which tells what may still be carried out then (R17).  How many descriptors;
 * *ledger_fd is closed by the caller, or -1: it does without.
 */
static unsigned
prepare_sockets (struct disk *d, int fds[ENDPOINT_CONNECTIONS_MAX + 1],
                 int *ledger_fd)
{
  struct endpoint *e = d->destination;
  unsigned i;

  d->ledger = ledger_create (ledger_fd);
  for (i = 0; i < e->nr_connections; ++i) {
    fds[i] = e->connections[i]->sock;
    socket_reset_at_close (fds[i]);
    if (d->ledger != NULL)
      e->connections[i]->line = &d->ledger->lines[i];
  }
  if (d->ledger != NULL)
    fds[i++] = *ledger_fd;
  return i;
}

int
disk_begin (struct disk *d)
{
  const struct options *o = d->m->options;
  struct begin_answer b = { .d = d };
  CLEANUP_FREE char *promised = promise (d);
  int fds[ENDPOINT_CONNECTIONS_MAX + 1], ledger_fd;
  const unsigned n = prepare_sockets (d, fds, &ledger_fd);

  control_send (d->control, "begin",
                json_pack ("{s:s, s:s, s:b, s:b}", "destination",
                           d->pair->destination, "promise",
                           promised ? promised : "no memory", "restart",
                           o->restart, "incremental", o->incremental),
                fds, n, begun, &b);
  if (ledger_fd != -1)
    close (ledger_fd);
  while (!b.done && d->m->failure.stop == STOP_NO)
    drive (d->m, 100);
  if (!b.done) { /* b must outlive the question */
    control_close (d->control);
    d->control = NULL;
    free (b.desc);
    b.desc = NULL;
  }
  if (b.desc != NULL || !d->begun) {
    failure_note (&d->m->failure, "starting the migration of %s: %s",
                  d->pair->source, b.desc ? b.desc : "interrupted");
    free (b.desc);
    return -1;
  }
  verify_all_if_resumed (d);
  return 0;
}

bool
disk_is_connected (const struct disk *d)
{
  return d->control != NULL && control_broken (d->control) == NULL;
}

void
disk_close (struct disk *d)
{
  control_close (d->control);
  endpoint_close (d->source);
  endpoint_close (d->destination);
  endpoint_close (d->reader);
  endpoint_close (d->base);
  bitmap_destroy (&d->unverified);
  renew_close (&d->reader_renewal);
  renew_close (&d->renewal); /* no connection writes to a ledger any more */
  ledger_close (d->ledger);
  copier_free (d->copier);
  control_answer_clear (&d->answer);
  extents_free (&d->skipped);
  extents_free (&d->done);
  extents_free (&d->failed);
  extents_free (&d->unknown);
  extents_free (&d->equal);
  extents_free (&d->different);
  free (d->control_path);
  free (d->token);
  free (d->owner);
  free (d->place_id);
  free (d->detached_to);
}
