/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner record in its file: when which slot is believed.
 *
 * A record is written into one slot and synced (from here on it can be read),
 * then into the other and synced, and only then acknowledged: the gate is
 * shut all the while (R10).  So at rest both slots say the same, and there are
 * only these sights:
 *
 *   both say the same       at rest: believed.
 *   one bad, one good       At rest, one slot has rotted: the other one says
 *                           the same as it did, the present owner.  Or the
 *                           first write was cut short by a crash: the other
 *                           slot has the old record, and no request has passed
 *                           since, so both sides are equal and the old owner is
 *                           right.  Or the second write was: then the good
 *                           one is the new record, and right for the same
 *                           reason.  In every case the good slot is believed.
 *   two, one generation     A crash between the two writes.  Not acknowledged,
 *   apart                   so either would do; the newer one is taken.  It is
 *                           synced and copied into the other slot before
 *                           anyone is served: if it were not, the rot of
 *                           this slot later would bring back the old owner.
 *   anything else           never written by us in this way: not believed.
 *
 * With one slot a generation behind the other at rest (the usual two-slot
 * scheme) "one bad, one good" could be either, and a rotten newest slot would
 * hand the disk back to an owner whose data are stale.  That is what the second
 * write is for.
 *
 * A write that fails is taken back in the same way: the old record again, with
 * a generation above both, into both slots.  If that fails too the outcome is
 * unsure, and the caller must keep the gate shut: a slot that could not be
 * synced may hold either record after a crash.
 *
 * A new file is written under another name, synced, renamed and the directory
 * synced: a crash leaves none or a whole one.
 *
 * What this cannot see: a whole file put back from a backup.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "record-internal.h"
#include "state-file.h"

void
record_explain (char **why, const struct record_file *f, const char *fmt, ...)
{
  const int saved = errno;
  CLEANUP_FREE char *text = NULL;
  va_list args;

  free (*why);
  *why = NULL;
  va_start (args, fmt);
  if (vasprintf (&text, fmt, args) == -1)
    text = NULL;
  va_end (args);
  if (asprintf (why, "%s: %s", f->path, text ? text : "no memory") == -1)
    *why = NULL;
  errno = saved;
}

struct record_file *
record_new (const char *dir, const char *export_name, bool sync)
{
  CLEANUP_FREE char *name = record_file_name (export_name);
  struct record_file *f = calloc (1, sizeof *f);

  if (f == NULL)
    return NULL;
  f->fd = -1;
  f->sync = sync;
  if (name == NULL || asprintf (&f->path, "%s/%s", dir, name) == -1) {
    f->path = NULL;
    goto no_memory;
  }
  f->temporary = state_file_temporary (f->path);
  if (f->temporary == NULL)
    goto no_memory;
  if (slot_name_digest (export_name, f->name_digest) == -1)
    goto no_memory;
  return f;

no_memory:
  record_free (f);
  errno = ENOMEM;
  return NULL;
}

void
record_free (struct record_file *f)
{
  if (f == NULL)
    return;
  if (f->fd >= 0)
    close (f->fd);
  free (f->path);
  free (f->temporary);
  free (f);
}

uint64_t
record_generation (const struct record_file *f)
{
  return f->fd >= 0 ? f->known : 0;
}

int
record_fd (const struct record_file *f)
{
  return f->fd;
}

int
record_write_slot (const struct record_file *f, int fd, const struct slot *slot,
                   unsigned number)
{
  uint8_t bytes[RECORD_SLOT_BYTES];

  if (slot_encode (slot, number, f->name_digest, bytes) == -1) {
    errno = EIO;
    return -1;
  }
  return state_file_write (fd, bytes, sizeof bytes,
                           (off_t)number * RECORD_SLOT_STRIDE);
}

int
record_sync (const struct record_file *f, int fd)
{
#ifdef PLANT_BUG_ignore_failed_sync
  return f->sync && fdatasync (fd) == -1 ? 0 : 0;
#else
  return f->sync ? fdatasync (fd) : 0;
#endif
}

const char *
record_end_name (enum record_end end)
{
  static const char *const names[] = {
    [RECORD_END_NONE] = "none",
    [RECORD_END_INTERRUPTED] = "interrupted",
    [RECORD_END_DETACHED] = "detached",
    [RECORD_END_HANDED_OVER] = "handed-over",
    [RECORD_END_PIVOTED] = "pivoted",
    [RECORD_END_ABORTED] = "aborted",
  };

  return names[end];
}
