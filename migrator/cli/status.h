/* SPDX-License-Identifier: BSD-3-Clause */
/* 'nbdmigrate status': what a proxy, and a migration on it, are doing. */

#ifndef NBDMIGRATE_STATUS_H
#define NBDMIGRATE_STATUS_H

/* argv[0] is "status".  Returns the exit status. */
extern int status_main (int argc, char *argv[]);

#endif /* NBDMIGRATE_STATUS_H */
