/* SPDX-License-Identifier: BSD-3-Clause */
/* An export's mirror (mirror/mirror.h), joined to its tracker (R12).
 *
 * There is at most one: where what an earlier session has mirrored is still
 * unanswered, the next one cannot mirror.  The pointer is written under the
 * session lock.  A request that the tracker has told to be mirrored may use it
 * without a lock: it was set before, and is freed only when no such request is
 * in flight.
 */

#ifndef NBDMIGRATE_MIRRORING_H
#define NBDMIGRATE_MIRRORING_H

#include <stdbool.h>
#include <stdint.h>

#include "mirror/mirror.h"

struct export;

struct mirroring_status {
  const char *state; /* "off", "starting", "on", "ending" */
  struct mirror_status mirror;
};

/* The session lock must be held when you call any function below this line,
 * except where it says otherwise.
 */

/* To the destination of the session; if that is the local image, by this URI,
 * and otherwise "local_uri" may be NULL.  -1 with errno EBUSY: something of an
 * earlier session is not answered; ENOMEM.
 */
extern int mirroring_enable (struct export *e, const char *local_uri,
                             unsigned max_ms);
extern void mirroring_disable (struct export *e);

/* The migrator has lost its connections: the destination may be another one. */
extern void mirroring_lost (struct export *e);

/* The session is over. */
extern void mirroring_end (struct export *e);

/* R6, beside a flush of the session's: begin, wait (which drops the session
 * lock; 'alive' is asked meanwhile, and ends it), or give it up.  The first
 * gives up one that was not waited for.
 */
extern void mirroring_flush_begin (struct export *e);
extern bool mirroring_flush_wait (struct export *e,
                                  bool (*alive) (void *opaque), void *opaque);

extern void mirroring_get_status (struct export *e, struct mirroring_status *s);

/* Something that was mirrored may still land (R17). */
extern bool mirroring_is_late (struct export *e);

/* The server quits.  Without the lock. */
extern void mirroring_stop (struct export *e);

/* At the end: no client is connected.  Without the lock. */
extern void mirroring_free (struct export *e);

#endif /* NBDMIGRATE_MIRRORING_H */
