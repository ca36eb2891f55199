/* SPDX-License-Identifier: BSD-3-Clause */
/* Who serves it, is asked once, at the start of a request (tracker_enter_read,
 * or tracker_enter for those that write).
 *
 * Every return after a successful 'enter' goes through tracker_leave, and that
 * comes before nbdkit can send the reply (R2).
 */

#include <stdbool.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/nbdkit-version.h"
#include "export/durable-map.h"
#include "export/mirroring.h"
#include "export/place.h"
#include "delay.h"
#include "request.h"
#include "view.h"

/* ---- Common ------------------------------------------------------------ */

/* A request that succeeded. */
static void
count (const struct io *io)
{
  struct guest_counters *g = &io->handle->export->guest[lane_of_thread ()];
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

/* After a handover, if it is asked for: a guest that connects again may find
 * the one who has the disk now.  Who came when it was fenced is answered.
 */
static void
disconnect_guest (const struct handle *h)
{
#if NBDKIT_HAS_DISCONNECT
  if (config.disconnect && h->was_served && handle_is_guest (h) &&
      tracker_owner (h->export->tracker) == OWNER_FENCED)
    nbdkit_disconnect (true);
#else
  (void)h;
#endif
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
  disconnect_guest (h);
  *io->err = ESHUTDOWN;
  return -1;
}

/* The guest connected while the plugin was not needed, and now the disk is
 * there again.
 */
static int
fail_no_source (const struct io *io)
{
  nbdkit_error ("export \"%s\" is served from the local image again, which "
                "this connection has not opened: connect again",
                io->handle->export->name);
  *io->err = ESHUTDOWN;
  return -1;
}

static const struct side *
side_at (unsigned place)
{
  return place == PLACE_LOCAL ? &local_side : &remote_side;
}

/* A connection that has not opened the plugin uses the shared context, if there
 * is one.
 */
static bool
can_be_served (const struct io *io, unsigned place)
{
  const struct handle *h = io->handle;

  return place != PLACE_LOCAL || !h->no_source ||
         local_has_shared (&h->export->local);
}

/* 0 if this connection can be served there. */
static int
check_route (const struct io *io, const struct route *route)
{
  switch (route->owner) {
  case OWNER_SOURCE:
  case OWNER_DESTINATION:
    return can_be_served (io, route->place) ? 0 : fail_no_source (io);
  case OWNER_FENCED:
  case OWNER_UNKNOWN:
    break;
  }
  return fail_fenced (io);
}

static int
serve_at (const struct io *io, unsigned place)
{
  struct io there = *io;

  there.relay = io->handle->export->places[place].relay;
  return side_at (place)->serve[io->type](&there);
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

static void
note_held (const struct io *io, uint64_t us)
{
  if (io->delays)
    io->delays->gate_us += us;
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
      note_held (io, req->held_us);
      if (check_route (io, &req->route) == 0)
        return 0;
      if (req->mirrored)
        tracker_leave_both (t, req, BOTH_FAILED);
      else
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

/* R12: what a trim leaves may differ between the sides, and a zero that may be
 * refused for being slow may be refused by one of them.
 */
static bool
may_be_mirrored (const struct io *io)
{
  return io->type == IO_WRITE ||
         (io->type == IO_ZERO && (io->flags & NBDKIT_FLAG_FAST_ZERO) == 0);
}

static struct mirror_write *
begin_mirror (const struct io *io)
{
  return mirror_send (io->handle->export->mirror,
                      io->type == IO_ZERO ? MIRROR_ZERO : MIRROR_WRITE,
                      io->data, io->count, io->offset,
                      (io->flags & NBDKIT_FLAG_MAY_TRIM) != 0);
}

static enum tracker_both
outcome (enum mirror_result result, int r)
{
  return result == MIRROR_UNKNOWN          ? BOTH_UNKNOWN
         : result == MIRROR_DONE && r == 0 ? BOTH_WRITTEN
                                           : BOTH_FAILED;
}

/* R15: both at the same time, so that the guest waits for the slower one, and
 * not for both in turn.  The answer is that of the side that serves it.
 */
static int
change_both (const struct io *io, struct tracker_request *req)
{
  struct mirror_write *w = begin_mirror (io);
  const int r = serve_at (io, req->route.place);
  const enum mirror_result result = w ? mirror_wait (w) : MIRROR_FAILED;

  tracker_leave_both (io->handle->export->tracker, req, outcome (result, r));
  return r;
}

/* R14: first the entry in the list, then the durable mark, then the write. What
 * is not listed is tracked by nobody, and no map holds then.
 */
static void
mark_durably (const struct io *io, const struct tracker_request *req)
{
  if (req->listed && req->route.owner == OWNER_SOURCE)
    durable_map_mark (io->handle->export, io->offset, io->count);
}

static int
change (const struct io *io)
{
  struct tracker_request req = { .may_be_mirrored = may_be_mirrored (io) };
  int r;

#ifndef PLANT_BUG_throttle_in_the_list
  if (delay_change (io) == -1) /* before it is in the list: R3, R9 */
    return -1;
#endif
  if (enter (io, &req) == -1)
    return -1;
#ifdef PLANT_BUG_throttle_in_the_list
  delay_change (io);
#endif
#ifndef PLANT_BUG_mark_after_write
  mark_durably (io, &req);
#endif
  if (req.mirrored)
    return change_both (io, &req);
  r = serve_at (io, req.route.place);
#ifdef PLANT_BUG_mark_after_write
  mark_durably (io, &req);
#endif
  tracker_leave (io->handle->export->tracker, &req); /* R2 */
  return r;
}

/* ---- Requests that do not write ---------------------------------------- */

/* They do not wait at the gate, so the cut-over they meet may be taken back
 * while the destination works on them: then the source serves them after all.
 * Or the place they went to is left, and the new one serves them.  A handover
 * that may be taken back they do wait for.
 */

/* Who serves it.  -1: *io->err is set. */
static int
ask_route (const struct io *io, struct route *route)
{
  struct tracker *t = io->handle->export->tracker;
  struct tracker_read read = TRACKER_READ_INIT;

  while (tracker_enter_read (t, &read) == TRACKER_WAIT)
    if (wait_is_over (io)) {
      tracker_give_up_read (t, &read);
      return -1;
    }
  note_held (io, read.held_us);
  *route = read.route;
  return check_route (io, route);
}

/* The place that serves it, which is kept until place_leave.  -1: *io->err is
 * set.
 */
static int
begin_passing (const struct io *io, unsigned *place)
{
  struct route route;

  do
    if (ask_route (io, &route) == -1)
      return -1;
  while (!place_enter (io->handle->export, route.place));
  *place = route.place;
  return 0;
}

/* As long as the cut-over may be taken back, what was flushed must be durable
 * at the source, too.
 */
static int
flush_fallback (const struct io *io, unsigned place)
{
  struct export *e = io->handle->export;
  struct route back;
  int r;

  if (!tracker_fallback (e->tracker, &back) || back.place == place ||
      !can_be_served (io, back.place) || !place_enter (e, back.place))
    return 0;
  r = serve_at (io, back.place);
  place_leave (e, back.place);
  return r;
}

/* Whether it has to be served once more: where the disk is now. */
static bool
has_moved (const struct io *io, unsigned place, int r)
{
  struct route now;

  if (!tracker_route (io->handle->export->tracker, &now) || now.place == place)
    return false;
  /* R13: the new owner must be flushed as well. */
  return r == -1 || io->type == IO_FLUSH;
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
  place_guest_heard (h->export, seen);
  nbdkit_error ("export \"%s\": acknowledged writes that were not flushed may "
                "have been lost: this flush fails",
                h->export->name);
  *io->err = EIO;
  return -1;
}

static int
pass (const struct io *io)
{
  unsigned place;
  int r;

  do {
    if (begin_passing (io, &place) == -1)
      return -1;
    r = serve_at (io, place);
    if (r == 0 && io->type == IO_FLUSH)
      r = flush_fallback (io, place);
    place_leave (io->handle->export, place);
  } while (has_moved (io, place, r));
  return r;
}

static int
flush (const struct io *io)
{
  struct handle *h = io->handle;
  const uint64_t seen = __atomic_load_n (&h->errors_seen, __ATOMIC_SEQ_CST);
  const uint64_t number = durable_map_flush_begins (h->export);

  /* What somebody has heard of need not be told after a restart. */
  owed_error_settle (&h->export->owed);
  if (pass (io) == -1)
    return -1;
  durable_map_flush_succeeds (h->export, number); /* R14 */
  return tell_error (io, seen);
}

/* The session's process has its reads done this way (shared-memory.h): they go
 * where any read goes.
 */
static int
cache (const struct io *io)
{
  const struct handle *h = io->handle;
  struct shared_reads *shared = &h->export->shared_reads;
  struct shared_read read;
  struct io there = *io;
  int r;

  if (!shared_reads_take (shared, h->session_pid, io->offset, io->count, &read))
    return pass (io);
  there.type = IO_READ;
  there.flags = 0;
  there.buffer = read.where;
  r = pass (&there);
  if (r == 0)
    count (&there);
  shared_reads_ended (shared, &read, r == 0);
  return r;
}

/* ------------------------------------------------------------------------ */

static int
serve (const struct io *io)
{
  const bool changes =
    io->type == IO_WRITE || io->type == IO_ZERO || io->type == IO_TRIM;

  return changes                ? change (io)
         : io->type == IO_FLUSH ? flush (io)
         : io->type == IO_CACHE ? cache (io)
                                : pass (io);
}

/* Guests' requests, while somebody is there to look at it. */
static bool
is_looked_at (const struct io *io)
{
  return handle_is_guest (io->handle) &&
         __atomic_load_n (&io->handle->export->session.client,
                          __ATOMIC_RELAXED) != NULL;
}

static bool
is_timed (const struct io *io)
{
  return (io->type == IO_READ || io->type == IO_WRITE) && is_looked_at (io);
}

static void
count_other (const struct io *io)
{
  if ((io->type == IO_ZERO || io->type == IO_TRIM) && is_looked_at (io))
    latency_count_other (&io->handle->export->latency);
}

static int
serve_timed (const struct io *io)
{
  const int64_t begun = clock_us ();
  struct delays delays = { .gate_us = 0 };
  struct io there = *io;
  uint64_t us, delayed;
  int r;

  there.delays = &delays;
  r = serve (&there);
  us = clock_us () - begun;
  delayed = delays.throttle_us + delays.gate_us;
  latency_add (&io->handle->export->latency,
               io->type == IO_READ ? LATENCY_READ : LATENCY_WRITE,
               us > delayed ? us - delayed : 0, &delays);
  return r;
}

int
request_serve (const struct io *io)
{
  int r;

  if (io->handle->view)
    return view_serve (io);
  r = is_timed (io) ? serve_timed (io) : serve (io);
  count_other (io);
  if (r == 0)
    count (io);
  return r;
}
