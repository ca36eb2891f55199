/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner is asked once, at the start of a request (tracker_enter_read, or
 * tracker_enter for those that write), and decides which side serves it.
 *
 * Every return after a successful 'enter' goes through tracker_leave, and that
 * comes before nbdkit can send the reply (R2).
 */

#include <assert.h>
#include <stdbool.h>

#include "export/destination.h"
#include "request.h"

/* ---- Common ------------------------------------------------------------ */

/* A request that succeeded. */
static void
count (const struct io *io)
{
  struct guest_counters *g = &io->handle->export->guest;
  const struct {
    uint64_t *requests, *bytes;
  } counters[IO_TYPES] = {
    [IO_READ] = { &g->reads, &g->read_bytes },
    [IO_WRITE] = { &g->writes, &g->written_bytes },
    [IO_ZERO] = { &g->zeroes, &g->zeroed_bytes },
    [IO_TRIM] = { &g->trims, &g->trimmed_bytes },
    [IO_FLUSH] = { &g->flushes, NULL },
  };

  if (counters[io->type].requests)
    __atomic_fetch_add (counters[io->type].requests, 1, __ATOMIC_RELAXED);
  if (counters[io->type].bytes)
    __atomic_fetch_add (counters[io->type].bytes, io->count, __ATOMIC_RELAXED);
}

/* A fenced disk, or one whose owner is not known, serves nobody (R20). */
static int
fail_fenced (const struct io *io)
{
  struct handle *h = io->handle;

  if (!__atomic_exchange_n (&h->told, true, __ATOMIC_RELAXED))
    nbdkit_error ("export \"%s\" is not served here any more: its owner is "
                  "not this side; all requests fail",
                  h->export->name);
  *io->err = ESHUTDOWN;
  return -1;
}

/* The guest connected while the source was not to be had, and now it is the
 * owner again.
 */
static int
fail_no_source (const struct io *io)
{
  nbdkit_error ("export \"%s\" belongs to the source again, which this "
                "connection has not opened: connect again",
                io->handle->export->name);
  *io->err = ESHUTDOWN;
  return -1;
}

static const struct side *
side_of (enum owner owner)
{
  assert (owner == OWNER_SOURCE || owner == OWNER_DESTINATION);
  return owner == OWNER_SOURCE ? &local_side : &remote_side;
}

/* 0 if the owner can serve this connection. */
static int
check_owner (const struct io *io, enum owner owner)
{
  switch (owner) {
  case OWNER_SOURCE:
    return io->handle->no_source ? fail_no_source (io) : 0;
  case OWNER_DESTINATION:
    return 0;
  case OWNER_FENCED:
  case OWNER_UNKNOWN:
    break;
  }
  return fail_fenced (io);
}

/* The tracker waits for a while only; in between we look whether there is
 * still anybody to wait for.
 */
static bool
wait_is_over (const struct io *io)
{
  if (nbdkit_nanosleep (0, 0) == 0)
    return false;
  *io->err = ESHUTDOWN;
  return true;
}

/* ---- Requests that write ----------------------------------------------- */

/* Pass the gate and enter the list (R8). */
static int
enter (const struct io *io, struct tracker_request *req)
{
  struct tracker *t = io->handle->export->tracker;

  for (;;)
    switch (tracker_enter (t, req, io->offset, io->count)) {
    case TRACKER_PASS:
      if (check_owner (io, req->owner) == 0)
        return 0;
      tracker_leave (t, req);
      return -1;
    case TRACKER_FENCED:
      return fail_fenced (io);
    case TRACKER_WAIT:
      if (wait_is_over (io)) {
        tracker_give_up (t, req);
        return -1;
      }
    }
}

static int
change (const struct io *io)
{
  struct tracker_request req = TRACKER_REQUEST_INIT;
  int r;

  if (enter (io, &req) == -1)
    return -1;
  r = side_of (req.owner)->serve[io->type](io);
  tracker_leave (io->handle->export->tracker, &req); /* R2 */
  return r;
}

/* ---- Requests that do not write ---------------------------------------- */

/* They do not wait at the gate, so the cut-over they meet may be taken back
 * while the destination works on them: then the source serves them after all.
 * A handover that may be taken back they do wait for.
 */

/* Who serves it.  -1: *io->err is set. */
static int
ask_owner (const struct io *io, enum owner *owner)
{
  struct tracker *t = io->handle->export->tracker;
  struct tracker_read read = TRACKER_READ_INIT;

  while (tracker_enter_read (t, &read) == TRACKER_WAIT)
    if (wait_is_over (io)) {
      tracker_give_up_read (t, &read);
      return -1;
    }
  *owner = read.owner;
  return check_owner (io, read.owner);
}

/* The side that serves it, until end_passing.  NULL: *io->err is set. */
static const struct side *
begin_passing (const struct io *io)
{
  enum owner owner;

  do
    if (ask_owner (io, &owner) == -1)
      return NULL;
  while (owner == OWNER_DESTINATION && !destination_enter (io->handle->export));
  return side_of (owner);
}

/* With its result: whether it must begin again. */
static bool
end_passing (const struct io *io, const struct side *side, int r)
{
  struct export *e = io->handle->export;

  if (side != &remote_side)
    return false;
  destination_leave (e);
  return r == -1 && tracker_owner (e->tracker) != OWNER_DESTINATION;
}

/* As long as the gate is shut the cut-over may be taken back, and then what was
 * flushed must be durable at the source.
 */
static int
flush_source_too (const struct io *io, const struct side *side)
{
  struct tracker_status s;

  if (side == &local_side || io->handle->no_source)
    return 0;
  tracker_get_status (io->handle->export->tracker, &s);
  return s.gate == GATE_OPEN ? 0 : local_side.serve[IO_FLUSH](io);
}

/* R13: whether the owner has changed, so that the new one must be flushed. */
static bool
has_moved (const struct io *io, const struct side *side)
{
  const enum owner owner = tracker_owner (io->handle->export->tracker);

  return (owner == OWNER_DESTINATION) != (side == &remote_side);
}

/* R13: acknowledged writes may have been lost, and the guest has to hear of it,
 * whichever side serves it now.  Several flushes of one connection may run at
 * once: each knows what the connection had seen when it began, and all of them
 * fail if that is out of date.
 */
static int
tell_error (const struct io *io, uint64_t seen)
{
  struct handle *h = io->handle;

  if (!owed_error_tell (&h->export->owed, &seen))
    return 0;
  __atomic_store_n (&h->errors_seen, seen, __ATOMIC_SEQ_CST);
  nbdkit_error ("export \"%s\": acknowledged writes that were not flushed may "
                "have been lost at the destination: this flush fails",
                h->export->name);
  *io->err = EIO;
  return -1;
}

static int
pass (const struct io *io)
{
  const struct side *side;
  bool again;
  int r;

  do {
    side = begin_passing (io);
    if (side == NULL)
      return -1;
    r = side->serve[io->type](io);
    if (r == 0 && io->type == IO_FLUSH)
      r = flush_source_too (io, side);
    again = end_passing (io, side, r);
    if (r == 0 && io->type == IO_FLUSH)
      again = has_moved (io, side);
  } while (again);
  return r;
}

static int
flush (const struct io *io)
{
  struct handle *h = io->handle;
  const uint64_t seen = __atomic_load_n (&h->errors_seen, __ATOMIC_SEQ_CST);

  /* What somebody was told before need not be told after a restart. */
  owed_error_settle (&h->export->owed);
  return pass (io) == 0 ? tell_error (io, seen) : -1;
}

/* ------------------------------------------------------------------------ */

int
request_serve (const struct io *io)
{
  const bool changes =
    io->type == IO_WRITE || io->type == IO_ZERO || io->type == IO_TRIM;
  const int r = changes                ? change (io)
                : io->type == IO_FLUSH ? flush (io)
                                       : pass (io);

  if (r == 0)
    count (io);
  return r;
}
