/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "cleanup.h"
#include "export.h"
#include "kept.h"
#include "record.h"
#include "state-file.h"

/* The record is written when the disk's place is named anew (reopen), which may
 * be taken back: then it is so much ahead of what was kept before.  Or it could
 * neither be written nor be taken back just before that.  More only after the
 * owner was settled by hand.
 */
#define GENERATIONS_AHEAD 2

/* After a process that did not end cleanly, what it had sent may still land.
 * So long all requests wait; to send something again as long as R17 has it, and
 * new writes likewise (relay_options.takes_over).
 */
#define UNCLEAN_GRACE_MS QUARANTINE_GRACE_MS

int
kept_init (struct export *e)
{
  e->kept_path = state_file_path (config.dir, "kept", e->name);
  if (e->kept_path != NULL)
    return 0;
  nbdkit_error ("migrate: export \"%s\": %m", e->name);
  return -1;
}

/* ---- At the start -------------------------------------------------------- */

/* Of which the sentence says what is wrong with it. */
static void
explain (const struct export *e, char **why, const char *what, uint64_t bytes)
{
  CLEANUP_FREE char *amount = NULL;

  if (bytes > 0 && asprintf (&amount, ": %" PRIu64 " bytes", bytes) == -1)
    amount = NULL;
  if (asprintf (why,
                "%s holds writes of export \"%s\" that were acknowledged and "
                "that the destination had not flushed%s, and they cannot be "
                "sent again: %s; if you can do without them, move that file "
                "away: then guests are served, and their next flush fails",
                e->kept_path, e->name, amount ? amount : "", what) == -1)
    *why = NULL;
}

/* Whether the file is of this disk in its present state.  The session lock is
 * held.  False: *what.
 */
static bool
is_of_this_state (struct export *e, const struct kept *k, const char *uri,
                  char **what)
{
  const uint64_t generation = record_generation (e->record);
  int r = 0;

  *what = NULL;
  if (k->disk_bytes != e->disk_bytes)
    r = asprintf (what,
                  "they are of a disk of %" PRIu64 " bytes, and this one "
                  "has %" PRIu64,
                  k->disk_bytes, e->disk_bytes);
  /* Without a record who reopens the disk says where it is. */
  else if (generation == 0 && strcmp (k->uri, uri) != 0)
    r = asprintf (what, "they are for %s, and the disk is said to be at %s",
                  k->uri, uri);
  else if (generation != 0 && (k->generation > generation ||
                               generation - k->generation > GENERATIONS_AHEAD))
    r = asprintf (what,
                  "they are of another time: the owner record has "
                  "generation %" PRIu64 ", and theirs was %" PRIu64,
                  generation, k->generation);
  else
    return true;
  if (r == -1)
    *what = NULL;
  return false;
}

/* Once: that is enough for every guest. */
static void
owe (struct export *e)
{
  if (!__atomic_exchange_n (&e->kept_is_bad, true, __ATOMIC_RELAXED))
    owed_error_raise (&e->owed, NULL);
  owed_error_settle (&e->owed);
}

static int
read_file (struct export *e, const char *uri, struct kept_rest *k, char **why)
{
  CLEANUP_FREE char *what = NULL;
  bool ok = true;

  switch (kept_file_read (e->kept_path, e->name, &k->file, &what)) {
  case KEPT_NONE:
    return 0;
  case KEPT_BAD:
    ok = false;
    break;
  case KEPT_OK:
    pthread_mutex_lock (&e->session.lock);
    ok = is_of_this_state (e, &k->file.kept, uri, &what);
    pthread_mutex_unlock (&e->session.lock);
    if (!ok && k->file.kept.nr_entries == 0) { /* no writes: only a grace */
      kept_file_free (&k->file);
      return 0;
    }
    break;
  }
  if (ok)
    return 0;
  explain (e, why, what ? what : "no memory", k->file.bytes);
  owe (e);
  return -1;
}

static int
make_entries (struct kept_rest *k)
{
  static const enum relay_entry_kind kinds[] = {
    [KEPT_WRITE] = RELAY_ENTRY_WRITE,
    [KEPT_ZERO] = RELAY_ENTRY_ZERO,
    [KEPT_TRIM] = RELAY_ENTRY_TRIM,
    [KEPT_WITNESS] = RELAY_ENTRY_WITNESS,
  };
  const struct kept *kept = &k->file.kept;

  k->entries = calloc (kept->nr_entries + 1, sizeof *k->entries);
  if (k->entries == NULL)
    return -1;
  for (size_t i = 0; i < kept->nr_entries; i++) {
    const struct kept_entry *e = &kept->entries[i];

    k->entries[i] = (struct relay_entry){
      .kind = kinds[e->kind],
      .no_hole = e->flags & KEPT_NO_HOLE,
      .offset = e->offset,
      .length = e->length,
      .data = e->data,
    };
  }
  return 0;
}

/* How long what the process before this one had sent may still take to land. */
static unsigned
grace_ms (const struct export *e, const struct kept *k, unsigned delay_ms)
{
  const int64_t unclean = e->unclean_ms;
  const int64_t grace = k->nr_entries > 0
                          ? (int64_t)quarantine_grace_ms (delay_ms)
                          : UNCLEAN_GRACE_MS;
  int64_t left = 0;

  if (unclean != 0)
    left = unclean + grace - clock_ms ();
  if (left < 0)
    left = 0;
  return left > k->grace_ms ? (unsigned)left : k->grace_ms;
}

/* It must not be sent again over what is newer. */
static int
restored (void *opaque, char **why)
{
  const struct export *e = opaque;

  if (kept_file_remove (e->kept_path) == 0)
    return 0;
  if (asprintf (why, "removing %s, whose writes have been sent again: %s",
                e->kept_path, strerror (errno)) == -1)
    *why = NULL;
  return -1;
}

int
kept_load (struct export *e, const char *uri, struct kept_rest *k,
           struct relay_options *options, char **why)
{
  *k = (struct kept_rest){ .entries = NULL };
  *why = NULL;
  if (read_file (e, uri, k, why) == -1 || make_entries (k) == -1) {
    kept_free (k);
    return -1;
  }
  k->rest = (struct relay_rest){
    .entries = k->entries,
    .nr_entries = k->file.kept.nr_entries,
    .grace_ms = grace_ms (e, &k->file.kept, options->delay_ms),
  };
  /* After a kill there is one even if it is empty: what the process before this
   * one acknowledged is in no log, but guests will see it, so that it is
   * flushed first (R13).
   */
  if (k->file.kept.uri != NULL || k->rest.grace_ms > 0 || e->unclean_ms != 0)
    options->rest = &k->rest;
  options->restored = restored;
  options->hold = true;
  return 0;
}

void
kept_free (struct kept_rest *k)
{
  kept_file_free (&k->file);
  free (k->entries);
}

bool
kept_is_nothing (struct export *e, char **why)
{
  CLEANUP_FREE char *what = NULL;
  struct kept_file f;
  const enum kept_status s = kept_file_read (e->kept_path, e->name, &f, &what);

  if (s == KEPT_NONE || (s == KEPT_OK && f.kept.nr_entries == 0)) {
    kept_file_free (&f);
    return true;
  }
  explain (e, why,
           what ? what
                : "the disk is where they do not belong, or they have not been "
                  "sent yet",
           f.bytes);
  if (s == KEPT_OK)
    kept_file_free (&f);
  return false;
}

/* ---- At the end ---------------------------------------------------------- */

struct closing {
  struct export *export;
  const char *uri;
};

static uint64_t
bytes_of (const struct relay_rest *rest)
{
  uint64_t bytes = 0;

  for (size_t i = 0; rest->entries != NULL && i < rest->nr_entries; i++) {
    if (rest->entries[i].kind != RELAY_ENTRY_WITNESS)
      bytes += rest->entries[i].length;
  }
  return bytes;
}

static struct kept_entry *
to_file (const struct relay_rest *rest)
{
  static const enum kept_kind kinds[] = {
    [RELAY_ENTRY_WRITE] = KEPT_WRITE,
    [RELAY_ENTRY_ZERO] = KEPT_ZERO,
    [RELAY_ENTRY_TRIM] = KEPT_TRIM,
    [RELAY_ENTRY_WITNESS] = KEPT_WITNESS,
  };
  struct kept_entry *v = calloc (rest->nr_entries + 1, sizeof *v);

  if (v == NULL || rest->entries == NULL) {
    free (v);
    return NULL;
  }
  for (size_t i = 0; i < rest->nr_entries; i++) {
    const struct relay_entry *e = &rest->entries[i];

    v[i] = (struct kept_entry){
      .kind = kinds[e->kind],
      .flags = e->no_hole ? KEPT_NO_HOLE : 0,
      .offset = e->offset,
      .length = e->length,
      .data = e->data,
    };
  }
  return v;
}

static int
write_rest (const struct closing *c, const struct relay_rest *rest, char **why)
{
  const struct export *e = c->export;
  CLEANUP_FREE struct kept_entry *entries = to_file (rest);
  const struct kept kept = {
    .export_name = e->name,
    .uri = c->uri,
    .disk_bytes = e->disk_bytes,
    .generation = record_generation (e->record),
    .grace_ms = rest->grace_ms,
    .entries = entries,
    .nr_entries = rest->nr_entries,
  };

  if (entries != NULL)
    return kept_file_write (e->kept_path, &kept, why);
  errno = ENOMEM;
  return -1;
}

static void
keep (void *opaque, const struct relay_rest *rest)
{
  const struct closing *c = opaque;
  struct export *e = c->export;
  CLEANUP_FREE char *why = NULL;

  e->not_kept = write_rest (c, rest, &why) == -1;
  if (!e->not_kept) {
    if (rest->nr_entries > 0)
      nbdkit_error ("migrate: export \"%s\": the destination %s did not flush "
                    "%" PRIu64 " bytes that were acknowledged: they are kept "
                    "in %s and sent again when nbdkit starts with this "
                    "migrate-dir",
                    e->name, c->uri, bytes_of (rest), e->kept_path);
    return;
  }
  if (rest->nr_entries == 0) {
    nbdkit_error ("migrate: export \"%s\": writing %s: %s", e->name,
                  e->kept_path, why ? why : strerror (errno));
    return;
  }
  nbdkit_error ("migrate: export \"%s\": the destination %s did not flush "
                "%" PRIu64 " bytes that were acknowledged, and they could not "
                "be kept in %s: %s; they may be lost, and the next flush fails",
                e->name, c->uri, bytes_of (rest), e->kept_path,
                why ? why : strerror (errno));
  owed_error_raise (&e->owed, NULL);
}

void
kept_close_relay (struct export *e, struct relay *relay, const char *uri)
{
  struct closing c = { e, uri };

  relay_close_keeping (relay, keep, &c);
}
