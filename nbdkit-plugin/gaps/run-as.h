/* SPDX-License-Identifier: BSD-3-Clause */
/* The user that nbdkit is going to run as. */

#ifndef NBDMIGRATE_RUN_AS_H
#define NBDMIGRATE_RUN_AS_H

#include <sys/types.h>

/* nbdkit changes the user (-u, --user) between .get_ready and .after_fork and
 * tells nobody, so its command line is read again.  Returns the effective
 * user if there is no such option, or if this process may not change its user.
 */
extern uid_t run_as_user (void);

#endif /* NBDMIGRATE_RUN_AS_H */
