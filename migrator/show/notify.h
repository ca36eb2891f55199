/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of a migration for a service manager (sd_notify(3), whose protocol
 * is stable: datagrams of assignments).  Nothing is sent where $NOTIFY_SOCKET
 * is not set.  For the main thread only; nothing here blocks, and what cannot
 * be told is not.
 */

#ifndef NBDMIGRATE_NOTIFY_H
#define NBDMIGRATE_NOTIFY_H

#include <jansson.h>

/* Before anything is started: programs of ours do not inherit the socket. */
extern void notify_open (void);

/* All checks have passed, and the copying begins.  Once. */
extern void notify_ready (void);

/* A progress object. */
extern void notify_progress (const json_t *progress);

/* It ends, and is not to be stopped any more. */
extern void notify_stopping (void);

#endif /* NBDMIGRATE_NOTIFY_H */
