/* SPDX-License-Identifier: BSD-3-Clause */
/* Showing what a filter, or a record, says of one disk. */

#ifndef NBDMIGRATE_STATUS_PRINT_H
#define NBDMIGRATE_STATUS_PRINT_H

#include <stdbool.h>

#include <jansson.h>

/* On stdout, as text or as JSON.  'where': the URI or directory that was asked
 * about.  Returns 0, or -1 if there is no memory.
 */
extern int status_print (const char *where, const json_t *status, bool json);

#endif /* NBDMIGRATE_STATUS_PRINT_H */
