/* SPDX-License-Identifier: BSD-3-Clause */
/* The log of writes that the destination has acknowledged and not flushed
 * (R13): bounded, in order, with their data.
 *
 * A record is reserved before its write is sent, filled by the caller, and
 * acknowledged or cancelled when the answer is there.  Overlapping writes are
 * never in flight together (range-lock.h), so for them the order of the
 * reservations is the order of the writes.
 *
 * Not locked: the relay's lock must be held for every call; only the data of a
 * reserved record may be written without it.
 */

#ifndef NBDMIGRATE_RELAY_LOG_H
#define NBDMIGRATE_RELAY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_kind { LOG_WRITE, LOG_ZERO, LOG_TRIM };

struct log_entry {
  enum log_kind kind;
  uint32_t flags; /* the caller's */
  uint64_t offset;
  uint64_t length;
  const uint8_t *data; /* LOG_WRITE: 'length' bytes; otherwise NULL */
};

struct relay_log;

/* NULL with errno set on error. */
extern struct relay_log *relay_log_new (size_t bytes);
extern void relay_log_free (struct relay_log *log);

/* The largest write that is taken. */
extern size_t relay_log_largest (const struct relay_log *log);

/* False: no room now.  *id names the record; *data is where the bytes of a
 * LOG_WRITE go.
 */
extern bool relay_log_reserve (struct relay_log *log, enum log_kind kind,
                               uint32_t flags, uint64_t offset, uint64_t length,
                               uint64_t *id, uint8_t **data);
extern void relay_log_acknowledge (struct relay_log *log, uint64_t id);
extern void relay_log_cancel (struct relay_log *log, uint64_t id);

/* Around a flush of the destination: it covers what was acknowledged before
 * the begin.  Several may be under way.  End is called for success only.
 */
extern uint64_t relay_log_flush_begin (struct relay_log *log);
extern void relay_log_flush_end (struct relay_log *log, uint64_t mark);

/* Walk over what is acknowledged and not flushed, in order; start with a
 * cursor of 0.  False at the end.
 */
extern bool relay_log_next (const struct relay_log *log, uint64_t *cursor,
                            struct log_entry *entry);

/* Whether a flush can make room: the oldest record waits for nothing else. */
extern bool relay_log_can_free (const struct relay_log *log);

/* Give the memory of an empty log back, but for its first pieces. */
extern void relay_log_release (struct relay_log *log);

/* No record at all.  Bytes in use; whether more than half of what there is. */
extern bool relay_log_empty (const struct relay_log *log);
extern size_t relay_log_used (const struct relay_log *log);
extern bool relay_log_half_full (const struct relay_log *log);

#endif /* NBDMIGRATE_RELAY_LOG_H */
