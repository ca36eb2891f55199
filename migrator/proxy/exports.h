/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks of a proxy, by its migrate-dir. */

#ifndef NBDMIGRATE_EXPORTS_H
#define NBDMIGRATE_EXPORTS_H

#include <stdbool.h>

#include <jansson.h>

extern bool is_directory (const char *path);

/* The path of the control socket in it; the caller frees it. */
extern char *exports_control_path (const char *dir);

/* The names of those that a client has opened ('opened', or NULL), and of those
 * that have a record only; the caller frees them.  NULL with errno set.
 */
extern json_t *exports_find (const char *dir, const json_t *opened);

/* The same.  NULL after saying what is wrong. */
extern json_t *exports_of_directory (const char *dir, const json_t *opened);

#endif /* NBDMIGRATE_EXPORTS_H */
