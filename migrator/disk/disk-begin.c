/* SPDX-License-Identifier: BSD-3-Clause */
/* The session of one disk: its beginning, and the end of all about the disk. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/no-memory.h"
#include "cleanup.h"
#include "disk/disk.h"
#include "nbd/unanswered.h"
#include "protocol.h"
#include "socket-reset.h"

/* To both sides, the ledger, the memory. */
#define DESCRIPTORS_MAX (2 * ENDPOINT_CONNECTIONS_MAX + 2)

_Static_assert(DESCRIPTORS_MAX <= PROTOCOL_FDS_MAX, "one line takes them");

/* Whether the proxy reads into the memory that was sent. */
static void
note_sharing (struct disk *d, const json_t *answer)
{
  const bool shared = json_is_true (json_object_get (answer, "shared_memory"));
  const char *why =
    json_string_value (json_object_get (answer, "shared_memory_why"));

  if (!shared && d->not_shared == NULL)
    d->not_shared = strdup (why ? why : "the proxy does not say why");
  copier_share (d->copier, shared, d->not_shared);
}

/* Whether the proxy tracks in chunks of the size that was asked for (R19). */
static bool
has_chunks (struct disk *d, const json_t *answer)
{
  uint64_t bytes = 0;

  if (protocol_get_u64 (answer, "chunk_bytes", &bytes) == 1 &&
      bytes == d->chunk_bytes)
    return true;
  failure_note (d->settings->failure,
                "starting the migration of %s: its proxy tracks in chunks of "
                "%" PRIu64 " bytes, not of %" PRIu64
                " as the destination %s needs; use the nbdmigrate that came "
                "with the proxy's filter",
                d->pair->source, bytes, d->chunk_bytes, d->pair->destination);
  return false;
}

static void
note_lately (struct disk *d, const json_t *places)
{
  const json_t *place;
  size_t i;

  json_array_foreach (places, i, place) {
    const json_int_t offset = json_integer_value (place);

    if (offset >= 0 && (uint64_t)offset < d->disk_bytes)
      latest_told (&d->latest_places, (uint64_t)offset);
  }
}

static void
begun (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  const char *past;

  d->beginning = false;
  if (a->value == NULL && strcmp (a->error_class, "AlreadyThere") == 0) {
    disk_fail_is_there (d);
    return;
  }
  if (a->value == NULL) {
    failure_note (d->settings->failure, "starting the migration of %s: %s",
                  d->pair->source, a->desc);
    return;
  }
  d->begun = has_chunks (d, a->value);
  d->resumed = json_is_true (json_object_get (a->value, "resumed"));
  past = json_string_value (json_object_get (a->value, "past"));
  d->past_unknown = past != NULL && strcmp (past, "unknown") == 0;
  protocol_get_u64 (a->value, "epoch", &d->epoch);
  protocol_get_u64 (a->value, "remaining_bytes", &d->remaining_bytes);
  note_lately (d, json_object_get (a->value, "lately"));
  note_sharing (d, a->value);
}

/* --verify: an earlier run, which may not have read it back, has copied a part
 * of the disk, or left it out, and no more is known of which part it was.
 */
static void
verify_all_if_resumed (struct disk *d)
{
  if (d->settings->options->verify && d->resumed)
    bitmap_set (&d->unverified, 0, d->unverified.bits);
}

char *
disk_promise (const struct disk *d)
{
  const struct options *o = d->settings->options;
  const char *base = d->base_uri;
  char *text;

  if (asprintf (&text, "%s%s%s", o->destination_is_zero ? "zero " : "",
                base ? "base " : "", base ? base : "") == -1)
    no_memory ();
  return text;
}

/* The filter gets our sockets to the destination, so that it can make sure that
 * nothing of ours is sent after the session's end (R7), and the ledger of them,
 * which tells what may still be carried out then (R17).  How many descriptors;
 * *ledger_fd is closed by the caller, or -1: it does without.  Less than 0: one
 * of the connections was closed.
 */
static int
prepare_sockets (struct disk *d, int fds[], int *ledger_fd)
{
  struct endpoint *e = d->destination;
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    if ((fds[i] = connection_socket (e->connections[i])) == -1)
      return -1;
  d->ledger = ledger_create (ledger_fd);
  for (i = 0; i < e->nr_connections; ++i) {
    socket_reset_at_close (fds[i]);
    if (d->ledger != NULL)
      unanswered_set_line (e->connections[i], &d->ledger->lines[i]);
  }
  if (d->ledger != NULL)
    fds[i++] = *ledger_fd;
  return i;
}

/* The filter gets our sockets to the source, too: it keeps them until its
 * nbdkit has done with them, which before 1.34 may end if we are killed.  How
 * many.
 */
static int
add_source_sockets (const struct disk *d, int fds[])
{
  const struct endpoint *e = d->source;
  int n = 0;

  for (unsigned i = 0; i < e->nr_connections; ++i) {
    fds[n] = connection_socket (e->connections[i]);
    n += fds[n] != -1;
  }
  return n;
}

/* The memory comes last.  Whether there is any. */
static bool
prepare_memory (struct disk *d, int *fd)
{
  const char *why;

  if (d->not_shared != NULL)
    return false;
  *fd = copier_shared_fd (d->copier, &why);
  if (*fd == -1)
    d->not_shared = strdup (why);
  return *fd != -1;
}

void
disk_begin (struct disk *d)
{
  const struct options *o = d->settings->options;
  CLEANUP_FREE char *promised = disk_promise (d);
  int fds[DESCRIPTORS_MAX], ledger_fd, sources;
  int n = prepare_sockets (d, fds, &ledger_fd);
  bool shared;

  if (n < 0) {
    failure_note (d->settings->failure,
                  "starting the migration of %s: %s has closed a connection; "
                  "run it again",
                  d->pair->source, d->pair->destination);
    return;
  }
  sources = add_source_sockets (d, &fds[n]);
  n += sources;
  shared = prepare_memory (d, &fds[n]);
  d->beginning = true;
  control_send (d->control, "begin",
                json_pack ("{s:s, s:I, s:i, s:s, s:b, s:b, s:b}", "destination",
                           d->pair->destination, "block_bytes",
                           (json_int_t)d->destination->minimum_bytes,
                           "source_sockets", sources, "promise",
                           promised ? promised : "no memory", "restart",
                           o->restart, "incremental", o->incremental,
                           "shared_memory", shared),
                fds, n + shared, begun, d);
  if (ledger_fd != -1)
    close (ledger_fd);
}

/* A session that begins after all would be nobody's. */
static void
give_up (struct disk *d)
{
  control_close (d->control);
  d->control = NULL;
  d->beginning = false;
  failure_note (d->settings->failure,
                "starting the migration of %s: interrupted", d->pair->source);
}

int
disk_check_begun (struct disk *d)
{
  if (d->beginning)
    give_up (d);
  if (!d->begun)
    return -1;
  verify_all_if_resumed (d);
  return 0;
}

bool
disk_is_shared (const struct disk *d, const char **why)
{
  *why = d->not_shared;
  return d->copier != NULL && copier_is_shared (d->copier, why);
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
  widen_close (&d->widening);
  endpoint_close (d->source);
  endpoint_close (d->destination);
  endpoint_close (d->reader);
  endpoint_close (d->base);
  bitmap_destroy (&d->unverified);
  renew_close (&d->reader_renewal);
  reconnect_close (&d->reconnect);
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
  free (d->place);
  free (d->place_id);
  free (d->latest);
  free (d->not_shared);
}
