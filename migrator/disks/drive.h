/* SPDX-License-Identifier: BSD-3-Clause */
/* One round of the loop, and questions to the proxies meanwhile. */

#ifndef NBDMIGRATE_DRIVE_H
#define NBDMIGRATE_DRIVE_H

#include <jansson.h>

#include "disks/disks.h"

/* One round: start, wait for at most timeout_ms, serve. */
extern void drive (struct disks *disks, int timeout_ms);

/* The arguments of a command to one disk; may return NULL. */
typedef json_t *drive_arguments (struct disk *d);

/* Send a command to the filters of all disks, and drive until all have
 * answered (into d->answer).  Returns 0 if all said yes.  Errors are left to
 * the caller, who looks at the answers.
 */
extern int drive_ask_all (struct disks *disks, const char *command,
                          drive_arguments *arguments);

/* The same with one disk; the arguments are stolen. */
extern int drive_ask (struct disk *d, const char *command, json_t *arguments);

/* The first answer that is an error, or NULL; and make an error of it. */
extern struct disk *drive_refused (struct disks *disks);
extern void drive_fail_refused (struct disks *disks, const char *doing);

/* Whether the disk's latest answer is this error. */
extern bool drive_refused_with (const struct disk *d, const char *error_class);

/* Bring what the filters say of each disk up to date.  -1 after failure_note.
 */
extern int drive_refresh (struct disks *disks);

#endif /* NBDMIGRATE_DRIVE_H */
