/* SPDX-License-Identifier: BSD-3-Clause */
/* What is shown again and again in place of what was shown before. */

#ifndef NBDMIGRATE_SCREEN_H
#define NBDMIGRATE_SCREEN_H

#include <stdbool.h>

/* Show a text of whole lines from the top of the terminal of stdout on, whose
 * lines are folded behind 'indent' blanks where it is narrow.  If it has not as
 * many rows the first line stays, and of the others the last ones.  'first':
 * the terminal is cleared.  0; -1: no memory, or it cannot be written to.
 */
extern int screen_show (const char *text, unsigned indent, bool first);

#endif /* NBDMIGRATE_SCREEN_H */
