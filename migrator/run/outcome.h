/* SPDX-License-Identifier: BSD-3-Clause */
/* What became of a commit whose answer was lost. */

#ifndef NBDMIGRATE_OUTCOME_H
#define NBDMIGRATE_OUTCOME_H

struct disks;

/* Of the disks whose d->outcome is lost: reconnect and ask, for some seconds
 * (R11).  d->control may be NULL afterwards.
 */
extern void outcome_ask_lost (struct disks *disks);

/* Ask every proxy how its disk ended, those that cannot be asked again and
 * again for some seconds: sets outcome and owner of all.
 */
extern void outcome_ask_all (struct disks *disks);

#endif /* NBDMIGRATE_OUTCOME_H */
