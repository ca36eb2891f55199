/* SPDX-License-Identifier: BSD-3-Clause */
/* How long a server may keep a command waiting.  No state, no clock. */

#ifndef NBDMIGRATE_REMOTE_PATIENCE_H
#define NBDMIGRATE_REMOTE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* A command that is not answered yet, and its connection.  Milliseconds of one
 * monotonic clock.
 */
struct patience {
  int64_t sent_ms;
  int64_t progress_ms;   /* when anything last came over the connection */
  bool flushing;         /* a flush is in flight there */
  int64_t flush_done_ms; /* when the last one was answered there, 0: never */
};

/* NULL: it may wait on.  Otherwise why the destination counts as lost.
 *
 * 'limit_ms' without any progress; four times as long with some.  A flush takes
 * what the server's disk needs, and a server may do nothing else meanwhile: six
 * times as long for it, and as much more for what had to wait behind it.
 */
extern const char *patience_over (const struct patience *p, int64_t limit_ms,
                                  int64_t now_ms);

#endif /* NBDMIGRATE_REMOTE_PATIENCE_H */
