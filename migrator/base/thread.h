/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads for what would block the loop, or is too much work for it. */

#ifndef NBDMIGRATE_THREAD_H
#define NBDMIGRATE_THREAD_H

#include <pthread.h>

/* Run it in a thread that no signal disturbs: those are for the main thread.
 * (With SIGTTOU blocked, 'stty tostop' does not stop a migration in the
 * background either.)  Nobody waits for its end.  0, or errno.
 */
extern int thread_start (void *(*run) (void *), void *opaque);

/* The same; somebody will join it. */
extern int thread_start_joinable (pthread_t *thread, void *(*run) (void *),
                                  void *opaque);

#endif /* NBDMIGRATE_THREAD_H */
