/* SPDX-License-Identifier: BSD-3-Clause */
/* What is shown of a migration (show/snapshot.h), filled in. */

#ifndef NBDMIGRATE_RUN_SNAPSHOT_H
#define NBDMIGRATE_RUN_SNAPSHOT_H

#include "show/snapshot.h"

struct disk;
struct migration;

extern struct snapshot snapshot_of (struct migration *m);

/* Of a disk whose destination was lost, also once it is back. */
extern struct loss snapshot_loss (const struct disk *d);

/* Released with account_free. */
extern struct account account_of (const struct migration *m);
extern void account_free (struct account *a);

#define CLEANUP_ACCOUNT __attribute__ ((cleanup (account_free)))

#endif /* NBDMIGRATE_RUN_SNAPSHOT_H */
