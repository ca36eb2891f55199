/* SPDX-License-Identifier: BSD-3-Clause */
/* On whose behalf this thread works: the control client that it serves. */

#ifndef NBDMIGRATE_ASKER_H
#define NBDMIGRATE_ASKER_H

#include <sys/types.h>

#define ASKER_TEXT_MAX 64

/* Of this thread from now on.  pid 0: nobody. */
extern void asker_set (pid_t pid, uid_t uid);

/* ", asked for by process 12 of user 0", or nothing; to go at the end of what
 * is told.  Returns 'text'.
 */
extern const char *asker_text (char text[ASKER_TEXT_MAX]);

#endif /* NBDMIGRATE_ASKER_H */
