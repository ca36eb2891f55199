/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's requests: the gate, the tracking, and which side serves them.
 *
 * They take what nbdkit's callbacks get.  'next' is the connection's own
 * context, or NULL if the export has a shared one.
 */

#ifndef NBDMIGRATE_REQUEST_H
#define NBDMIGRATE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "export/export.h"

/* One NBD connection. */
struct handle {
  struct export *export;
  bool no_source; /* the plugin was not opened: the destination owns the disk */
  uint64_t errors_seen; /* atomic: of the relay's error generation (relay.h) */
  bool readonly;
  bool told; /* atomic: that it is fenced was logged */
};

/* The context to ask about the export's properties. */
static inline nbdkit_next *
handle_next (const struct handle *h, nbdkit_next *next)
{
  return h->export->shared ? h->export->shared : next;
}

extern int request_pread (struct handle *h, nbdkit_next *next, void *buf,
                          uint32_t count, uint64_t offset, uint32_t flags,
                          int *err);
extern int request_pwrite (struct handle *h, nbdkit_next *next, const void *buf,
                           uint32_t count, uint64_t offset, uint32_t flags,
                           int *err);
extern int request_zero (struct handle *h, nbdkit_next *next, uint32_t count,
                         uint64_t offset, uint32_t flags, int *err);
extern int request_trim (struct handle *h, nbdkit_next *next, uint32_t count,
                         uint64_t offset, uint32_t flags, int *err);
extern int request_flush (struct handle *h, nbdkit_next *next, uint32_t flags,
                          int *err);
extern int request_extents (struct handle *h, nbdkit_next *next, uint32_t count,
                            uint64_t offset, uint32_t flags,
                            struct nbdkit_extents *extents, int *err);
extern int request_cache (struct handle *h, nbdkit_next *next, uint32_t count,
                          uint64_t offset, uint32_t flags, int *err);

#endif /* NBDMIGRATE_REQUEST_H */
