/* SPDX-License-Identifier: BSD-3-Clause */
/* One request.
 *
 * The data are copied first: the caller's buffer must not be needed any more
 * once the caller has stopped waiting, and as long as a destination does not
 * read, libnbd has to keep what it has not sent.  Nobody changes that buffer
 * before the request has ended, so both sides get the same (R15).
 *
 * FUA is not passed on.  It is a promise about the side that serves the guest;
 * at the destination what was mirrored is unflushed, and is covered by the next
 * flush like all that was copied (R13).
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

/* ---- Beginning ----------------------------------------------------------- */

/* The memory that it takes; also zeroes do. */
static size_t
charge_of (enum mirror_kind kind, uint32_t length)
{
  return sizeof (struct mirror_write) + (kind == MIRROR_WRITE ? length : 0);
}

/* Whether it is taken, and counted; *most: of one command.  L. */
static bool
admit (struct mirror *m, enum mirror_kind kind, uint32_t length,
       uint64_t offset, uint32_t *most)
{
  const struct destination *d = &m->remote.destination;
  const size_t bytes = charge_of (kind, length);

  *most = d->maximum;
  if (!m->on || m->remote.stopping)
    return false;
  if (kind == MIRROR_ZERO) {
    if (!m->zeroes || !d->can_zero || length > ZERO_BYTES ||
        length > d->zero_maximum ||
        !remote_takes_zero (&m->remote, offset, length))
      return false;
  }
  else if (length > (uint64_t)BATCH_MAX * d->maximum)
    return false;
  if (m->memory + bytes > MEMORY_BYTES)
    return false;
  m->memory += bytes;
  return true;
}

static struct mirror_write *
new_write (struct mirror *m, enum mirror_kind kind, const void *data,
           uint32_t length)
{
  const size_t bytes = charge_of (kind, length);
  struct mirror_write *w = malloc (bytes);

  if (w == NULL) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

    m->memory -= bytes;
    return NULL;
  }
  parcel_init (&w->parcel, m, false);
  w->kind = kind;
  w->bytes = bytes;
  if (kind == MIRROR_WRITE)
    memcpy (w->data, data, length);
  return w;
}

static void
add_commands (struct mirror_write *w, uint32_t length, uint64_t offset,
              bool may_trim, uint32_t most)
{
  uint32_t done = 0;

  if (w->kind == MIRROR_ZERO) {
    batch_add (&w->parcel.batch, COMMAND_ZERO,
               may_trim ? 0 : LIBNBD_CMD_FLAG_NO_HOLE, offset, length, NULL);
    return;
  }
  while (done < length) {
    const uint32_t n = length - done < most ? length - done : most;

    batch_add (&w->parcel.batch, COMMAND_WRITE, 0, offset + done, n,
               w->data + done);
    done += n;
  }
}

struct mirror_write *
mirror_send (struct mirror *m, enum mirror_kind kind, const void *data,
             uint32_t length, uint64_t offset, bool may_trim)
{
  struct mirror_write *w;
  uint32_t most;
  bool admitted;

  pthread_mutex_lock (&m->remote.lock);
  admitted = admit (m, kind, length, offset, &most);
  pthread_mutex_unlock (&m->remote.lock);
  if (!admitted)
    return NULL;
  w = new_write (m, kind, data, length);
  if (w == NULL)
    return NULL;
  add_commands (w, length, offset, may_trim, most);
  batch_send (&m->remote, &w->parcel.batch, NULL);
  if (w->parcel.batch.sent)
    return w;
  parcel_free (&w->parcel);
  return NULL;
}

/* ---- Ending ---------------------------------------------------------------
 */

/* The server says that something is wrong.  There are servers that zero only
 * what is aligned to something they do not tell: then writes go on.
 */
static void
note_error (struct mirror_write *w, int error)
{
  struct mirror *m = w->parcel.mirror;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  if (w->kind == MIRROR_ZERO)
    m->zeroes = false;
  else
    mirror_demote (m, "the destination answered a write with an error: %s",
                   strerror (error));
}

static enum mirror_result
end (struct mirror_write *w, int result)
{
  struct mirror *m = w->parcel.mirror;
  const bool unknown = w->parcel.batch.unknown;

  if (unknown) {
    pthread_mutex_lock (&m->remote.lock);
    mirror_note_unknown (m);
    pthread_mutex_unlock (&m->remote.lock);
  }
  if (result > 0)
    note_error (w, result);
  parcel_free (&w->parcel);
  return unknown ? MIRROR_UNKNOWN : result == 0 ? MIRROR_DONE : MIRROR_FAILED;
}

/* It has taken too long.  It counts as unanswered before the caller can say so
 * to anybody (R17).  False: it has been answered just now.
 */
static bool
give_up (struct mirror_write *w, unsigned max_ms)
{
  struct mirror *m = w->parcel.mirror;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  if (w->parcel.batch.pending == 0)
    return false;
  mirror_demote (m, "the destination did not answer a write within %u ms",
                 max_ms);
  m->options.user.delayed (m->options.user.opaque, max_ms);
  parcel_abandon (&w->parcel);
  return true;
}

enum mirror_result
mirror_wait (struct mirror_write *w)
{
  struct mirror *m = w->parcel.mirror;
  unsigned max_ms;
  int result;

#ifdef PLANT_BUG_mirror_early_reply
  pthread_mutex_lock (&m->remote.lock);
  parcel_abandon (&w->parcel);
  pthread_mutex_unlock (&m->remote.lock);
  return MIRROR_DONE;
#endif
  pthread_mutex_lock (&m->remote.lock);
  max_ms = m->max_ms;
  pthread_mutex_unlock (&m->remote.lock);
  if (batch_wait_until (&m->remote, &w->parcel.batch,
                        w->parcel.sent_ms + max_ms, &result))
    return end (w, result);
  if (!give_up (w, max_ms))
    return end (w, batch_wait (&m->remote, &w->parcel.batch));
#ifdef PLANT_BUG_mirror_forget_demoted
  return MIRROR_DONE;
#endif
  return MIRROR_UNKNOWN;
}
