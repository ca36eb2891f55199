/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the owner record, and mending what a crash left.  See record.c. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "record-internal.h"
#include "state-file.h"

#define SETTLE                                                                 \
  "; nobody is served until \"nbdmigrate reopen DIR owner=source\", or "       \
  "owner=destination, settles who has the present data"

struct view {
  enum slot_state state[2];
  struct slot slot[2];
};

static enum slot_state
read_slot (const struct record_file *f, int fd, unsigned number,
           struct slot *slot)
{
  uint8_t bytes[RECORD_SLOT_BYTES];

  if (state_file_read (fd, bytes, sizeof bytes,
                       (off_t)number * RECORD_SLOT_STRIDE) == -1)
    return SLOT_INVALID; /* a bad sector is rot */
  return slot_decode (bytes, number, f->name_digest, slot);
}

/* The slot to be believed, 0 or 1; -1: none, *why says it. */
static int
choose_slot (const struct record_file *f, const struct view *v, char **why)
{
  const struct slot *a = &v->slot[0], *b = &v->slot[1];
  const bool a_newer = a->generation > b->generation;

  if (v->state[0] == SLOT_FOREIGN || v->state[1] == SLOT_FOREIGN) {
    record_explain (why, f,
                    "the owner record was written by another version of the "
                    "software, or belongs to another export" SETTLE);
    return -1;
  }
  if (v->state[0] == SLOT_INVALID && v->state[1] == SLOT_INVALID) {
    record_explain (why, f, "there is no readable owner record in it" SETTLE);
    return -1;
  }
  if (v->state[0] != SLOT_VALID)
    return 1;
  if (v->state[1] != SLOT_VALID)
    return 0;
  if (slot_same_record (&a->record, &b->record))
    return a_newer ? 0 : 1;
  if (a->generation + 1 == b->generation || b->generation + 1 == a->generation)
    return a_newer ? 0 : 1;
  record_explain (
    why, f,
    "its two owner records contradict each other (generations %llu "
    "and %llu)" SETTLE,
    (unsigned long long)a->generation, (unsigned long long)b->generation);
  return -1;
}

static int
check_file (const struct record_file *f, int fd, char **why)
{
  struct stat st;

  if (fstat (fd, &st) == -1) {
    record_explain (why, f, "reading the owner record: %s" SETTLE,
                    strerror (errno));
    return -1;
  }
  if (st.st_size < RECORD_MAP_OFFSET) {
    record_explain (why, f,
                    "not a state file: %lld bytes, at least %d expected" SETTLE,
                    (long long)st.st_size, RECORD_MAP_OFFSET);
    return -1;
  }
  return 0;
}

static enum record_status
read_file (const struct record_file *f, int fd, uint64_t disk_bytes,
           struct view *v, int *chosen, char **why)
{
  const struct record *rec;

  if (check_file (f, fd, why) == -1)
    return RECORD_UNREADABLE;
  for (unsigned i = 0; i < 2; ++i)
    v->state[i] = read_slot (f, fd, i, &v->slot[i]);
  *chosen = choose_slot (f, v, why);
  if (*chosen == -1)
    return RECORD_UNREADABLE;
  rec = &v->slot[*chosen].record;
  if (disk_bytes != 0 && rec->disk_bytes != disk_bytes) {
    record_explain (
      why, f,
      "the owner record is for a disk of %llu bytes, this one has "
      "%llu" SETTLE,
      (unsigned long long)rec->disk_bytes, (unsigned long long)disk_bytes);
    return RECORD_UNREADABLE;
  }
  return RECORD_OK;
}

static bool
is_lack (int error)
{
  return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* RECORD_OK: opened, *fd is the caller's. */
static enum record_status
open_file (const struct record_file *f, int flags, int *fd, char **why)
{
  CLEANUP_FREE char *refused = NULL;

  *fd = state_file_open (f->path, flags, &refused);
  if (*fd >= 0)
    return RECORD_OK;
  if (errno == ENOENT)
    return RECORD_NONE;
  if (is_lack (errno)) {
    record_explain (why, f, "opening the owner record: %s", strerror (errno));
    return RECORD_LACKING;
  }
  record_explain (why, f, "opening the owner record: %s" SETTLE,
                  refused ? refused : strerror (errno));
  return RECORD_UNREADABLE;
}

enum record_status
record_peek (const struct record_file *f, uint64_t disk_bytes,
             struct record *rec, char **why)
{
  CLEANUP_CLOSE int fd = -1;
  enum record_status status;
  struct view v;
  int chosen;

  *why = NULL;
  status = open_file (f, O_RDONLY, &fd, why);
  if (status == RECORD_OK)
    status = read_file (f, fd, disk_bytes, &v, &chosen, why);
  if (status == RECORD_OK)
    *rec = v.slot[chosen].record;
  return status;
}

/* Bring both slots to what was chosen.  First sync: what we believe may be in
 * memory only, and must be durable before its last fallback is overwritten.
 */
static int
mend (struct record_file *f, const struct view *v, int chosen)
{
  const unsigned other = 1 - chosen;

  if (v->state[other] == SLOT_VALID &&
      v->slot[other].generation == f->current.generation)
    return 0;
  if (record_sync (f, f->fd) == -1)
    return -1;
  if (record_write_slot (f, f->fd, &f->current, other) == -1)
    return -1;
  return record_sync (f, f->fd);
}

enum record_status
record_open (struct record_file *f, uint64_t disk_bytes, struct record *rec,
             char **why)
{
  enum record_status status;
  struct view v;
  int fd, chosen;

  *why = NULL;
  if (f->fd >= 0)
    close (f->fd);
  f->fd = -1;
  f->opened = true;
  f->weak = 0;
  f->dir_not_durable = false;
  status = open_file (f, O_RDWR, &fd, why);
  if (status != RECORD_OK)
    return status;
  status = read_file (f, fd, disk_bytes, &v, &chosen, why);
  if (status != RECORD_OK) {
    close (fd);
    return status;
  }
  f->fd = fd;
  f->current = v.slot[chosen];
  f->known = f->current.generation;
  if (mend (f, &v, chosen) == -1) {
    record_explain (why, f, "mending the owner record: %s", strerror (errno));
    f->weak = 1 - chosen;
    /* A bad slot stays bad, which is safe.  An old one would stay readable. */
    if (v.state[1 - chosen] == SLOT_VALID) {
      close (f->fd);
      f->fd = -1;
      return RECORD_UNREADABLE;
    }
  }
  *rec = f->current.record;
  return RECORD_OK;
}
