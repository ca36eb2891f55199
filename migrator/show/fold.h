/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines of "label  words" in a terminal that is narrower than they are.
 *
 * Pure.  A byte counts as a column: what is shown is made of ASCII, but for
 * what is in a URI.
 */

#ifndef NBDMIGRATE_FOLD_H
#define NBDMIGRATE_FOLD_H

#include <stdbool.h>

/* The text, of whole lines, with those that are longer than 'columns' (0: none
 * is) broken at blanks, and what is broken off behind 'indent' of them.  A word
 * that is too long for a line, as a URI can be, is left whole for the terminal
 * to wrap, so that it can be copied; or with 'hard' it is cut to pieces, so
 * that no line is longer than that.  The caller frees it.  NULL: no memory.
 */
extern char *fold_text (const char *text, unsigned columns, unsigned indent,
                        bool hard);

#endif /* NBDMIGRATE_FOLD_H */
