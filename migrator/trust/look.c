/* SPDX-License-Identifier: BSD-3-Clause */

#include <limits.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "cleanup.h"
#include "disks/drive.h"
#include "nbd/words.h"
#include "trust/look.h"

/* Requests in flight on a connection: one, as for the copy, but of short ones
 * several where each answer is long on its way.  (A server's end with a client
 * that is killed, see there, needs long answers.)
 */
#define FAR_US 1000 /* a round trip */
#define FAR_DEPTH 64
#define SHORT_BYTES (64 * 1024)

/* Rounds are not further apart unless something stops us. */
#define STOPPED_US (INT64_C (1) * 1000000)

/* ---- adding ------------------------------------------------------------ */

/* Room for one more.  The requests hold no pointers into the array until they
 * are started, and none is under way when one is added.
 */
static struct look *
add (struct looks *p)
{
  if (p->n == p->allocated) {
    p->allocated = p->allocated ? 2 * p->allocated : 16;
    p->v = reallocarray (p->v, p->allocated, sizeof *p->v);
    if (p->v == NULL)
      no_memory ();
  }
  return &p->v[p->n++];
}

static void
make_room (struct look *b)
{
  const uint64_t block = b->where->minimum_bytes;
  uint64_t end = (b->offset + b->bytes + block - 1) / block * block;

  if (end > b->where->disk_bytes) /* the size is no multiple of the block */
    end = b->where->disk_bytes;
  b->buf_offset = b->offset / block * block;
  b->buf_bytes = (uint32_t)(end - b->buf_offset);
  b->buf = malloc (b->buf_bytes);
  if (b->buf == NULL)
    no_memory ();
  b->data = b->buf + (b->offset - b->buf_offset);
}

size_t
looks_add (struct looks *p, enum look_kind kind, const struct endpoint *where,
           struct connection *over, uint64_t offset, uint32_t bytes,
           const char *data)
{
  struct look *b = add (p);

  *b = (struct look){
    .kind = kind,
    .where = where,
    .over = over,
    .offset = offset,
    .bytes = bytes,
    .data = (char *)data,
  };
  if (kind == LOOK_READ)
    make_room (b);
  return p->n - 1;
}

void
looks_free (struct looks *p)
{
  size_t i;

  for (i = 0; i < p->n; ++i) {
    free (p->v[i].buf);
    free (p->v[i].why);
  }
  free (p->v);
  *p = LOOKS_EMPTY;
}

/* ---- running ----------------------------------------------------------- */

/* A connection that is lost may be gone before the others have ended. */
static void
ended (struct io *io)
{
  struct look *b = (struct look *)io;

  b->state = LOOK_ENDED;
  if (io->error != 0)
    b->why = words_of (io);
}

static unsigned
depth_of (const struct look *b)
{
  return b->kind == LOOK_READ && !b->where->is_here &&
             endpoint_distance_us (b->where) >= FAR_US &&
             b->buf_bytes <= SHORT_BYTES
           ? FAR_DEPTH
           : 1;
}

/* NULL: it has to wait, also for a connection that is made anew (renew.h).  A
 * broken one will say so.
 */
static struct connection *
choose (const struct look *b)
{
  if (b->over != NULL)
    return !connection_alive (b->over) || b->over->in_flight < depth_of (b)
             ? b->over
             : NULL;
  if (b->where->nr_connections == 0)
    return NULL;
  if (!endpoint_any_alive (b->where))
    return b->where->connections[0];
  return endpoint_idle (b->where, UINT_MAX, depth_of (b));
}

static void
start (struct look *b, struct connection *c)
{
  b->io.ended = ended;
  b->state = LOOK_STARTED;
  switch (b->kind) {
  case LOOK_READ:
    connection_read (c, &b->io, b->buf, b->buf_bytes, b->buf_offset);
    break;
  case LOOK_WRITE:
    connection_write (c, &b->io, b->data, b->bytes, b->offset);
    break;
  case LOOK_ZERO:
    connection_zero (c, &b->io, b->bytes, b->offset);
    break;
  case LOOK_FLUSH:
    connection_flush (c, &b->io);
    break;
  case LOOK_WRITE_THROUGH:
    connection_write_through (c, &b->io, b->data, b->bytes, b->offset);
    break;
  case LOOK_ZERO_THROUGH:
    connection_zero_through (c, &b->io, b->bytes, b->offset);
    break;
  }
}

/* Whether all have ended. */
static bool
start_what_can (const struct disks *disks, struct looks *p)
{
  const bool late = p->until_us != 0 && loop_now_us () >= p->until_us;
  bool all_ended = true;
  size_t i;

  for (i = 0; i < p->n; ++i) {
    struct look *b = &p->v[i];
    struct connection *c = b->state == LOOK_WAITS ? choose (b) : NULL;

    const bool gone =
      b->where->nr_connections == 0 && disks->failure.stop != STOP_NO;

    if ((late || gone) && b->state == LOOK_WAITS)
      b->state = LOOK_LEFT_OUT;
    else if (c != NULL)
      start (b, c);
    all_ended &= b->state >= LOOK_ENDED;
  }
  return all_ended;
}

/* Since when it has answered nothing, although it is asked something.  What
 * came while we were stopped ourselves has been counted when the next round is
 * over.
 */
static int64_t
silent_since_us (struct looks *p, int64_t now_us)
{
  size_t i, answers = 0, asked = 0;

  for (i = 0; i < p->n; ++i)
    if (p->v[i].where == p->limited) {
      answers += p->v[i].state == LOOK_ENDED;
      asked += p->v[i].state == LOOK_STARTED;
    }
  if (asked == 0 || answers != p->answers || now_us - p->round_us > STOPPED_US)
    p->silent_since_us = now_us;
  p->answers = answers;
  p->round_us = now_us;
  return p->silent_since_us;
}

/* One connection cut is all cut (disk/reconnect.h). */
static void
break_silent (struct looks *p)
{
  const int64_t now_us = loop_now_us ();
  unsigned i;

  if (p->limited == NULL || now_us - silent_since_us (p, now_us) < p->limit_us)
    return;
  for (i = 0; i < p->limited->nr_connections; ++i)
    connection_break (p->limited->connections[i],
                      "it is there, and does not answer what it is asked to "
                      "read");
}

/* The disk that has it for its destination, or NULL. */
static struct disk *
destination_of (struct disks *disks, const struct endpoint *where)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (where == disks->v[i].destination || where == disks->v[i].reader)
      return &disks->v[i];
  return NULL;
}

static void
note_failed (struct disks *disks, const struct look *b, const char *text)
{
  struct disk *d =
    io_tells_loss (&b->io) ? destination_of (disks, b->where) : NULL;

  if (d != NULL)
    reconnect_note_loss (d, text);
  else
    failure_note (&disks->failure, "%s", text);
}

static int
judge (struct disks *disks, const struct look *b)
{
  static const char *const words[] = {
    "reading",  "writing to", "writing zeroes to",
    "flushing", "writing to", "writing zeroes to"
  };
  const struct io *io = &b->io;
  CLEANUP_FREE char *text = NULL;

  if (io->error == 0)
    return disks->failure.stop != STOP_NO && b->state == LOOK_LEFT_OUT ? -1 : 0;
  if (asprintf (&text, "%s %s at offset %" PRIu64 " (%u bytes): %s",
                words[b->kind], b->where->uri, b->offset, b->bytes,
                b->why ? b->why : strerror (io->error)) == -1)
    text = NULL;
  note_failed (disks, b, text ? text : "no memory");
  return -1;
}

int
looks_run (struct disks *disks, struct looks *p)
{
  int result = 0;
  size_t i;

  while (!start_what_can (disks, p)) {
    drive (disks, 100);
    break_silent (p);
  }
  for (i = 0; i < p->n; ++i)
    if (judge (disks, &p->v[i]) == -1)
      result = -1;
  return result;
}
