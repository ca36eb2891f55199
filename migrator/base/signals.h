/* SPDX-License-Identifier: BSD-3-Clause */
/* The signals that end a migration in good order: SIGINT, SIGTERM and SIGHUP;
 * and SIGUSR1, on which it says how far it is.
 *
 * They wait from the first moment on, so that none ends it in another way.  One
 * that is ignored when it starts (nohup) stays ignored.  Threads inherit that
 * they are blocked.
 */

#ifndef NBDMIGRATE_SIGNALS_H
#define NBDMIGRATE_SIGNALS_H

extern void signals_block (void);

/* As before signals_block. */
extern void signals_restore (void);

/* A signalfd of them, or -1 with errno set. */
extern int signals_open (void);

/* Of one of them. */
extern const char *signals_name (int signo);

#endif /* NBDMIGRATE_SIGNALS_H */
