/* SPDX-License-Identifier: BSD-3-Clause */
/* A remote side: an NBD server, which the relay reaches. */

#include <errno.h>

#include "export/place.h"
#include "relay/relay.h"
#include "side.h"

static int
answer (const struct io *io, int r)
{
  if (r == -1)
    *io->err = errno;
  return r;
}

static unsigned
relay_flags (const struct io *io)
{
  return io->flags & NBDKIT_FLAG_FUA ? RELAY_FUA : 0;
}

static int
remote_pread (const struct io *io)
{
  return answer (io, relay_read (io->relay, io->buffer, io->count, io->offset,
                                 &place_guest));
}

static int
remote_pwrite (const struct io *io)
{
  return answer (io, relay_write (io->relay, io->data, io->count, io->offset,
                                  relay_flags (io), &place_guest));
}

static int
remote_zero (const struct io *io)
{
  unsigned flags = relay_flags (io);

  if (!(io->flags & NBDKIT_FLAG_MAY_TRIM))
    flags |= RELAY_NO_HOLE;
  if (io->flags & NBDKIT_FLAG_FAST_ZERO)
    flags |= RELAY_FAST_ZERO;
  return answer (
    io, relay_zero (io->relay, io->count, io->offset, flags, &place_guest));
}

static int
remote_trim (const struct io *io)
{
  return answer (io, relay_trim (io->relay, io->count, io->offset,
                                 relay_flags (io), &place_guest));
}

/* What it fails with itself need not be told by the next one. */
static int
remote_flush (const struct io *io)
{
  struct handle *h = io->handle;
  const uint64_t before = __atomic_load_n (&h->errors_seen, __ATOMIC_SEQ_CST);
  uint64_t seen = before;
  const int r = answer (io, relay_flush (io->relay, &seen, &place_guest));

  if (seen != before) {
    __atomic_store_n (&h->errors_seen, seen, __ATOMIC_SEQ_CST);
    place_guest_heard (h->export, seen);
  }
  return r;
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  /* The bits are those of base:allocation, as nbdkit's own. */
  return nbdkit_add_extent (opaque, offset, length, flags) == -1 ? errno : 0;
}

static int
remote_extents (const struct io *io)
{
  return answer (io,
                 relay_block_status (io->relay, io->count, io->offset,
                                     add_extent, io->extents, &place_guest));
}

static int
remote_cache (const struct io *io)
{
  return answer (io,
                 relay_cache (io->relay, io->count, io->offset, &place_guest));
}

/* The relay makes up for what the server lacks. */
static int
remote_fact (const struct handle *h, nbdkit_next *next, enum fact fact)
{
  static const int offered[FACTS] = {
    [FACT_CAN_FLUSH] = 1,
    [FACT_IS_ROTATIONAL] = 0,
    [FACT_CAN_TRIM] = 1,
    [FACT_CAN_ZERO] = NBDKIT_ZERO_NATIVE,
    [FACT_CAN_FAST_ZERO] = 1,
    [FACT_CAN_EXTENTS] = 1,
    [FACT_CAN_FUA] = NBDKIT_FUA_NATIVE,
    [FACT_CAN_CACHE] = NBDKIT_CACHE_NATIVE,
  };

  (void)next;
  return fact == FACT_CAN_WRITE ? !h->readonly : offered[fact];
}

const struct side remote_side = {
  .serve = {
    [IO_READ] = remote_pread,
    [IO_WRITE] = remote_pwrite,
    [IO_ZERO] = remote_zero,
    [IO_TRIM] = remote_trim,
    [IO_FLUSH] = remote_flush,
    [IO_EXTENTS] = remote_extents,
    [IO_CACHE] = remote_cache,
  },
  .fact = remote_fact,
};
