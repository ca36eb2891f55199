/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner of a disk beyond the life of this process (R10, R14).
 *
 * This version keeps no record: a disk belongs to the source when it is opened
 * first.  The callers are where they have to be for a durable one.
 */

#ifndef NBDMIGRATE_OWNER_H
#define NBDMIGRATE_OWNER_H

#include "tracker.h"

struct export;

/* Who owns the disk, before the first request passes.  e->name, e->disk_bytes
 * and e->id are valid.  An unreadable record is OWNER_UNKNOWN, not an error.
 * -1: error (reported).
 */
extern int owner_load (struct export *e, enum owner *owner);

/* Make it the record, durably.  Called with the gate shut and nothing in
 * flight: between tracker_commit_begin (or tracker_rollback_begin) and
 * tracker_commit_end, and by 'reopen', with the session lock held.  -1: the old
 * record is in force (reported).
 */
extern int owner_record (struct export *e, enum owner owner);

/* "source", "destination", "fenced", "unknown". */
extern const char *owner_name (enum owner owner);

#endif /* NBDMIGRATE_OWNER_H */
