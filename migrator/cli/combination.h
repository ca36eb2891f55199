/* SPDX-License-Identifier: BSD-3-Clause */
/* Options of a migration that do not go together, or not with its disks. */

#ifndef NBDMIGRATE_COMBINATION_H
#define NBDMIGRATE_COMBINATION_H

#include "base/options.h"

/* How often a URI is a source or a destination of the pairs so far. */
extern unsigned times_in_pairs (const struct options *o, const char *uri);

/* -1 after saying what contradicts what.  'o' is what was given, so 0 is "not
 * given" also where there is a default.
 */
extern int combination_check (const struct options *o);

#endif /* NBDMIGRATE_COMBINATION_H */
