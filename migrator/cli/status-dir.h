/* SPDX-License-Identifier: BSD-3-Clause */
/* 'nbdmigrate status DIR': the state of the disks in a migrate-dir, from the
 * proxy if it runs, otherwise from the owner records alone.
 */

#ifndef NBDMIGRATE_STATUS_DIR_H
#define NBDMIGRATE_STATUS_DIR_H

#include <stdbool.h>

/* Of all its disks, or of one export (otherwise NULL).
 * With the control socket's path given (otherwise NULL) a proxy must be there.
 * Returns the exit status.
 */
extern int status_of_directory (const char *dir, const char *control_path,
                                const char *export, bool json);

#endif /* NBDMIGRATE_STATUS_DIR_H */
