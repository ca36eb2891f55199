/* SPDX-License-Identifier: BSD-3-Clause */
/* More connections to the source, in the middle of the copying: while its proxy
 * reads into shared memory few are enough, but not where that turns out not to
 * work.
 *
 * A place is left for a guest that connects again: a connection is used when
 * the next one has come, and the last one is closed.  Nothing is asked over one
 * before the filter has its socket, too, as it has the others (linger.h there).
 */

#ifndef NBDMIGRATE_WIDEN_H
#define NBDMIGRATE_WIDEN_H

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct disk;

struct widening {
  struct connection *coming; /* one that is being made, owned; or NULL */
  struct connection *spare;  /* one that has come, owned; or NULL */
  struct connection *given;  /* one the filter is told of, owned; or NULL */
  bool answered, refused;    /* what it said to that */
  int64_t begun_us;          /* when the former began */
  bool over;                 /* as many as wanted, or as are admitted */
};

/* Go on with that, if it is needed.  Once a round; it does not wait. */
extern void widen_run (struct disk *d, int64_t now_us);

extern void widen_close (struct widening *w);

#endif /* NBDMIGRATE_WIDEN_H */
