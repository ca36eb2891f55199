/* SPDX-License-Identifier: BSD-3-Clause */
/* What one relay leaves to the next: writes that were acknowledged and that the
 * destination could not be made to flush before the end (R13).
 *
 * The next relay takes them into its log and begins as if the destination had
 * just been lost and were back: so they are sent again and flushed, with all
 * care for further losses, before any request passes, reads too.  If a write
 * was under way at the end it may land after that (R17); so all of it waits
 * until that is over.
 *
 * What is there then may be another disk, to which they must not be sent: so
 * some of what the destination had flushed is left with them and looked at
 * first.
 *
 * Where a running relay, after a refusal, goes on and lets the guests' flushes
 * fail, this one does not: the guests that wrote these data have gone, and they
 * are still kept.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

/* More than a log needs for a record without data. */
#define RECORD_BYTES 2048

size_t
relay_rest_log_bytes (const struct relay_options *o)
{
  size_t bytes = 0;

  for (size_t i = 0; o->rest != NULL && i < o->rest->nr_entries; ++i) {
    const struct relay_entry *e = &o->rest->entries[i];

    bytes += RECORD_BYTES + (e->kind == RELAY_ENTRY_WRITE ? e->length : 0);
    /* The log takes no single write of more than a quarter of it. */
    if (e->kind == RELAY_ENTRY_WRITE && bytes < 4 * e->length)
      bytes = 4 * e->length;
  }
  return bytes > o->log_bytes ? bytes : o->log_bytes;
}

static void
take_entry (struct relay *r, const struct relay_entry *e)
{
  static const enum log_kind kinds[] = {
    [RELAY_ENTRY_WRITE] = LOG_WRITE,
    [RELAY_ENTRY_ZERO] = LOG_ZERO,
    [RELAY_ENTRY_TRIM] = LOG_TRIM,
  };
  uint64_t id;
  uint8_t *data;

  if (e->kind == RELAY_ENTRY_WITNESS) {
    witness_restore (&r->witnesses, e->data, e->offset, e->length);
    return;
  }
  if (!relay_log_reserve (r->log, kinds[e->kind],
                          e->no_hole ? LIBNBD_CMD_FLAG_NO_HOLE : 0, e->offset,
                          e->length, &id, &data))
    abort (); /* relay_rest_log_bytes is wrong, and a write must not be lost */
  if (data != NULL)
    memcpy (data, e->data, e->length);
  relay_log_acknowledge (r->log, id);
  r->rest_bytes += e->length;
}

void
relay_take_rest (struct relay *r)
{
  const struct relay_rest *rest = r->options.rest;

  r->held = r->options.hold;
  r->restoring = true;
  r->lost_ms = r->up_ms = clock_ms ();
  r->quiet_until_ms = r->lost_ms + rest->grace_ms;
  for (size_t i = 0; i < rest->nr_entries; ++i)
    take_entry (r, &rest->entries[i]);
  r->options.rest = NULL; /* it is the caller's */
}

int
relay_rest_wait (struct relay *r, const struct connection *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  while (!r->remote.stopping && !c->lost && clock_ms () < r->quiet_until_ms)
    remote_wait_changed (&r->remote);
  return r->remote.stopping || c->lost ? REMOTE_LOST : 0;
}

void
relay_rest_refused (struct relay *r, char **why)
{
  if (asprintf (why,
                "it refuses %" PRIu64 " bytes that an earlier proxy had "
                "acknowledged and kept, or their flush",
                r->rest_bytes) == -1)
    *why = NULL;
  if (r->rest_refused)
    return;
  r->rest_refused = true;
  owed_error_raise (r->options.owed, NULL);
  relay_notice (r,
                "%s; they are still kept, nobody is served, and this is "
                "tried again and again: look why it refuses them",
                *why ? *why : "no memory");
}

/* It is there, and does not have to be looked for. */
static void
say_not_restored (struct relay *r, const char *why)
{
  if (!r->rest_stuck)
    relay_notice (r,
                  "it is back and has what was kept: nobody is served before "
                  "that file is gone, which is tried again and again (%s)",
                  why ? why : "no memory");
  r->rest_stuck = true;
}

int
relay_rest_done (struct relay *r, char **why)
{
  if (r->options.restored != NULL &&
      r->options.restored (r->options.opaque, why) == -1) {
    say_not_restored (r, *why);
    return -1;
  }
  if (r->rest_bytes > 0)
    relay_good_news (r,
                     "%" PRIu64 " bytes that an earlier proxy had kept were "
                     "sent again and flushed",
                     r->rest_bytes);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  r->restoring = false;
  return 0;
}

/* ---- Leaving ----------------------------------------------------------- */

static struct relay_entry
to_entry (const struct log_entry *e)
{
  static const enum relay_entry_kind kinds[] = {
    [LOG_WRITE] = RELAY_ENTRY_WRITE,
    [LOG_ZERO] = RELAY_ENTRY_ZERO,
    [LOG_TRIM] = RELAY_ENTRY_TRIM,
  };

  return (struct relay_entry){
    .kind = kinds[e->kind],
    .no_hole = e->flags & LIBNBD_CMD_FLAG_NO_HOLE,
    .offset = e->offset,
    .length = e->length,
    .data = e->data,
  };
}

static size_t
count_log (struct relay *r)
{
  struct log_entry e;
  uint64_t cursor = 0;
  size_t n = 0;

  while (relay_log_next (r->log, &cursor, &e))
    ++n;
  return n;
}

/* Of the log, if there is anything in it, and the witnesses.  Returns how many;
 * 'out' has room for them.
 */
static size_t
list_rest (struct relay *r, const struct witness *v, size_t nr_witnesses,
           struct relay_entry *out)
{
  struct log_entry e;
  uint64_t cursor = 0;
  size_t n = 0;

  while (relay_log_next (r->log, &cursor, &e))
    out[n++] = to_entry (&e);
  for (size_t i = 0; n > 0 && i < nr_witnesses; ++i)
    out[n + i] = (struct relay_entry){
      .kind = RELAY_ENTRY_WITNESS,
      .offset = v[i].offset,
      .length = v[i].length,
      .data = v[i].data,
    };
  return n > 0 ? n + nr_witnesses : 0;
}

void
relay_leave_rest (struct relay *r, relay_keep *keep, void *opaque)
{
  const int64_t now = clock_ms ();
  struct witness v[WITNESSES];
  const size_t nr_witnesses = witness_list (&r->witnesses, v);
  const size_t most = count_log (r) + nr_witnesses;
  CLEANUP_FREE struct relay_entry *entries = calloc (most + 1, sizeof *entries);
  struct relay_rest rest = { .entries = entries, .nr_entries = count_log (r) };

  if (entries != NULL)
    rest.nr_entries = list_rest (r, v, nr_witnesses, entries);
  if (r->restoring && now < r->quiet_until_ms)
    rest.grace_ms = r->quiet_until_ms - now;
  if (r->unknown_records.all || r->left_unknown || r->mends != NULL ||
      range_lock_has_suspects (&r->ranges, now))
    rest.grace_ms = relay_grace_ms (r);
#ifdef PLANT_BUG_relay_keeps_nothing
  rest.nr_entries = 0;
#endif
  if (rest.nr_entries > 0 || rest.grace_ms > 0)
    keep (opaque, &rest);
}
