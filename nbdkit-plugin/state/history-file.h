/* SPDX-License-Identifier: BSD-3-Clause */
/* The history of an export's destinations, kept in DIR/history beside the owner
 * record, so that a new destination is still known to be one after a restart of
 * the proxy (R18).
 *
 * A text file, replaced as a whole: a heading, a line for each name in
 * hexadecimal, and a last line by which it is known to be whole.  If it is
 * missing or looks otherwise, nothing is known.
 */

#ifndef NBDMIGRATE_HISTORY_FILE_H
#define NBDMIGRATE_HISTORY_FILE_H

#include <stdbool.h>

#include "history.h"

/* What is in the file becomes the earlier destinations of an empty history, and
 * it is complete if the file is whole.  *why: what is there is not to be
 * believed (state-file.h), and what to do; the caller frees it.  Otherwise
 * NULL.
 */
extern void history_read (struct history *h, const char *path, char **why);

/* Write it; one that is not complete is none: the file goes.  -1 with errno: it
 * may not be durable, and *why may say more (the caller frees it).  Without
 * 'sync' a loss of power is not looked after.
 */
extern int history_write (const struct history *h, const char *path, bool sync,
                          char **why);

#endif /* NBDMIGRATE_HISTORY_FILE_H */
