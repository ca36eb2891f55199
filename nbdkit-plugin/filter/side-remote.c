/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>

#include "export/destination.h"
#include "side-remote.h"

static int
answer (int r, int *err)
{
  if (r == -1)
    *err = errno;
  return r;
}

static unsigned
relay_flags (uint32_t flags)
{
  return flags & NBDKIT_FLAG_FUA ? RELAY_FUA : 0;
}

int
destination_pread (struct handle *h, void *buf, uint32_t count, uint64_t offset,
                   int *err)
{
  return answer (
    relay_read (h->export->relay, buf, count, offset, &destination_guest), err);
}

int
destination_pwrite (struct handle *h, const void *buf, uint32_t count,
                    uint64_t offset, uint32_t flags, int *err)
{
  return answer (relay_write (h->export->relay, buf, count, offset,
                              relay_flags (flags), &destination_guest),
                 err);
}

int
destination_zero (struct handle *h, uint32_t count, uint64_t offset,
                  uint32_t flags, int *err)
{
  unsigned rf = relay_flags (flags);

  if (!(flags & NBDKIT_FLAG_MAY_TRIM))
    rf |= RELAY_NO_HOLE;
  if (flags & NBDKIT_FLAG_FAST_ZERO)
    rf |= RELAY_FAST_ZERO;
  return answer (
    relay_zero (h->export->relay, count, offset, rf, &destination_guest), err);
}

int
destination_trim (struct handle *h, uint32_t count, uint64_t offset,
                  uint32_t flags, int *err)
{
  return answer (relay_trim (h->export->relay, count, offset,
                             relay_flags (flags), &destination_guest),
                 err);
}

/* Several flushes of one connection may run at once: each works on a copy of
 * what the connection has seen, and all of them fail if it is out of date.
 */
int
destination_flush (struct handle *h, int *err)
{
  uint64_t seen = __atomic_load_n (&h->errors_seen, __ATOMIC_SEQ_CST);
  const int r =
    answer (relay_flush (h->export->relay, &seen, &destination_guest), err);

  __atomic_store_n (&h->errors_seen, seen, __ATOMIC_SEQ_CST);
  return r;
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  /* The bits are those of base:allocation, as nbdkit's own. */
  return nbdkit_add_extent (opaque, offset, length, flags) == -1 ? errno : 0;
}

int
destination_extents (struct handle *h, uint32_t count, uint64_t offset,
                     struct nbdkit_extents *extents, int *err)
{
  return answer (relay_block_status (h->export->relay, count, offset,
                                     add_extent, extents, &destination_guest),
                 err);
}

int
destination_cache (struct handle *h, uint32_t count, uint64_t offset, int *err)
{
  return answer (
    relay_cache (h->export->relay, count, offset, &destination_guest), err);
}
