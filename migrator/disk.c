/* SPDX-License-Identifier: BSD-3-Clause */
/* One disk of a migration: opening and checking, and the life of its leases.
 *
 * What the migrator took from the filter is always in exactly one place: the
 * copier, or one of the lists of ended parts, until the filter has been told.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "migration.h"
#include "protocol.h"
#include "say.h"
#include "units.h"

#define CONNECTIONS 4
#define REQUEST_BYTES (512 * 1024)
#define IN_FLIGHT_BYTES (16 * 1024 * 1024) /* all disks together */
#define MANY_DISKS 8

/* One take: enough to keep the copier busy for a while, little enough that a
 * crash quarantines little and that a rewritten chunk is not read twice.
 */
#define TAKE_BYTES_MIN (UINT64_C (32) * 1024 * 1024)
#define TAKE_BYTES_MAX (UINT64_C (1) << 30)

static const struct connection_options source_options = { .allocation = true };
static const struct connection_options destination_options = { 0 };
static const struct connection_options base_options = {
  .depth_context = COPIER_DEPTH_CONTEXT,
};

/* ---- opening: the source ----------------------------------------------- */

static int
connect_failed (const char *uri, const char *what, char *why)
{
  say_error ("connecting to the %s %s: %s", what, uri,
             why ? why : strerror (errno));
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
    return connect_failed (d->pair->source, "source", why);
  d->disk_bytes = d->source->disk_bytes;
  if (d->m->options->control != NULL)
    d->control_path = strdup (d->m->options->control);
  else
    d->control_path =
      endpoint_announcement (d->source, PROTOCOL_ANNOUNCE_CONTROL);
  if (d->control_path != NULL)
    return 0;
  say_error ("the source %s announces no control socket: it must be served by "
             "nbdkit --filter=migrate (or give --control=SOCKET)",
             d->pair->source);
  return -1;
}

static int
open_control (struct disk *d)
{
  char *why;

  d->control = control_open (&d->m->loop, d->control_path, &why);
  if (d->control != NULL)
    return 0;
  say_error ("connecting to the control socket %s of %s: %s; nbdmigrate must "
             "run on the proxy's host, as its user or root",
             d->control_path, d->pair->source, why ? why : strerror (errno));
  free (why);
  return -1;
}

/* Is this socket about the disk that the URI serves? */
static int
check_attached (struct disk *d, const struct control_answer *a)
{
  CLEANUP_FREE char *announced =
    endpoint_announcement (d->source, PROTOCOL_ANNOUNCE_ID);
  const char *id = json_string_value (json_object_get (a->value, "id"));
  const char *owner = json_string_value (json_object_get (a->value, "owner"));
  uint64_t disk_bytes = 0;

  if (protocol_get_u64 (a->value, "disk_bytes", &disk_bytes) != 1 ||
      protocol_get_u64 (a->value, "chunk_bytes", &d->chunk_bytes) != 1 ||
      protocol_get_u64 (a->value, "max_gate_ms", &d->max_gate_ms) != 1 ||
      id == NULL || owner == NULL || d->chunk_bytes == 0) {
    say_error ("the control socket %s of %s gave an incomplete answer to "
               "attach",
               d->control_path, d->pair->source);
    return -1;
  }
  if (disk_bytes != d->disk_bytes ||
      (announced != NULL && strcmp (announced, id) != 0)) {
    say_error ("the control socket %s belongs to another disk than the source "
               "%s (id %s, announced %s); leave --control out to use the "
               "announced socket",
               d->control_path, d->pair->source, id,
               announced ? announced : "none");
    return -1;
  }
  if (strcmp (owner, "source") != 0) {
    d->owned_elsewhere = true;
    say_error ("the disk %s is not served from its source any more (owner: "
               "%s), so there is nothing to migrate",
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
    say_error ("choosing the export '%s' on the control socket %s of %s: %s",
               d->source->export_name, d->control_path, d->pair->source,
               a.desc);
    return -1;
  }
  if (check_attached (d, &a) == -1)
    return -1;
  if (d->m->options->max_pause_ms > d->max_gate_ms) {
    say_error ("--max-pause of %" PRIu64 " ms is above what the proxy of %s "
               "allows: %" PRIu64 " ms (migrate-max-gate)",
               d->m->options->max_pause_ms, d->pair->source, d->max_gate_ms);
    return -1;
  }
  return 0;
}

/* ---- opening: the destination ------------------------------------------ */

static int
refuse_destination (const struct disk *d, const char *why)
{
  say_error ("the destination %s cannot be used for %s: %s",
             d->pair->destination, d->pair->source, why);
  return -1;
}

static int
check_size (const struct disk *d)
{
  const struct endpoint *e = d->destination;
  const uint64_t block = e->minimum_bytes;
  const uint64_t needed = (d->disk_bytes + block - 1) / block * block;
  char a[UNITS_TEXT_MAX], b[UNITS_TEXT_MAX];

  if (e->disk_bytes < d->disk_bytes) {
    say_error ("the destination %s is too small for %s: it has %" PRIu64
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
  CLEANUP_FREE char *id = endpoint_announcement (e, PROTOCOL_ANNOUNCE_ID);
  CLEANUP_FREE char *source_id =
    endpoint_announcement (d->source, PROTOCOL_ANNOUNCE_ID);

  if (id != NULL && source_id != NULL && strcmp (id, source_id) == 0)
    return refuse_destination (d, "it is the source itself");
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
  char *why;

  d->destination = endpoint_open (&d->m->loop, d->pair->destination,
                                  &destination_options, d->m->signals.fd, &why);
  if (d->destination == NULL)
    return connect_failed (d->pair->destination, "destination", why);
  return check_destination (d);
}

/* ---- opening: the base ------------------------------------------------- */

static int
open_base (struct disk *d)
{
  const struct options *o = d->m->options;
  char *why;

  if (o->nr_shared_bases == 0)
    return 0;
  d->base_uri = options_uri ("--shared-base", o->shared_bases[d - d->m->disks]);
  if (d->base_uri == NULL)
    return -1;
  d->base = endpoint_open (&d->m->loop, d->base_uri, &base_options,
                           d->m->signals.fd, &why);
  if (d->base == NULL)
    return connect_failed (d->base_uri, "shared base", why);
  if (!d->base->has_depth) {
    say_error ("the shared base %s of %s does not offer " COPIER_DEPTH_CONTEXT
               "; start qemu-nbd with --allocation-depth",
               d->base_uri, d->pair->source);
    return -1;
  }
  if (d->base->disk_bytes != d->disk_bytes) {
    say_error ("the shared base %s has %" PRIu64 " bytes, the source %s has "
               "%" PRIu64 ": it must be the server that the proxy reads from",
               d->base_uri, d->base->disk_bytes, d->pair->source,
               d->disk_bytes);
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

/* ---- begin ------------------------------------------------------------- */

static void ended (void *opaque, uint64_t offset, uint64_t length,
                   enum copy_outcome outcome);

static int
widen (struct disk *d)
{
  const struct options *o = d->m->options;
  const unsigned chosen =
    d->m->nr_disks < MANY_DISKS ? CONNECTIONS : CONNECTIONS / 2;
  const unsigned wanted = o->connections ? o->connections : chosen;
  char *why;

  if (endpoint_widen (d->source, &d->m->loop, &source_options, wanted,
                      d->m->signals.fd, &why) == -1)
    return connect_failed (d->pair->source, "source", why);
  if (endpoint_widen (d->destination, &d->m->loop, &destination_options, wanted,
                      d->m->signals.fd, &why) == -1)
    return connect_failed (d->pair->destination, "destination", why);
  return 0;
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
    .bucket = &d->m->bucket,
    .ended = ended,
    .opaque = d,
  };

  const uint64_t chunks = (d->disk_bytes + d->chunk_bytes - 1) / d->chunk_bytes;

  if (o->verify && bitmap_init (&d->unverified, chunks) == -1) {
    say_error ("preparing to verify %s: %s", d->pair->source, strerror (errno));
    return -1;
  }
  d->copier = copier_new (&d->m->loop, d->source, d->destination, &options);
  return d->copier ? 0 : -1;
}

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

  b->done = true;
  if (a->value == NULL) {
    b->desc = strdup (a->desc);
    return;
  }
  d->begun = true;
  d->resumed = json_is_true (json_object_get (a->value, "resumed"));
  protocol_get_u64 (a->value, "epoch", &d->epoch);
  protocol_get_u64 (a->value, "remaining_bytes", &d->remaining_bytes);
}

int
disk_begin (struct disk *d)
{
  const struct options *o = d->m->options;
  struct begin_answer b = { .d = d };
  int fds[ENDPOINT_CONNECTIONS_MAX];
  unsigned i;

  if (widen (d) == -1 || make_copier (d) == -1)
    return -1;
  /* The filter gets our sockets to the destination, so that it can make sure
   * that nothing of ours is written after the session's end (R7).
   */
  for (i = 0; i < d->destination->nr_connections; ++i)
    fds[i] = d->destination->connections[i]->sock;
  control_send (d->control, "begin",
                json_pack ("{s:s, s:b, s:b}", "destination",
                           d->pair->destination, "restart", o->restart,
                           "incremental", o->incremental),
                fds, i, begun, &b);
  while (!b.done && d->m->stop == STOP_NO)
    drive (d->m, 100);
  if (!b.done) { /* b must outlive the question */
    control_close (d->control);
    d->control = NULL;
  }
  if (b.desc != NULL || !d->begun) {
    say_error ("starting the migration of %s: %s", d->pair->source,
               b.desc ? b.desc : "interrupted");
    free (b.desc);
    return -1;
  }
  d->take_bytes = TAKE_BYTES_MIN;
  return 0;
}

void
disk_close (struct disk *d)
{
  control_close (d->control);
  endpoint_close (d->source);
  endpoint_close (d->destination);
  endpoint_close (d->base);
  free (d->base_uri);
  bitmap_destroy (&d->unverified);
  copier_free (d->copier);
  control_answer_clear (&d->answer);
  extents_free (&d->done);
  extents_free (&d->failed);
  extents_free (&d->unknown);
  extents_free (&d->equal);
  extents_free (&d->different);
  free (d->control_path);
  free (d->token);
}

/* ---- taking ------------------------------------------------------------ */

void
disk_start_pass (struct disk *d, enum pass_kind kind)
{
  d->pass_kind = kind;
  d->cursor = 0;
  d->swept = false;
}

bool
disk_pass_running (const struct disk *d)
{
  return !d->swept || d->take_pending || !copier_idle (d->copier) ||
         d->reports_pending > 0 || d->done.n > 0 || d->failed.n > 0 ||
         d->unknown.n > 0 || d->equal.n > 0 || d->different.n > 0;
}

static int
add_ranges (struct disk *d, const struct extents *e)
{
  size_t i;
  int r;

  for (i = 0; i < e->n; ++i) {
    const struct extent *x = &e->v[i];

    if (d->pass_kind == PASS_COPY)
      r = copier_add (d->copier, x->offset, x->length, x->touched);
    else
      r = copier_add_compare (d->copier, x->offset, x->length);
    if (r == -1)
      return -1;
  }
  return 0;
}

static void
taken (void *opaque, const struct control_answer *a)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct disk *d = opaque;
  const char *why = a->desc;

  d->take_pending = false;
  if (a->value == NULL ||
      protocol_parse_extents (json_object_get (a->value, "extents"), &e,
                              &why) == -1 ||
      protocol_get_u64 (a->value, "cursor", &d->cursor) != 1) {
    drive_fail (d->m, "taking dirty chunks of %s: %s", d->pair->source,
                why ? why : "the answer has no cursor");
    return;
  }
  d->swept = d->cursor >= d->disk_bytes;
  if (add_ranges (d, &e) == -1)
    drive_fail (d->m, "queueing chunks of %s: %s", d->pair->source,
                strerror (errno));
}

/* Long holes are gone through in large takes: when the copier asks again soon
 * after a full take, take more.
 */
static uint64_t
next_take_bytes (struct disk *d)
{
  struct copier_stats s;
  const uint64_t rate = d->m->bucket.rate;

  copier_get_stats (d->copier, &s);
  if (s.copied_bytes < s.moved_bytes / 2)
    d->take_bytes =
      d->take_bytes < TAKE_BYTES_MAX ? d->take_bytes * 2 : TAKE_BYTES_MAX;
  else
    d->take_bytes = TAKE_BYTES_MIN;
  /* A slow migration would hold a long lease for minutes. */
  if (rate > 0 && d->take_bytes > rate)
    return rate;
  return d->take_bytes;
}

/* Where the next compare of a verify pass looks: only what was copied and not
 * yet read back.  Returns false if there is nothing behind the cursor.
 */
static bool
next_unverified (const struct disk *d, uint64_t *cursor, uint64_t *max_bytes)
{
  const struct bitmap *b = &d->unverified;
  const uint64_t first = bitmap_next_set (b, d->cursor / d->chunk_bytes);
  uint64_t end;

  if (first == b->bits)
    return false;
  end = bitmap_next_clear (b, first);
  *cursor = first * d->chunk_bytes;
  *max_bytes = (end - first) * d->chunk_bytes;
  if (*max_bytes > TAKE_BYTES_MIN)
    *max_bytes = TAKE_BYTES_MIN;
  return true;
}

static void
compare_more (struct disk *d)
{
  uint64_t cursor = d->cursor, max_bytes = TAKE_BYTES_MIN;

  if (d->pass_kind == PASS_VERIFY &&
      !next_unverified (d, &cursor, &max_bytes)) {
    d->swept = true;
    return;
  }
  d->take_pending = true;
  control_send (d->control, "compare",
                json_pack ("{s:I, s:I, s:b}", "cursor", (json_int_t)cursor,
                           "max_bytes", (json_int_t)max_bytes, "quarantined",
                           d->pass_kind == PASS_QUARANTINE),
                NULL, 0, taken, d);
}

void
disk_feed (struct disk *d)
{
  if (!d->begun || d->swept || d->take_pending || d->m->stop != STOP_NO ||
      copier_backlog (d->copier) > d->take_bytes / 2)
    return;
  if (d->pass_kind != PASS_COPY) {
    compare_more (d);
    return;
  }
  d->take_pending = true;
  control_send (d->control, "take",
                json_pack ("{s:I, s:I}", "cursor", (json_int_t)d->cursor,
                           "max_bytes", (json_int_t)next_take_bytes (d)),
                NULL, 0, taken, d);
}

/* ---- reporting --------------------------------------------------------- */

uint64_t
disk_unverified_bytes (const struct disk *d)
{
  return d->unverified.set * d->chunk_bytes;
}

static void
note_verified (struct disk *d, uint64_t offset, uint64_t length, bool verified)
{
  const uint64_t first = offset / d->chunk_bytes;
  const uint64_t end = (offset + length + d->chunk_bytes - 1) / d->chunk_bytes;

  if (!d->m->options->verify)
    return;
  if (verified)
    bitmap_clear (&d->unverified, first, end - first);
  else
    bitmap_set (&d->unverified, first, end - first);
}

static void
ended (void *opaque, uint64_t offset, uint64_t length,
       enum copy_outcome outcome)
{
  struct disk *d = opaque;
  struct extents *e = NULL;

  switch (outcome) {
  case COPY_DONE:
    note_verified (d, offset, length, false);
    e = &d->done;
    break;
  case COPY_FAILED:
    e = &d->failed;
    break;
  case COPY_UNKNOWN:
    e = &d->unknown;
    break;
  case COPY_EQUAL:
    note_verified (d, offset, length, true);
    e = &d->equal;
    break;
  case COPY_DIFFERENT:
    e = &d->different;
    break;
  }
  if (extents_append (e, offset, length, false) == -1)
    abort (); /* a lease must not be forgotten; the session's end is safe */
}

static void
reported (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->reports_pending--;
  if (a->value == NULL)
    drive_fail (d->m, "reporting copied chunks of %s: %s", d->pair->source,
                a->desc);
}

/* Where no guest wrote meanwhile, a difference is the destination's fault.  In
 * quarantine it is what was feared and is copied again; after our own flushed
 * copy it means that the destination does not keep what it is given.
 */
static void
compared (void *opaque, const struct control_answer *a)
{
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct disk *d = opaque;
  const char *why;

  reported (opaque, a);
  if (a->value == NULL || d->pass_kind != PASS_VERIFY)
    return;
  if (protocol_parse_extents (json_object_get (a->value, "wrong"), &wrong,
                              &why) == -1)
    drive_fail (d->m, "verifying %s: %s", d->pair->source, why);
  else if (wrong.n > 0)
    drive_fail (d->m,
                "verifying %s: the destination %s returns other bytes than "
                "were written, at offset %" PRIu64 " (%" PRIu64 " bytes)",
                d->pair->source, d->pair->destination, wrong.v[0].offset,
                wrong.v[0].length);
}

/* At most PROTOCOL_EXTENTS_MAX ranges a line. */
static void
report (struct disk *d, struct extents *e, const char *command,
        const char *flag, bool value)
{
  struct extents part;
  size_t i;

  extents_normalise (e);
  for (i = 0; i < e->n; i += PROTOCOL_EXTENTS_MAX) {
    const size_t left = e->n - i;
    json_t *args;

    part = (struct extents){ .v = e->v + i,
                             .n = left < PROTOCOL_EXTENTS_MAX
                                    ? left
                                    : PROTOCOL_EXTENTS_MAX };
    args = json_pack ("{s:o, s:I}", "extents", protocol_extents (&part, false),
                      "epoch", (json_int_t)d->epoch);
    if (flag != NULL)
      json_object_set_new (args, flag, json_boolean (value));
    d->reports_pending++;
    control_send (d->control, command, args, NULL, 0,
                  e == &d->different ? compared : reported, d);
  }
  extents_clear (e);
}

/* While an answer is out, ended parts collect and merge: the slower the
 * filter, the fewer the messages.
 */
void
disk_report (struct disk *d)
{
  if (d->reports_pending > 0)
    return;
  report (d, &d->done, "done", NULL, false);
  report (d, &d->failed, "failed", "unknown", false);
  report (d, &d->unknown, "failed", "unknown", true);
  report (d, &d->equal, "compared", "equal", true);
  report (d, &d->different, "compared", "equal", false);
}
