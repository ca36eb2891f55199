/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner is asked once, at the start of a request (tracker_owner, or
 * tracker_enter for those that write), and decides who serves it.  The side
 * of the source is below, one function a request; that of the destination is
 * in side-remote.c.
 *
 * Every return after a successful 'enter' goes through 'leave', and 'leave'
 * comes before nbdkit can send the reply (R2).
 */

#include <pthread.h>

#include "export/destination.h"
#include "nbd-limits.h"
#include "request.h"
#include "side-remote.h"

/* ---- Common ------------------------------------------------------------ */

static void
count_request (uint64_t *requests, uint64_t *bytes, uint64_t count)
{
  __atomic_fetch_add (requests, 1, __ATOMIC_RELAXED);
  if (bytes)
    __atomic_fetch_add (bytes, count, __ATOMIC_RELAXED);
}

/* A fenced disk, or one whose owner is not known, serves nobody (R20). */
static int
fail_fenced (struct handle *h, int *err)
{
  if (!__atomic_exchange_n (&h->told, true, __ATOMIC_RELAXED))
    nbdkit_error ("export \"%s\" is not served here any more: its owner is "
                  "not this side; all requests fail",
                  h->export->name);
  *err = ESHUTDOWN;
  return -1;
}

/* The guest connected while the source was not to be had, and now it is the
 * owner again.
 */
static int
fail_no_source (struct handle *h, int *err)
{
  nbdkit_error ("export \"%s\" belongs to the source again, which this "
                "connection has not opened: connect again",
                h->export->name);
  *err = ESHUTDOWN;
  return -1;
}

/* 0 if the owner can serve this connection. */
static int
check_owner (struct handle *h, enum owner owner, int *err)
{
  switch (owner) {
  case OWNER_SOURCE:
    return h->no_source ? fail_no_source (h, err) : 0;
  case OWNER_DESTINATION:
    return 0;
  case OWNER_FENCED:
  case OWNER_UNKNOWN:
    break;
  }
  return fail_fenced (h, err);
}

/* The tracker waits for a while only; in between we look whether there is
 * still anybody to wait for.
 */
static bool
wait_is_over (int *err)
{
  if (nbdkit_nanosleep (0, 0) == 0)
    return false;
  *err = ESHUTDOWN;
  return true;
}

/* Pass the gate and enter the list (R8). */
static int
enter (struct handle *h, struct tracker_request *req, uint64_t offset,
       uint64_t count, int *err)
{
  for (;;)
    switch (tracker_enter (h->export->tracker, req, offset, count)) {
    case TRACKER_PASS:
      if (check_owner (h, req->owner, err) == 0)
        return 0;
      tracker_leave (h->export->tracker, req);
      return -1;
    case TRACKER_FENCED:
      return fail_fenced (h, err);
    case TRACKER_WAIT:
      if (wait_is_over (err))
        return -1;
    }
}

static void
leave (struct handle *h, struct tracker_request *req)
{
  tracker_leave (h->export->tracker, req); /* R2 */
}

/* The plugin's context for a call, until source_end.  A shared one may have to
 * be used by one thread at a time.
 */
static nbdkit_next *
source_begin (struct handle *h, nbdkit_next *next)
{
  if (h->export->serialise)
    pthread_mutex_lock (&h->export->source_lock);
  return handle_next (h, next);
}

static void
source_end (struct handle *h)
{
  if (h->export->serialise)
    pthread_mutex_unlock (&h->export->source_lock);
}

/* ---- Requests that write ----------------------------------------------- */

int
request_pwrite (struct handle *h, nbdkit_next *next, const void *buf,
                uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct guest_counters *g = &h->export->guest;
  struct tracker_request req;
  int r;

  if (enter (h, &req, offset, count, err) == -1)
    return -1;
  if (req.owner == OWNER_DESTINATION)
    r = destination_pwrite (h, buf, count, offset, flags, err);
  else {
    next = source_begin (h, next);
    r = next->pwrite (next, buf, count, offset, flags, err);
    source_end (h);
  }
  leave (h, &req);
  if (r == 0)
    count_request (&g->writes, &g->written_bytes, count);
  return r;
}

/* Before 1.44.1 nbdkit zeroes the first 64 MiB only, and says that all is well,
 * where the plugin finds out when it is asked that it cannot zero.
 */
#if NBDKIT_VERSION_MAJOR > 1 || NBDKIT_VERSION_MINOR > 44 ||                   \
  (NBDKIT_VERSION_MINOR == 44 && NBDKIT_VERSION_MICRO >= 1)
#define SOURCE_ZERO_MAX UINT32_MAX
#else
#define SOURCE_ZERO_MAX NBD_ZERO_MAX
#endif

static int
source_zero (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
             int *err)
{
  int r = 0;

  while (r == 0 && count > 0) {
    const uint32_t n = count < SOURCE_ZERO_MAX ? count : SOURCE_ZERO_MAX;

    r = next->zero (next, n, offset, flags, err);
    offset += n;
    count -= n;
  }
  return r;
}

int
request_zero (struct handle *h, nbdkit_next *next, uint32_t count,
              uint64_t offset, uint32_t flags, int *err)
{
  struct guest_counters *g = &h->export->guest;
  struct tracker_request req;
  int r;

  if (enter (h, &req, offset, count, err) == -1)
    return -1;
  if (req.owner == OWNER_DESTINATION)
    r = destination_zero (h, count, offset, flags, err);
  else {
    next = source_begin (h, next);
    r = source_zero (next, count, offset, flags, err);
    source_end (h);
  }
  leave (h, &req);
  if (r == 0)
    count_request (&g->zeroes, &g->zeroed_bytes, count);
  return r;
}

int
request_trim (struct handle *h, nbdkit_next *next, uint32_t count,
              uint64_t offset, uint32_t flags, int *err)
{
  struct guest_counters *g = &h->export->guest;
  struct tracker_request req;
  int r;

  if (enter (h, &req, offset, count, err) == -1)
    return -1;
  if (req.owner == OWNER_DESTINATION)
    r = destination_trim (h, count, offset, flags, err);
  else {
    next = source_begin (h, next);
    r = next->trim (next, count, offset, flags, err);
    source_end (h);
  }
  leave (h, &req);
  if (r == 0)
    count_request (&g->trims, &g->trimmed_bytes, count);
  return r;
}

/* ---- Requests that do not write ---------------------------------------- */

/* They do not wait at the gate, so the cut-over they meet may be taken back
 * while the destination works on them: then the source serves them after all.
 * A handover that may be taken back they do wait for.
 */

/* Who serves it; *there: the destination, which is used until end_passing. */
static int
begin_passing (struct handle *h, bool *there, int *err)
{
  struct tracker *t = h->export->tracker;
  enum owner owner;

  do {
    while (tracker_enter_read (t, &owner) == TRACKER_WAIT)
      if (wait_is_over (err))
        return -1;
    *there = owner == OWNER_DESTINATION && destination_enter (h->export);
  } while (owner == OWNER_DESTINATION && !*there);
  return check_owner (h, owner, err);
}

/* With its result: whether it must begin again. */
static bool
end_passing (struct handle *h, bool there, int r)
{
  if (!there)
    return false;
  destination_leave (h->export);
  return r == -1 && tracker_owner (h->export->tracker) != OWNER_DESTINATION;
}

int
request_pread (struct handle *h, nbdkit_next *next, void *buf, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  struct guest_counters *g = &h->export->guest;
  nbdkit_next *source;
  bool there;
  int r;

  do {
    if (begin_passing (h, &there, err) == -1)
      return -1;
    if (there)
      r = destination_pread (h, buf, count, offset, err);
    else {
      source = source_begin (h, next);
      r = source->pread (source, buf, count, offset, flags, err);
      source_end (h);
    }
  } while (end_passing (h, there, r));
  if (r == 0)
    count_request (&g->reads, &g->read_bytes, count);
  return r;
}

static int
source_flush (struct handle *h, nbdkit_next *next, uint32_t flags, int *err)
{
  int r;

  next = source_begin (h, next);
  r = next->flush (next, flags, err);
  source_end (h);
  return r;
}

/* As long as the gate is shut the cut-over may be taken back, and then what was
 * flushed must be durable at the source.
 */
static int
flush_destination (struct handle *h, nbdkit_next *next, uint32_t flags,
                   int *err)
{
  struct tracker_status s;
  int r = destination_flush (h, err);

  tracker_get_status (h->export->tracker, &s);
  if (r == 0 && s.gate != GATE_OPEN && !h->no_source)
    r = source_flush (h, next, flags, err);
  return r;
}

/* R13: if the owner changed meanwhile, the new one is flushed, too. */
int
request_flush (struct handle *h, nbdkit_next *next, uint32_t flags, int *err)
{
  struct tracker *t = h->export->tracker;
  bool there, again;
  int r;

  do {
    if (begin_passing (h, &there, err) == -1)
      return -1;
    r = there ? flush_destination (h, next, flags, err)
              : source_flush (h, next, flags, err);
    again = end_passing (h, there, r) ||
            (r == 0 && (tracker_owner (t) == OWNER_DESTINATION) != there);
  } while (again);
  if (r == 0)
    count_request (&h->export->guest.flushes, NULL, 0);
  return r;
}

int
request_extents (struct handle *h, nbdkit_next *next, uint32_t count,
                 uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents, int *err)
{
  nbdkit_next *source;
  bool there;
  int r;

  do {
    if (begin_passing (h, &there, err) == -1)
      return -1;
    if (there)
      r = destination_extents (h, count, offset, extents, err);
    else {
      source = source_begin (h, next);
      r = source->extents (source, count, offset, flags, extents, err);
      source_end (h);
    }
  } while (end_passing (h, there, r));
  return r;
}

int
request_cache (struct handle *h, nbdkit_next *next, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  nbdkit_next *source;
  bool there;
  int r;

  do {
    if (begin_passing (h, &there, err) == -1)
      return -1;
    if (there)
      r = destination_cache (h, count, offset, err);
    else {
      source = source_begin (h, next);
      r = source->cache (source, count, offset, flags, err);
      source_end (h);
    }
  } while (end_passing (h, there, r));
  return r;
}
