/* SPDX-License-Identifier: BSD-3-Clause */
/* The progress of a migration as one line of text, made from the published
 * JSON, so that 'nbdmigrate status' shows exactly what the migrator's own
 * terminal shows.
 */

#ifndef NBDMIGRATE_PROGRESS_TEXT_H
#define NBDMIGRATE_PROGRESS_TEXT_H

#include <stdbool.h>

#include <jansson.h>

/* Without a newline; the caller frees it.  columns: its room, 0 if there is no
 * limit; what there is no room for is left out, the least useful first.
 */
extern char *progress_text (const json_t *progress, bool bar, unsigned columns);

/* The width of the terminal, 0 if it is none. */
extern unsigned progress_columns (int fd);

#endif /* NBDMIGRATE_PROGRESS_TEXT_H */
