/* SPDX-License-Identifier: BSD-3-Clause */
/* Scope-bound release of what a function acquired.
 *
 * Attributes for local variables: the release runs when the variable leaves
 * its scope, on every path.  Initialise the variable.
 */

#ifndef NBDMIGRATE_CLEANUP_H
#define NBDMIGRATE_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <jansson.h>

static inline void
cleanup_free (void *ptr)
{
  free (*(void **)ptr);
}

static inline void
cleanup_close (int *fd)
{
  if (*fd >= 0)
    close (*fd);
}

static inline void
cleanup_json (json_t **json)
{
  json_decref (*json);
}

static inline void
cleanup_unlock (pthread_mutex_t **lock)
{
  pthread_mutex_unlock (*lock);
}

#define CLEANUP_FREE __attribute__ ((cleanup (cleanup_free)))
#define CLEANUP_CLOSE __attribute__ ((cleanup (cleanup_close)))
#define CLEANUP_JSON __attribute__ ((cleanup (cleanup_json)))

/* Lock the mutex until the end of the enclosing scope; once per scope. */
#define ACQUIRE_LOCK_FOR_CURRENT_SCOPE(mutex)                                  \
  __attribute__ ((cleanup (cleanup_unlock))) pthread_mutex_t *scope_lock =     \
    (mutex);                                                                   \
  pthread_mutex_lock (scope_lock)

#endif /* NBDMIGRATE_CLEANUP_H */
