/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads for what would block the loop.  Nobody waits for their end. */

#ifndef NBDMIGRATE_THREAD_H
#define NBDMIGRATE_THREAD_H

/* Run it in a thread that no signal disturbs: those are for the main thread.
 * (With SIGTTOU blocked, 'stty tostop' does not stop a migration in the
 * background either.)  0, or errno.
 */
extern int thread_start (void *(*run) (void *), void *opaque);

#endif /* NBDMIGRATE_THREAD_H */
