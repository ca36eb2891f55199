/* SPDX-License-Identifier: BSD-3-Clause */
/* What a destination offers, and whether that will do. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "announcement.h"
#include "cleanup.h"
#include "nbd-limits.h"
#include "destination.h"

static void
learn_peer (struct nbd_handle *nbd, struct remote_peer *peer)
{
  CLEANUP_FREE char *description = nbd_get_export_description (nbd);
  CLEANUP_FREE char *id = announcement_find (description, ANNOUNCE_ID);
  CLEANUP_FREE char *relay = announcement_find (description, ANNOUNCE_RELAY);

  if (id != NULL && strlen (id) < sizeof peer->id)
    strcpy (peer->id, id);
  peer->relays = relay != NULL;
}

void
destination_learn (struct nbd_handle *nbd, struct destination *d)
{
  const int64_t bytes = nbd_get_size (nbd);
  int64_t minimum = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  int64_t maximum = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);
  const uint32_t zero_maximum = nbd_zero_max (maximum);

  /* No constraints (0): bytes, as servers without them accept in practice. */
  if (minimum <= 0)
    minimum = 1;
  if (maximum <= 0 || maximum > NBD_DATA_MAX_UNSTATED)
    maximum = NBD_DATA_MAX_UNSTATED;
  *d = (struct destination){
    .bytes = bytes < 0 ? 0 : bytes,
    .minimum = minimum,
    .maximum = maximum - maximum % minimum,
    .zero_maximum = zero_maximum,
    .read_only = nbd_is_read_only (nbd) != 0,
    .can_flush = nbd_can_flush (nbd) == 1,
    .can_fua = nbd_can_fua (nbd) == 1,
    .can_zero = nbd_can_zero (nbd) == 1,
    .can_fast_zero = nbd_can_fast_zero (nbd) == 1,
    .can_trim = nbd_can_trim (nbd) == 1,
    .can_cache = nbd_can_cache (nbd) == 1,
    .has_allocation =
      nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
    .multi_conn = nbd_can_multi_conn (nbd) == 1,
  };
  learn_peer (nbd, &d->peer);
}

static int __attribute__ ((format (printf, 2, 3)))
refuse (char **why, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  if (vasprintf (why, fmt, args) == -1)
    *why = NULL;
  va_end (args);
  return -1;
}

int
destination_check (const struct destination *d, uint64_t disk_bytes, char **why)
{
  const uint64_t reachable = d->bytes - d->bytes % d->minimum;

  if (d->read_only)
    return refuse (why, "it is read-only: allow writing, or choose another");
  if (!d->can_flush)
    return refuse (why, "it does not offer flush, so nothing could be known "
                        "to be durable there: choose another server");
  if (d->bytes < disk_bytes)
    return refuse (why,
                   "it has %llu bytes, the disk %llu: make it at least as "
                   "large",
                   (unsigned long long)d->bytes,
                   (unsigned long long)disk_bytes);
  if (!nbd_minimum_is_valid (d->minimum) || d->maximum < d->minimum)
    return refuse (why,
                   "its block size constraints make no sense (minimum %u, "
                   "maximum %u bytes)",
                   d->minimum, d->maximum);
  if (reachable < disk_bytes)
    return refuse (why,
                   "with its minimum block of %u bytes only %llu of the disk's "
                   "%llu bytes can be reached: make it larger, a multiple of "
                   "its block",
                   d->minimum, (unsigned long long)reachable,
                   (unsigned long long)disk_bytes);
  return 0;
}
