/* SPDX-License-Identifier: BSD-3-Clause */
/* How long each request took, and what of it falls into which window.
 *
 * All times are those of CLOCK_REALTIME, in ns, so that windows can be named by
 * others (events of nbdmigrate have the same clock).  One thread.
 */

#ifndef GUEST_LOAD_TIMES_H
#define GUEST_LOAD_TIMES_H

#include <stdint.h>

#include <jansson.h>

extern int64_t times_now (void);

/* A request that was answered.  Exits the program if there is no memory. */
extern void times_add (int64_t begin, int64_t end);

extern uint64_t times_count (void);

/* Windows of a file, a line each: "NAME BEGIN END", in seconds since the epoch.
 * Returns an array of objects.  A request counts for the "requests" of the
 * window in which it was answered, and its wait for each in which it was under
 * way at any time.  Null if the file cannot be read or has other lines. */
extern json_t *times_windows (const char *path);

#endif /* GUEST_LOAD_TIMES_H */
