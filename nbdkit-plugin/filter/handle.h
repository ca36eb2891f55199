/* SPDX-License-Identifier: BSD-3-Clause */
/* One NBD connection. */

#ifndef NBDMIGRATE_HANDLE_H
#define NBDMIGRATE_HANDLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "export/export.h"

struct handle {
  struct export *export;
  bool no_source; /* the plugin was not opened: the destination owns the disk */
  uint64_t errors_seen; /* atomic: of those owed to the guests (owed-error.h) */
  bool readonly;
  unsigned returns; /* when its own context was opened (local.h) */
  bool view;        /* of the local image, for a migrator (view.h) */
  int64_t peer_pid; /* of a view's */
  /* atomic: 1 more than the exchanges (local.h) were when a view first wrote;
   * 0: it has not
   */
  unsigned wrote_in;
  int64_t session_pid;    /* of a process with a control connection, or 0 */
  pthread_mutex_t asking; /* for its context's own answers */
  bool told;              /* atomic: that it is fenced was logged */
  bool was_served;        /* when it came, by either side */
  struct fair_flow flow;  /* the throttle's */
};

/* The migrator is not a guest, and nor is a view's client. */
static inline bool
handle_is_guest (const struct handle *h)
{
  return h->session_pid == 0 && !h->view;
}

#endif /* NBDMIGRATE_HANDLE_H */
