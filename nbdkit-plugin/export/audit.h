/* SPDX-License-Identifier: BSD-3-Clause */
/* A line in the log for each change of who owns a disk, and for all that leads
 * to one: when, what, where to, and who asked for it.
 */

#ifndef NBDMIGRATE_AUDIT_H
#define NBDMIGRATE_AUDIT_H

#include "ownership.h"
#include "record.h"

struct export;

/* The session lock must be held: they tell what the session has. */
extern void audit_begin (const struct export *e);
extern void audit_end (const struct export *e, enum owner owner);
extern void audit_cancel (const struct export *e);
extern void audit_untouched (const struct export *e);

/* The record says so: by a commit, a rollback, or 'reopen'. */
extern void audit_commit (const struct export *e, enum owner owner,
                          enum record_end end);
extern void audit_rollback (const struct export *e);
extern void audit_reopen (const struct export *e, enum owner owner);

/* A restarted proxy can go on with the migration that the dirty map is of
 * (R14); a map that held by its file only does so no more.
 */
extern void audit_map_loaded (const struct export *e, uint64_t marked_bytes);
extern void audit_map_void (const struct export *e, const char *path);

#endif /* NBDMIGRATE_AUDIT_H */
