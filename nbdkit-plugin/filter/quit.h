/* SPDX-License-Identifier: BSD-3-Clause */
/* A thread that sees to it that nbdkit can end when it is told to. */

#ifndef NBDMIGRATE_QUIT_H
#define NBDMIGRATE_QUIT_H

/* .after_fork.  -1: error (reported). */
extern int quit_watch_start (void);

/* .cleanup, when the server is ending.  May be called again. */
extern void quit_watch_join (void);

#endif /* NBDMIGRATE_QUIT_H */
