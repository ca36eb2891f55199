/* SPDX-License-Identifier: BSD-3-Clause */
/* What "nbdkit --dump-plugin" says of this filter. */

#ifndef NBDMIGRATE_DUMP_H
#define NBDMIGRATE_DUMP_H

/* Lines of key=value to standard output, in the manual's order. */
extern void dump_filter (void);

#endif /* NBDMIGRATE_DUMP_H */
