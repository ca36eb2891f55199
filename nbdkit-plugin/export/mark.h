/* SPDX-License-Identifier: BSD-3-Clause */
/* The mark beside an export's local image (migrate-mark, state/mark-file.h):
 * there while the disk is elsewhere, by the owner record.
 *
 * No guest waits for it, and no cut-over: it is written when a session has
 * ended.  A process that is killed before that leaves it to the next one, when
 * the first client comes.
 */

#ifndef NBDMIGRATE_MARK_H
#define NBDMIGRATE_MARK_H

#include <stdbool.h>

struct export;

/* Whether there can be marks, as the user that nbdkit runs as.  -1: no
 * (reported).
 */
extern int mark_check (void);

/* Bring it in line with who owns the disk: when a session has 'ended', and at
 * other times if there is none.  Blocks for file I/O; the session lock must not
 * be held.  Reports what is wrong, of which nothing follows.
 */
extern void mark_follow (struct export *e, bool ended);

#endif /* NBDMIGRATE_MARK_H */
