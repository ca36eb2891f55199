/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate-dir: the lock, and the listening control socket.
 *
 * One process at a time has the directory.  The functions are called from
 * nbdkit's main thread only.
 */

#ifndef NBDMIGRATE_DIRECTORY_H
#define NBDMIGRATE_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

/* Make the directory if needed, lock it, remove a stale socket, listen.
 * Before nbdkit forks, so that errors are seen.  -1: error (reported).
 */
extern int directory_claim (void);

/* Whether we can still use it, now as the user that nbdkit runs as.  -1: no
 * (reported).
 */
extern int directory_check (void);

/* The listening socket; stays the directory's. */
extern int directory_socket (void);

/* When the directory was claimed, if a process that had it before has not ended
 * cleanly for the export: it was killed, has crashed, or has left something
 * that may still land (R17).  Otherwise 0.  Of clock_ms.  By the name of the
 * export's record file (record_file_name); NULL: of one whose name is not
 * known.
 */
extern int64_t directory_unclean_ms (const char *record_name);

/* Stop listening, remove the socket, unlock.  'is_late' is asked of each record
 * file whether of what was sent for its export something may still land, and no
 * state file of the export says so; by this process, or by one before that did
 * not end cleanly for it.  NULL: whoever comes next has to take that for
 * granted.  May be called again.
 */
extern void directory_release (bool (*is_late) (const char *record_name));

#endif /* NBDMIGRATE_DIRECTORY_H */
