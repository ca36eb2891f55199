/* SPDX-License-Identifier: BSD-3-Clause */
/* A thread that sees to it that nbdkit can end when it is told to. */

#ifndef NBDMIGRATE_QUIT_H
#define NBDMIGRATE_QUIT_H

/* .after_fork.  'wake' is called in that thread when the server quits, and
 * again and again until quit_watch_join: it lets whoever waits inside this
 * filter look whether it still has to.  -1: error (reported).
 */
extern int quit_watch_start (void (*wake) (void));

/* .cleanup, when the server is ending.  May be called again. */
extern void quit_watch_join (void);

#endif /* NBDMIGRATE_QUIT_H */
