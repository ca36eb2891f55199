/* SPDX-License-Identifier: BSD-3-Clause */
/* The local side: nbdkit's plugin, through the connection's own context or the
 * shared one (export/local.h).
 *
 * A guest that has connected while the disk was elsewhere, or before the shared
 * context was exchanged, was not told what this plugin can do, and nbdkit
 * aborts if a plugin is asked for what it said it cannot.  So whatever a client
 * may be offered is served here in some way.  A disk does not come back to a
 * plugin that cannot write and flush (export/local.c), but a cut-over to
 * another place may be taken back.
 */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/nbdkit-version.h"
#include "export/durable-map.h"
#include "export/local-watch.h"
#include "nbd-limits.h"
#include "side.h"

/* The context for a call, until end.  R11: one from before the disk was
 * elsewhere is not used any more: the plugin's server may have been restarted
 * meanwhile, and what was looked at before the disk came back is the shared
 * one.
 */
static nbdkit_next *
begin (const struct io *io)
{
  const struct handle *h = io->handle;
  struct local *l = &h->export->local;

  return local_begin (l, h->returns == local_returns (l) ? io->next : NULL);
}

static int
end (const struct io *io, nbdkit_next *next, int r)
{
  struct local *l = &io->handle->export->local;

  local_end (l, io->next, next);
  if (r == -1)
    local_failed (l);
  return r;
}

typedef int change_function (const struct io *io, nbdkit_next *next);

/* R13: it is not flushed by a flush that began before it was done, and it was
 * done with this context.  A view's is no guest's business.
 */
static int
change_unflushed (const struct io *io, change_function *f)
{
  struct flushes *flushes = &io->handle->export->local.flushes;
  const bool counts = !io->handle->view;
  nbdkit_next *next = begin (io);
  int r;

  if (counts)
    flushes_wrote (flushes);
  r = f (io, next);
  if (counts)
    flushes_wrote (flushes);
  return end (io, next, r);
}

/* Nothing was done, and nothing lost. */
static bool
was_refused (const struct io *io, int r)
{
  return r == -1 && (*io->err == EOPNOTSUPP || *io->err == EROFS);
}

/* R13: it is a flush, too, and what another one has heard of it may be this
 * one's loss.
 */
static int
change_flushed (const struct io *io, change_function *f)
{
  struct flushes *flushes = &io->handle->export->local.flushes;
  struct flush_entry entry;
  nbdkit_next *next;
  int r;

  flushes_enter (flushes, &entry, FLUSH_FUA);
  next = begin (io);
  r = f (io, next);
  if (r == -1 && !io->handle->view) { /* it may be there in part */
    flushes_wrote (flushes);
    if (!was_refused (io, r))
      durable_map_flush_failed (io->handle->export, true); /* R14 */
  }
  flushes_answered (flushes, &entry, r);
  end (io, next, r);
  if (flushes_leave (flushes, &entry) == -1 && r == 0) {
    *io->err = EIO;
    r = -1;
  }
  return r;
}

static int
change (const struct io *io, change_function *f)
{
  struct export *e = io->handle->export;
  const unsigned turn = local_watch_begin (e);
  const int r = (io->flags & NBDKIT_FLAG_FUA) != 0 ? change_flushed (io, f)
                                                   : change_unflushed (io, f);

  local_watch_end (e, turn, was_refused (io, r) ? 0 : r);
  return r;
}

/* ---- Reads and writes --------------------------------------------------- */

/* The longest request that it takes.  A connection with a context of its own
 * was told.
 */
static uint32_t
longest (const struct io *io, nbdkit_next *next)
{
  uint32_t minimum, preferred, maximum;

  if (next == io->next ||
      next->block_size (next, &minimum, &preferred, &maximum) == -1 ||
      maximum == 0)
    return UINT32_MAX;
  return maximum;
}

static int
local_pread (const struct io *io)
{
  nbdkit_next *next = begin (io);
  const uint32_t most = longest (io, next);
  char *buffer = io->buffer;
  uint32_t done = 0;
  int r = 0;

  while (r == 0 && done < io->count) {
    const uint32_t left = io->count - done;
    const uint32_t n = left < most ? left : most;

    r = next->pread (next, buffer + done, n, io->offset + done, io->flags,
                     io->err);
    done += n;
  }
  return end (io, next, r);
}

/* The flags that the plugin is given. */
static uint32_t
fua_or_not (const struct io *io, nbdkit_next *next)
{
  if ((io->flags & NBDKIT_FLAG_FUA) != 0 &&
      next->can_fua (next) <= NBDKIT_FUA_NONE)
    return io->flags & ~NBDKIT_FLAG_FUA;
  return io->flags;
}

/* 0, or -1 with *io->err: it is read-only. */
static int
check_writable (const struct io *io, nbdkit_next *next)
{
  if (next->can_write (next) == 1)
    return 0;
  *io->err = EROFS;
  return -1;
}

static int
flush_if_possible (nbdkit_next *next, uint32_t flags, int *err)
{
  return next->can_flush (next) == 1 ? next->flush (next, flags, err) : 0;
}

/* What FUA means, where the plugin was not given it. */
static int
flush_instead (const struct io *io, nbdkit_next *next, int r)
{
  return r == 0 && fua_or_not (io, next) != io->flags
           ? flush_if_possible (next, 0, io->err)
           : r;
}

/* Without data: zeroes. */
static int
write_pieces (const struct io *io, nbdkit_next *next, const char *data,
              uint32_t flags)
{
  static const char zeroes[64 << 10];
  const uint32_t longest_piece = longest (io, next);
  const uint32_t most = data == NULL && longest_piece > sizeof zeroes
                          ? sizeof zeroes
                          : longest_piece;
  uint32_t done = 0;
  int r = check_writable (io, next);

  while (r == 0 && done < io->count) {
    const uint32_t left = io->count - done;
    const uint32_t n = left < most ? left : most;

    r = next->pwrite (next, data ? data + done : zeroes, n, io->offset + done,
                      flags, io->err);
    done += n;
  }
  return r;
}

static int
write_all (const struct io *io, nbdkit_next *next)
{
  const int r = write_pieces (io, next, io->data, fua_or_not (io, next));

  return flush_instead (io, next, r);
}

static int
local_pwrite (const struct io *io)
{
  return change (io, write_all);
}

/* ---- Zeroes ------------------------------------------------------------- */

/* Before 1.44.1 nbdkit zeroes the first 64 MiB only, and says that all is well,
 * where the plugin finds out when it is asked that it cannot zero.
 */
#define LOCAL_ZERO_MAX (NBDKIT_ZEROES_ALL ? UINT32_MAX : NBD_ZERO_MAX)

static int
zero_pieces (const struct io *io, nbdkit_next *next, uint32_t flags)
{
  uint64_t offset = io->offset;
  uint32_t count = io->count;
  int r = 0;

  while (r == 0 && count > 0) {
    const uint32_t n = count < LOCAL_ZERO_MAX ? count : LOCAL_ZERO_MAX;

    r = next->zero (next, n, offset, flags, io->err);
    offset += n;
    count -= n;
  }
  return r;
}

static int
zero_somehow (const struct io *io, nbdkit_next *next)
{
  const bool can_zero = next->can_zero (next) > NBDKIT_ZERO_NONE;
  const uint32_t flags = fua_or_not (io, next);

  if ((flags & NBDKIT_FLAG_FAST_ZERO) != 0 &&
      (!can_zero || next->can_fast_zero (next) != 1)) {
    *io->err = EOPNOTSUPP;
    return -1;
  }
  return can_zero ? zero_pieces (io, next, flags)
                  : write_pieces (io, next, NULL, flags & NBDKIT_FLAG_FUA);
}

static int
zero_all (const struct io *io, nbdkit_next *next)
{
  return flush_instead (io, next, zero_somehow (io, next));
}

static int
local_zero (const struct io *io)
{
  return change (io, zero_all);
}

/* ---- The others --------------------------------------------------------- */

/* It is a hint: a plugin without it has done it. */
static int
trim_all (const struct io *io, nbdkit_next *next)
{
  int r = check_writable (io, next);

  if (r == 0 && next->can_trim (next) == 1)
    r =
      next->trim (next, io->count, io->offset, fua_or_not (io, next), io->err);
  return flush_instead (io, next, r);
}

static int
local_trim (const struct io *io)
{
  return change (io, trim_all);
}

/* What one of the filter's has heard beside it is owed, and told by who asked
 * for this (filter/request.c).
 */
static int
local_flush (const struct io *io)
{
  struct flushes *flushes = &io->handle->export->local.flushes;
  struct flush_entry entry;
  nbdkit_next *next;
  int r;

  flushes_enter (flushes, &entry, FLUSH_GUEST);
  next = begin (io);
  r = flush_if_possible (next, io->flags, io->err);
  flushes_answered (flushes, &entry, r);
  if (r == -1 && !io->handle->view)
    durable_map_flush_failed (io->handle->export, true); /* R14 */
  r = end (io, next, r);
  flushes_leave (flushes, &entry);
  if (entry.stopped) {
    *io->err = ESHUTDOWN;
    r = -1;
  }
  return r;
}

/* The answer of its own context may have been taken from another one's. */
static int
ask_extents_first (const struct io *io, nbdkit_next *next)
{
  struct handle *h = io->handle;
  int r;

  if (next != io->next)
    return 0;
  pthread_mutex_lock (&h->asking);
  r = local_ask_extents (&h->export->local, next);
  pthread_mutex_unlock (&h->asking);
  if (r != -1)
    return 0;
  *io->err = EIO;
  return -1;
}

static int
local_extents (const struct io *io)
{
  nbdkit_next *next = begin (io);
  int r = ask_extents_first (io, next);

  if (r == 0)
    r = next->extents (next, io->count, io->offset, io->flags, io->extents,
                       io->err);
  return end (io, next, r);
}

/* A hint, too. */
static int
local_cache (const struct io *io)
{
  nbdkit_next *next = begin (io);
  int r = 0;

  if (next->can_cache (next) > NBDKIT_CACHE_NONE)
    r = next->cache (next, io->count, io->offset, io->flags, io->err);
  return end (io, next, r);
}

/* ---- What the export can ------------------------------------------------ */

static int
ask_plugin (struct local *l, nbdkit_next *plugin, enum fact fact)
{
  switch (fact) {
  case FACT_CAN_WRITE:
    return plugin->can_write (plugin);
  case FACT_CAN_FLUSH:
    return plugin->can_flush (plugin);
  case FACT_IS_ROTATIONAL:
    return plugin->is_rotational (plugin);
  case FACT_CAN_TRIM:
    return plugin->can_trim (plugin);
  case FACT_CAN_ZERO:
    return plugin->can_zero (plugin);
  case FACT_CAN_FAST_ZERO:
    return plugin->can_fast_zero (plugin);
  case FACT_CAN_EXTENTS:
    return local_can_extents (l, plugin);
  case FACT_CAN_FUA:
    return plugin->can_fua (plugin);
  case FACT_CAN_CACHE:
    return plugin->can_cache (plugin);
  case FACTS:
    break;
  }
  abort ();
}

static int
local_fact (const struct handle *h, nbdkit_next *next, enum fact fact)
{
  struct local *l = &h->export->local;
  nbdkit_next *plugin = local_begin (l, next);
  const int r = ask_plugin (l, plugin, fact);

  local_end (l, next, plugin);
  return r;
}

const struct side local_side = {
  .serve = {
    [IO_READ] = local_pread,
    [IO_WRITE] = local_pwrite,
    [IO_ZERO] = local_zero,
    [IO_TRIM] = local_trim,
    [IO_FLUSH] = local_flush,
    [IO_EXTENTS] = local_extents,
    [IO_CACHE] = local_cache,
  },
  .fact = local_fact,
};
