/* SPDX-License-Identifier: BSD-3-Clause */
/* How long the plugin takes for what changes the disk (R17).
 *
 * A plugin may be a client of a server, and nothing tells which are.  What such
 * a server was sent it may do after the proxy was killed, and the next process
 * has to know for how long.  So the longest delay is measured, also of what has
 * no answer yet, and is in the record.
 */

#ifndef NBDMIGRATE_LOCAL_WATCH_H
#define NBDMIGRATE_LOCAL_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lane.h"

struct export;

/* In one lane: how many are under way, of those that count in either turn. */
struct local_writes_lane {
  _Alignas(LANE_BYTES) uint64_t under_way[2]; /* atomic */
};

/* Of one export; begun by local_init. */
struct local_writes {
  struct local_writes_lane lanes[LANES];
  unsigned turn;       /* atomic: where those count that begin now */
  uint64_t longest_ms; /* atomic: that was seen in this process */
  uint64_t told_ms;    /* atomic: what the record says */
  int64_t failed_ms;   /* atomic: when the latest that failed did so, or 0 */

  int64_t began_ms[2]; /* when that turn began; the watcher's */
};

/* One thread for all exports.  It sleeps as long as nothing is under way.  -1:
 * error (reported).  It is stopped before the exports end.
 */
extern int local_watch_start (void);
extern void local_watch_stop (void);

/* Around each request that changes the local place; 'turn' is what begin gave,
 * and r 0 or -1.  In one thread.  Needs no lock.
 */
extern unsigned local_watch_begin (struct export *e);
extern void local_watch_end (struct export *e, unsigned turn, int r);

/* At most a second more than it was, and what it takes to record the delays of
 * all exports.  Needs no lock.
 */
extern uint64_t local_watch_longest_ms (const struct export *e);

/* Until when (of clock_ms) what was lost with a connection of the plugin's may
 * still land: what has failed, and 'now' also what is under way.  0, or a time
 * that is over: nothing.  Needs no lock.
 */
extern int64_t local_watch_late_until_ms (const struct export *e, bool now);

#endif /* NBDMIGRATE_LOCAL_WATCH_H */
