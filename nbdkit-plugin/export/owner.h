/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner of a disk beyond the life of this process (R10, R14): the export's
 * side of the record (record.h).
 *
 * The session lock must be held, but for owner_load, where nobody knows the
 * export yet.  Errors are reported here; what follows from them is the
 * caller's business.
 */

#ifndef NBDMIGRATE_OWNER_H
#define NBDMIGRATE_OWNER_H

#include <stdbool.h>

#include "record.h"
#include "tracker/tracker.h"

struct export;

/* Who owns the disk, before the first request passes: e->name is valid.  Fills
 * what the record knows of the session before, and, where the disk is in a
 * remote place, e->disk_bytes and e->chunk_bytes.  A record that cannot be read
 * is OWNER_UNKNOWN, not an error.  -1: no memory.
 */
extern int owner_load (struct export *e, enum owner *owner);

/* Whether the disk is in a remote place, or was when it was handed over. */
extern bool owner_is_remote (enum owner owner, const char *source,
                             const char *destination);

/* The disk was looked at: say so if it has not the size of the record any more.
 * That changes nothing in who owns it, a local image may be grown while no
 * nbdkit runs; but no earlier migration is gone on with.
 */
extern void owner_note_size (struct export *e);

enum owner_outcome {
  OWNER_RECORDED, /* durable */
  OWNER_KEPT,     /* the old record is in force */
  OWNER_UNSURE,   /* neither is sure: nobody may be served (R10) */
};

/* Make it the record, durably, together with how the session ends and where
 * to.  For a commit: with the gate shut and nothing in flight, between
 * tracker_commit_begin (or tracker_rollback_begin) and tracker_commit_end.
 */
extern enum owner_outcome owner_record (struct export *e, enum owner owner,
                                        enum record_end end);

/* R17: no session copies before so much time has passed.  False: that is more
 * than anybody waits for at once.  Under the session lock, or at the start.
 */
extern bool owner_stay_quiet (struct export *e, uint64_t grace_ms);

/* How much of that is left. */
extern uint64_t owner_quiet_ms (const struct export *e);

/* Write the record once more: another dirty map holds than it says, or none.
 * False, with errno: it cannot be written just now.
 */
extern bool owner_record_again (struct export *e);

/* A delay has grown: have it in the record.  False: it cannot be written just
 * now.
 */
extern bool owner_update_delay (struct export *e);

/* At the end: how long old connections have not answered, for the next process.
 */
extern void owner_record_delay (struct export *e);

/* Make the history of the destinations durable, before the newest of them is
 * written to (R18).  -1: it may not be.
 */
extern int owner_record_history (struct export *e);

#endif /* NBDMIGRATE_OWNER_H */
