/* SPDX-License-Identifier: BSD-3-Clause */
/* The log of unflushed writes: two rings.
 *
 * The data lie in a ring of bytes, each record's in one piece, the records in
 * a ring of their own.  Both are freed from their old end, and only a record
 * that is cancelled, or acknowledged and flushed, can go.  No allocation takes
 * place after relay_log_new, and memory is touched only as far as it was used:
 * an empty log starts again at the front.
 *
 * A flush covers what was acknowledged before it began.  That is no prefix of
 * the ring, so each acknowledged record carries the number of the flush that
 * will be the first to cover it.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "log.h"

#define RECORD_BYTES_GUESS                                                     \
  1024 /* one record slot for so many bytes of data                            \
        */
#define ALIGNMENT 64
/* Stays when memory is given back: a guest that writes now and then would have
 * every page of it made anew.
 */
#define KEEP_BYTES (2 << 20)

enum log_state { LOG_PENDING, LOG_ACKNOWLEDGED, LOG_CANCELLED };

struct log_record {
  uint64_t offset;
  uint64_t length;
  uint64_t flush; /* acknowledged: the first flush that covers it */
  size_t start;   /* of the data in the ring */
  size_t room;    /* taken in the ring, with what was skipped at its end */
  uint32_t flags;
  uint8_t kind;
  uint8_t state;
};

struct relay_log {
  uint8_t *ring;
  size_t ring_bytes;
  size_t used;
  size_t head; /* where the next data go */

  struct log_record *records;
  size_t nr_records;    /* a power of two */
  uint64_t first, next; /* record n is at n modulo nr_records */

  uint64_t flush;   /* the number of the next flush; the first is 1 */
  uint64_t flushed; /* the highest that succeeded */
};

struct relay_log *
relay_log_new (size_t bytes)
{
  struct relay_log *log = calloc (1, sizeof *log);

  if (log == NULL)
    return NULL;
  log->ring_bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (log->ring_bytes == 0)
    log->ring_bytes = ALIGNMENT;
  log->nr_records = 16;
  while (log->nr_records < log->ring_bytes / RECORD_BYTES_GUESS)
    log->nr_records *= 2;
  log->flush = 1;
  log->ring = mmap (NULL, log->ring_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (log->ring == MAP_FAILED) {
    free (log);
    return NULL;
  }
  log->records = calloc (log->nr_records, sizeof *log->records);
  if (log->records == NULL) {
    relay_log_free (log);
    errno = ENOMEM;
    return NULL;
  }
  return log;
}

void
relay_log_free (struct relay_log *log)
{
  if (log == NULL)
    return;
  munmap (log->ring, log->ring_bytes);
  free (log->records);
  free (log);
}

size_t
relay_log_largest (const struct relay_log *log)
{
  return log->ring_bytes / 4;
}

static struct log_record *
record_at (const struct relay_log *log, uint64_t id)
{
  return &log->records[id & (log->nr_records - 1)];
}

/* Where 'bytes' go in one piece, and what that takes; false: no room. */
static bool
find_room (const struct relay_log *log, size_t bytes, size_t *start,
           size_t *room)
{
  const size_t to_end = log->ring_bytes - log->head;

  *start = log->head;
  *room = bytes;
  if (bytes > to_end) {
    *start = 0;
    *room += to_end;
  }
  return *room <= log->ring_bytes - log->used;
}

bool
relay_log_reserve (struct relay_log *log, enum log_kind kind, uint32_t flags,
                   uint64_t offset, uint64_t length, uint64_t *id,
                   uint8_t **data)
{
  size_t bytes = 0, start, room;
  struct log_record *rec;

  if (kind == LOG_WRITE) {
    assert (length <= relay_log_largest (log));
    bytes = (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
  if (log->next - log->first == log->nr_records ||
      !find_room (log, bytes, &start, &room))
    return false;

  *id = log->next++;
  rec = record_at (log, *id);
  *rec = (struct log_record){
    .offset = offset,
    .length = length,
    .start = start,
    .room = room,
    .flags = flags,
    .kind = kind,
    .state = LOG_PENDING,
  };
  log->used += room;
  log->head = (start + bytes) % log->ring_bytes;
  *data = kind == LOG_WRITE ? log->ring + start : NULL;
  return true;
}

static bool
is_flushed (const struct relay_log *log, const struct log_record *rec)
{
  return rec->state == LOG_ACKNOWLEDGED && rec->flush <= log->flushed;
}

/* Free what can go at the old end. */
static void
reclaim (struct relay_log *log)
{
  while (log->first < log->next) {
    const struct log_record *rec = record_at (log, log->first);

    if (rec->state != LOG_CANCELLED && !is_flushed (log, rec))
      return;
    log->used -= rec->room;
    ++log->first;
  }
  log->head = 0;
}

void
relay_log_acknowledge (struct relay_log *log, uint64_t id)
{
  struct log_record *rec = record_at (log, id);

  assert (id >= log->first && id < log->next && rec->state == LOG_PENDING);
  rec->state = LOG_ACKNOWLEDGED;
  rec->flush = log->flush;
}

void
relay_log_cancel (struct relay_log *log, uint64_t id)
{
  struct log_record *rec = record_at (log, id);

  assert (id >= log->first && id < log->next && rec->state == LOG_PENDING);
  rec->state = LOG_CANCELLED;
  reclaim (log);
}

uint64_t
relay_log_flush_begin (struct relay_log *log)
{
  return log->flush++;
}

void
relay_log_flush_end (struct relay_log *log, uint64_t mark)
{
  if (mark > log->flushed)
    log->flushed = mark;
  reclaim (log);
}

bool
relay_log_next (const struct relay_log *log, uint64_t *cursor,
                struct log_entry *entry)
{
  uint64_t id = *cursor > log->first ? *cursor : log->first;

  for (; id < log->next; ++id) {
    const struct log_record *rec = record_at (log, id);

    if (rec->state != LOG_ACKNOWLEDGED || is_flushed (log, rec))
      continue;
    entry->kind = rec->kind;
    entry->flags = rec->flags;
    entry->offset = rec->offset;
    entry->length = rec->length;
    entry->data = rec->kind == LOG_WRITE ? log->ring + rec->start : NULL;
    *cursor = id + 1;
    return true;
  }
  *cursor = id;
  return false;
}

bool
relay_log_can_free (const struct relay_log *log)
{
  return log->first < log->next &&
         record_at (log, log->first)->state == LOG_ACKNOWLEDGED;
}

void
relay_log_release (struct relay_log *log)
{
  assert (relay_log_empty (log));
  if (log->ring_bytes > KEEP_BYTES)
    madvise (log->ring + KEEP_BYTES, log->ring_bytes - KEEP_BYTES,
             MADV_DONTNEED);
}

bool
relay_log_empty (const struct relay_log *log)
{
  return log->first == log->next;
}

size_t
relay_log_used (const struct relay_log *log)
{
  return log->used;
}

bool
relay_log_half_full (const struct relay_log *log)
{
  return log->used > log->ring_bytes / 2 ||
         log->next - log->first > log->nr_records / 2;
}
