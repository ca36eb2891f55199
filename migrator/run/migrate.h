/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration from its start to its end. */

#ifndef NBDMIGRATE_MIGRATE_H
#define NBDMIGRATE_MIGRATE_H

struct options;

/* Returns the exit status. */
extern int migrate (const struct options *options);

#endif /* NBDMIGRATE_MIGRATE_H */
