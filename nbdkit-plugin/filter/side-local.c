/* SPDX-License-Identifier: BSD-3-Clause */
/* The local side: nbdkit's plugin, through the connection's own context or the
 * shared one (export/local.h).
 */

#include "nbd-limits.h"
#include "side.h"

/* The context for a call, until end. */
static nbdkit_next *
begin (const struct io *io)
{
  return local_begin (&io->handle->export->local, io->next);
}

static int
end (const struct io *io, int r)
{
  struct local *l = &io->handle->export->local;

  local_end (l, io->next);
  if (r == -1)
    local_failed (l);
  return r;
}

/* For what writes. */
static nbdkit_next *
begin_change (const struct io *io)
{
  local_wrote (&io->handle->export->local);
  return begin (io);
}

static int
local_pread (const struct io *io)
{
  nbdkit_next *next = begin (io);

  return end (io, next->pread (next, io->buffer, io->count, io->offset,
                               io->flags, io->err));
}

static int
local_pwrite (const struct io *io)
{
  nbdkit_next *next = begin_change (io);

  return end (io, next->pwrite (next, io->data, io->count, io->offset,
                                io->flags, io->err));
}

/* Before 1.44.1 nbdkit zeroes the first 64 MiB only, and says that all is well,
 * where the plugin finds out when it is asked that it cannot zero.
 */
#if NBDKIT_VERSION_MAJOR > 1 || NBDKIT_VERSION_MINOR > 44 ||                   \
  (NBDKIT_VERSION_MINOR == 44 && NBDKIT_VERSION_MICRO >= 1)
#define LOCAL_ZERO_MAX UINT32_MAX
#else
#define LOCAL_ZERO_MAX NBD_ZERO_MAX
#endif

static int
local_zero (const struct io *io)
{
  nbdkit_next *next = begin_change (io);
  uint64_t offset = io->offset;
  uint32_t count = io->count;
  int r = 0;

  while (r == 0 && count > 0) {
    const uint32_t n = count < LOCAL_ZERO_MAX ? count : LOCAL_ZERO_MAX;

    r = next->zero (next, n, offset, io->flags, io->err);
    offset += n;
    count -= n;
  }
  return end (io, r);
}

static int
local_trim (const struct io *io)
{
  nbdkit_next *next = begin_change (io);

  return end (io, next->trim (next, io->count, io->offset, io->flags, io->err));
}

static int
local_flush (const struct io *io)
{
  struct local *l = &io->handle->export->local;
  nbdkit_next *next = begin (io);
  const bool unflushed = local_flush_begin (l);
  const int r = next->flush (next, io->flags, io->err);

  if (r == -1)
    local_flush_failed (l, unflushed);
  return end (io, r);
}

static int
local_extents (const struct io *io)
{
  nbdkit_next *next = begin (io);

  return end (io, next->extents (next, io->count, io->offset, io->flags,
                                 io->extents, io->err));
}

static int
local_cache (const struct io *io)
{
  nbdkit_next *next = begin (io);

  return end (io,
              next->cache (next, io->count, io->offset, io->flags, io->err));
}

const struct side local_side = { {
  [IO_READ] = local_pread,
  [IO_WRITE] = local_pwrite,
  [IO_ZERO] = local_zero,
  [IO_TRIM] = local_trim,
  [IO_FLUSH] = local_flush,
  [IO_EXTENTS] = local_extents,
  [IO_CACHE] = local_cache,
} };
