/* SPDX-License-Identifier: BSD-3-Clause */
/* DIR/owed: whether the guests of an export are owed an error that nobody has
 * been told of (R13, relay/owed-error.h), so that the next process owes it.
 *
 * One line of text in one block, written in place: once the file is there it
 * needs no room on a file system that is full, and it is not torn.  What cannot
 * be read or understood counts as an error owed: one flush too many fails then.
 */

#ifndef NBDMIGRATE_OWED_FILE_H
#define NBDMIGRATE_OWED_FILE_H

#include <stdbool.h>

/* What the file says; false if there is none.  *why: it could not be read or
 * understood, and what to do; the caller frees it.  Otherwise NULL.
 */
extern bool owed_file_read (const char *path, char **why);

/* Write it, durably.  -1 with errno, and *why may say more (the caller frees
 * it).
 */
extern int owed_file_write (const char *path, bool owed, char **why);

/* Make it, saying that nothing is owed, if it is not there. */
extern int owed_file_make (const char *path, char **why);

#endif /* NBDMIGRATE_OWED_FILE_H */
