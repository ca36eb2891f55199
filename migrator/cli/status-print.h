/* SPDX-License-Identifier: BSD-3-Clause */
/* Showing what a filter, or a record, says of one disk. */

#ifndef NBDMIGRATE_STATUS_PRINT_H
#define NBDMIGRATE_STATUS_PRINT_H

#include <stdbool.h>

#include <jansson.h>

/* What each line begins with, or is blank. */
#define STATUS_LABEL_WIDTH 13

/* 'where': the URI or directory that was asked about.  Lines are as long as
 * they are, but for the progress, which keeps to the terminal of stdout.  The
 * caller frees it.
 */
extern char *status_text (const char *where, const json_t *status);

/* On stdout, as text or as JSON. */
extern void status_print (const char *where, const json_t *status, bool json);

#endif /* NBDMIGRATE_STATUS_PRINT_H */
