/* SPDX-License-Identifier: BSD-3-Clause */
/* The export by which a migrator writes to the local image while the disk is
 * elsewhere (uri.h: URI_LOCAL_EXPORT), so that a disk can come back.
 *
 * Such a connection is no guest: its requests do not pass the gate and are not
 * tracked.  It must come by a Unix socket and from the user that nbdkit runs
 * as, or root; and only the process whose session has the local image as its
 * destination may write, as long as it has, and this one's mirror as long.
 */

#ifndef NBDMIGRATE_VIEW_H
#define NBDMIGRATE_VIEW_H

#include <stdbool.h>

#include "side.h"

extern bool view_is_meant (const char *export_name);

/* .open.  The plugin is opened if it is not yet.  NULL: error (reported). */
extern struct export *view_open (nbdkit_backend *backend, int readonly);

/* 0 or -1, as nbdkit's callbacks. */
extern int view_serve (const struct io *io);

#endif /* NBDMIGRATE_VIEW_H */
