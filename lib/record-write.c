/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing the owner record.  See record.c. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "record-internal.h"
#include "state-file.h"

/* After the rename, as often as it takes. */
static enum record_outcome
sync_dir_again (struct record_file *f, char **why)
{
  if (f->dir_not_durable && f->sync &&
      state_file_sync_directory (f->path) == -1) {
    record_explain (why, f, "making the state file durable: %s",
                    strerror (errno));
    return RECORD_UNSURE;
  }
  f->dir_not_durable = false;
  return RECORD_WRITTEN;
}

static int
fill_new_file (const struct record_file *f, int fd, const struct slot *slot)
{
  if (ftruncate (fd, RECORD_MAP_OFFSET) == -1)
    return -1;
  for (unsigned i = 0; i < 2; ++i) {
    if (record_write_slot (f, fd, slot, i) == -1)
      return -1;
  }
  return f->sync ? fsync (fd) : 0;
}

static enum record_outcome
create_file (struct record_file *f, const struct slot *slot, char **why)
{
  CLEANUP_FREE char *refused = NULL;
  int fd;

  if (state_file_check (f->path, &refused) == -1) {
    record_explain (why, f, "replacing the state file: %s",
                    refused ? refused : strerror (errno));
    return RECORD_KEPT;
  }
  fd = state_file_create (f->temporary, &refused);
  if (fd == -1) {
    record_explain (why, f, "making the state file: %s",
                    refused ? refused : strerror (errno));
    return RECORD_KEPT;
  }
  if (fill_new_file (f, fd, slot) == -1 ||
      rename (f->temporary, f->path) == -1) {
    record_explain (why, f, "making the state file: %s", strerror (errno));
    close (fd);
    unlink (f->temporary);
    return RECORD_KEPT;
  }
  f->fd = fd;
  f->current = *slot;
  f->known = slot->generation;
  f->dir_not_durable = true;
  return sync_dir_again (f, why);
}

static int
write_slot_durably (const struct record_file *f, const struct slot *slot,
                    unsigned number)
{
  if (record_write_slot (f, f->fd, slot, number) == -1)
    return -1;
  return record_sync (f, f->fd);
}

/* Both slots, one after the other, so that at every instant one is good. */
static int
write_both (struct record_file *f, const struct slot *slot)
{
  const unsigned first = f->weak, second = 1 - first;

  if (write_slot_durably (f, slot, first) == -1)
    return -1;
  f->weak = second;
  if (write_slot_durably (f, slot, second) == -1)
    return -1;
  f->weak = 0;
  return 0;
}

static bool
can_be_written (const struct record_file *f, const struct record *rec,
                char **why)
{
  const size_t uri_length = strnlen (rec->destination, sizeof rec->destination);

  if (uri_length > RECORD_URI_MAX) {
    record_explain (why, f, "the destination's URI is longer than %d bytes",
                    RECORD_URI_MAX);
    return false;
  }
  if (rec->owner == OWNER_UNKNOWN ||
      (rec->owner == OWNER_DESTINATION && uri_length == 0)) {
    record_explain (why, f, "an owner record must name the owner");
    return false;
  }
  return true;
}

enum record_outcome
record_write (struct record_file *f, const struct record *rec, char **why)
{
  const struct slot old = f->current;
  struct slot slot = { 1, *rec };

  *why = NULL;
  assert (f->opened);
  if (!can_be_written (f, rec, why)) {
    errno = EINVAL;
    return RECORD_KEPT;
  }
  if (f->fd == -1)
    return create_file (f, &slot, why);
  if (sync_dir_again (f, why) == RECORD_UNSURE)
    return RECORD_UNSURE;

  slot.generation = old.generation + 1;
  if (write_both (f, &slot) == 0) {
    f->current = slot;
    f->known = slot.generation;
    return RECORD_WRITTEN;
  }
  record_explain (why, f, "writing the owner record: %s", strerror (errno));

  /* Take it back (R10).  Whatever comes of it, a later record must stand above
   * what may be in the slots now.
   */
  f->current.generation = old.generation + 2;
  if (write_both (f, &f->current) == 0) {
    f->known = f->current.generation;
    return RECORD_KEPT;
  }
  record_explain (why, f,
                  "writing the owner record, and restoring the old one: %s",
                  strerror (errno));
  return RECORD_UNSURE;
}
