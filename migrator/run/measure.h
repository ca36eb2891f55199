/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast the migration goes. */

#ifndef NBDMIGRATE_MEASURE_H
#define NBDMIGRATE_MEASURE_H

struct migration;

/* Bring the meter up to date. */
extern void measure (struct migration *m);

#endif /* NBDMIGRATE_MEASURE_H */
