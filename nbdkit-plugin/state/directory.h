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

/* When the directory was claimed, if the process that had it before has not
 * ended cleanly: it was killed, has crashed, or has left something that may
 * still land (R17).  Otherwise 0.  Of clock_ms.
 */
extern int64_t directory_unclean_ms (void);

/* Stop listening, remove the socket, unlock.  'clean': what this process has
 * sent has landed, or a state file of an export says what has not; and so it is
 * with what the one before has sent, if that did not end cleanly.  May be
 * called again.
 */
extern void directory_release (bool clean);

#endif /* NBDMIGRATE_DIRECTORY_H */
