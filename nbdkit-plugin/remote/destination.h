/* SPDX-License-Identifier: BSD-3-Clause */
/* What a destination offers, and whether that will do.  No state. */

#ifndef NBDMIGRATE_REMOTE_DESTINATION_H
#define NBDMIGRATE_REMOTE_DESTINATION_H

#include <stdbool.h>
#include <stdint.h>

#include <libnbd.h>

#include "peer.h"

struct destination {
  uint64_t bytes;
  uint32_t minimum;      /* blocks; both a power of two or a multiple of one */
  uint32_t maximum;      /* of one read or write; a multiple of the minimum */
  uint32_t zero_maximum; /* of one to zero, trim or cache; likewise */
  bool read_only;
  bool can_flush;
  bool can_fua;
  bool can_zero;
  bool can_fast_zero;
  bool can_trim;
  bool can_cache;
  bool has_allocation; /* base:allocation was granted */
  bool multi_conn;
  struct remote_peer peer;
};

/* Ask a handle that is connected. */
extern void destination_learn (struct nbd_handle *nbd, struct destination *d);

/* 0: it will do for this disk.  Otherwise -1, and *why says why not and what
 * to do; the caller frees it (NULL: no memory).
 */
extern int destination_check (const struct destination *d, uint64_t disk_bytes,
                              char **why);

#endif /* NBDMIGRATE_REMOTE_DESTINATION_H */
