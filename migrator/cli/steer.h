/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands to a migration that another nbdmigrate is running: set, finish,
 * cancel; and reopen, for the proxy itself.
 */

#ifndef NBDMIGRATE_STEER_H
#define NBDMIGRATE_STEER_H

/* argv[0] is the command.  Return the exit status. */
extern int set_main (int argc, char *argv[]);
extern int finish_main (int argc, char *argv[]);
extern int pause_main (int argc, char *argv[]);
extern int resume_main (int argc, char *argv[]);
extern int cancel_main (int argc, char *argv[]);
extern int reopen_main (int argc, char *argv[]);

#endif /* NBDMIGRATE_STEER_H */
