/* SPDX-License-Identifier: BSD-3-Clause */
/* Which destinations an export was copied to (R18).
 *
 * Whoever says that a destination is zero may be wrong about one that an
 * earlier session has written to.  So it must be known again under whatever
 * name it comes: a destination is known by its URI, and by the addresses that
 * the sockets to it are connected to.  These are the server's own, however
 * the URI spells them: a path with "..", a symbolic link, a host by its name.
 * Another export of the same server counts as the same destination, because
 * many servers serve one disk under every name.
 *
 * Not seen is what the server has several addresses for, or another server
 * that serves the same disk.
 */

#ifndef NBDMIGRATE_HISTORY_H
#define NBDMIGRATE_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

/* How a destination is known: a URI or a socket address. */
struct history_name {
  void *bytes;
  size_t length;
};

struct history_names {
  struct history_name *v;
  size_t n;
};

struct history {
  /* No destination is missing below.  While it is false everything may have
   * been written to.
   */
  bool complete;
  struct history_names latest;
  struct history_names earlier; /* of all the others */
};

/* What earlier sessions have left at a destination. */
enum history_past {
  PAST_NOTHING, /* it was never written to */
  PAST_LATEST,  /* it is the latest one */
  PAST_UNKNOWN, /* it may have been written to, nobody knows where */
};

/* Nothing is known, also not that there was none: not complete. */
extern void history_init (struct history *h);
extern void history_destroy (struct history *h);

/* The destination with this URI, to which these sockets are connected, is
 * going to be written to: what is its past?  From now on it is the latest one.
 */
extern enum history_past history_meet (struct history *h, const char *uri,
                                       const int *fds, size_t nr_fds);

/* Somebody else may have been written to: what was known counts no more. */
extern void history_forget (struct history *h);

/* One of an earlier destination's names.  False: no memory, or too many. */
extern bool history_add_earlier (struct history *h, const void *bytes,
                                 size_t length);

#endif /* NBDMIGRATE_HISTORY_H */
