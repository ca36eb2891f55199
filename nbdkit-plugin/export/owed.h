/* SPDX-License-Identifier: BSD-3-Clause */
/* What an export owes its guests: an error of the next flush, also after a
 * restart (R13, relay/owed-error.h).
 */

#ifndef NBDMIGRATE_OWED_H
#define NBDMIGRATE_OWED_H

struct export;

/* Learn what an earlier process has left; e->name is valid.  -1: no memory
 * (reported).
 */
extern int owed_load (struct export *e);

/* Before the guests can be served from a destination: make sure that there is
 * room to keep what may be owed.  Blocks for file I/O; reports what is wrong.
 */
extern void owed_make_room (struct export *e);

/* Keep what is owed, and free.  Nobody may use it any more. */
extern void owed_destroy (struct export *e);

#endif /* NBDMIGRATE_OWED_H */
