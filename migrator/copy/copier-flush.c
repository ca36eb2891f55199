/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes of the copy engine: the one that counts (R6), and one now and then
 * beside the copying, that leaves it little to do.
 */

#include <limits.h>
#include <stdlib.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"

/* After so many bytes one of several connections flushes while the others go
 * on, so that the destination's disk works during the copying and the flush
 * that counts (R6) finds little left to do.
 */
#define WRITE_BACK_BYTES (UINT64_C (128) * 1024 * 1024)

/* R6: after a flush that failed no later one proves anything: the server may
 * have dropped what it could not write, and told us of it just once.  So it is
 * taken back only after a loss, when what it was to cover is dirty again.
 */
static void
note_flush (struct flush *f)
{
  struct copier *c = f->c;

  if (f->io.error == 0)
    return;
  c->flush_failed = true;
  copier_fail (c, "flushing", c->destination, 0, 0, &f->io);
}

static bool
some_flush_pending (const struct copier *c)
{
  return c->flushes > 0 || c->flushes_beside > 0;
}

/* One over a connection that has written nothing, and was closed for being idle
 * just then, can be sent over another one.  If the server itself has gone, that
 * is a new one, of which the filter was told: the epoch is another one then
 * (R6a), and this flush counts for nothing.
 */
static bool
send_again (const struct flush *f)
{
  if (!f->owed || f->io.error == 0 || !f->io.lost)
    return false;
  f->c->owed_due = true;
  return true;
}

static void
flush_ended (struct io *io)
{
  struct flush *f = (struct flush *)io;
  const uint64_t us = (uint64_t)(loop_now_us () - f->begun_us);

  if (us > f->c->flush_us)
    f->c->flush_us = us;
  f->c->flushes_sent--;
  if (!send_again (f)) {
    note_flush (f);
    f->c->flushes--;
  }
  f->c->flushing &= some_flush_pending (f->c);
  small_free (&f->c->smalls, f);
}

void
flush_beside (struct flush *f, struct connection *conn)
{
  f->c->flushes_beside++;
  connection_flush (conn, &f->io);
}

void
flush_beside_ended (struct flush *f)
{
  note_flush (f);
  f->c->flushes_beside--;
  f->c->flushing &= some_flush_pending (f->c);
}

static void
write_back_ended (struct io *io)
{
  struct flush *f = (struct flush *)io;

  flush_beside_ended (f);
  small_free (&f->c->smalls, f);
}

static void
send_flush (struct copier *c, struct connection *conn, bool owed)
{
  struct flush *f = small_new (&c->smalls, sizeof *f);

  if (f == NULL)
    no_memory (); /* a few dozen bytes; there is no way on from here */
  f->c = c;
  f->owed = owed;
  f->begun_us = loop_now_us ();
  f->io.ended = flush_ended;
  c->flushes_sent++;
  connection_flush (conn, &f->io);
}

static bool
is_copying (const struct copier *c)
{
  return c->jobs > 0 || c->ready.first != NULL || c->unknown.first != NULL;
}

/* A flush covers what was answered before it was sent, so it need not wait for
 * what is in flight.  But some servers serve one request at a time on a
 * connection: so of several connections not more than half flush at a time,
 * while the others copy.
 */
static bool
may_flush (const struct copier *c, const struct connection *conn)
{
  const unsigned n = c->destination->nr_connections;

  if (!connection_alive (conn) || n == 1)
    return true;
  return c->flushes_sent < n / 2 || !is_copying (c);
}

/* 'written' stays: if this one is lost, what was written meanwhile is owed. */
static bool
feed_owed (struct copier *c)
{
  struct connection *conn = endpoint_idle (c->destination, UINT_MAX, UINT_MAX);

  if (!c->owed_due || conn == NULL || !may_flush (c, conn))
    return false;
  c->owed_due = false;
  send_flush (c, conn, true);
  return true;
}

/* The first ones last: they are what a narrow pass is copied over. */
bool
feed_flushes (struct copier *c)
{
  bool progress = false;
  unsigned i;

  for (i = c->destination->nr_connections; i-- > 0;) {
    struct connection *conn = c->destination->connections[i];

    if (!conn->flush_due || !may_flush (c, conn))
      continue;
    conn->flush_due = false;
    conn->written = false; /* what is unanswered says that it is, at its end */
    send_flush (c, conn, false);
    progress = true;
  }
  return feed_owed (c) || progress;
}

/* Not reported: 'written' stays. */
void
start_write_back (struct copier *c)
{
  struct connection *conn = endpoint_idle (c->destination, UINT_MAX, UINT_MAX);
  struct flush *f;

  if (c->flushing || c->flushes_beside > 0 || conn == NULL ||
      c->destination->nr_connections == 1 ||
      c->stats.copied_bytes - c->written_back_bytes < WRITE_BACK_BYTES)
    return;
  f = small_new (&c->smalls, sizeof *f);
  if (f == NULL)
    return;
  f->c = c;
  f->io.ended = write_back_ended;
  c->written_back_bytes = c->stats.copied_bytes;
  flush_beside (f, conn);
}

unsigned
copier_unflushed (const struct copier *c)
{
  unsigned i, n = 0;

  for (i = 0; i < c->destination->nr_connections; ++i)
    n += c->destination->connections[i]->written;
  return n;
}

void
copier_flush (struct copier *c)
{
  unsigned i;

  c->flush_us = 0;
  for (i = 0; i < c->destination->nr_connections; ++i) {
    struct connection *conn = c->destination->connections[i];

    if (!conn->written)
      continue;
    conn->flush_due = true;
    c->flushes++;
  }
  c->owed_due = c->owes_flush && c->flushes == 0;
  c->flushes += c->owed_due;
  c->owes_flush = false;
  c->flushing = some_flush_pending (c);
}

bool
copier_flushing (const struct copier *c, bool *ok)
{
  *ok = !c->flush_failed;
  return c->flushing;
}

uint64_t
copier_flush_us (const struct copier *c)
{
  return c->flush_us;
}
