/* SPDX-License-Identifier: BSD-3-Clause */
/* The gates of all disks (R8).  The filters enforce the deadline. */

#ifndef NBDMIGRATE_GATES_H
#define NBDMIGRATE_GATES_H

#include <stdbool.h>

#include "disks/disks.h"

enum gates {
  GATES_SHUT,
  GATES_MISSED, /* a guest's requests did not end before the deadline */
  GATES_FAILED, /* after failure_note */
};

/* Shut the gates of all disks, for max_pause_ms at most.  Whatever it returns,
 * gates_open is to follow.
 */
extern enum gates gates_shut (struct disks *disks);

/* How long a commit will take, as recording an owner took of late; all disks do
 * so at the same time, and a detach records nothing.
 */
extern uint64_t gates_commit_us (const struct disks *disks);

/* Open all that we shut.  False if one had opened by itself before. */
extern bool gates_open (struct disks *disks);

#endif /* NBDMIGRATE_GATES_H */
