/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that writes, at a rate or as fast as it can, and takes the time of
 * each request (times.h, stamps.h).  One thread, one connection. */

#ifndef GUEST_LOAD_LOAD_H
#define GUEST_LOAD_LOAD_H

#include <stdbool.h>
#include <stdint.h>

struct load {
  const char *uri;
  uint64_t rate;    /* bytes per second; 0: no limit */
  uint64_t request; /* bytes of each write, a multiple of STAMPED */
  uint64_t span;    /* bytes from the start of the disk; 0: all of it */
  unsigned depth;   /* requests in flight at most */
  bool sequential;  /* round and round, else at random places */
  uint64_t seed;
  unsigned warm_up_ms; /* after so long it says that it is at work */
};

#define MAX_DEPTH 64

/* Until SIGTERM; all requests are answered then.  Returns how many have failed,
 * or -1, with a message, if there is no connection any more. */
extern int64_t load_run (const struct load *load);

#endif /* GUEST_LOAD_LOAD_H */
