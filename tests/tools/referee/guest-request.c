/* SPDX-License-Identifier: BSD-3-Clause */
/* One request of the guest, from the record to its end. */

#include "guest.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <libnbd.h>

#include "judge.h"
#include "util.h"

static void
set_busy (struct guest *g, const struct slot *s, uint8_t busy)
{
  memset (g->busy + s->first, busy, s->count);
}

/* Before it is sent: mark the cells, and put it on record. */
void
guest_record (struct guest *g, struct slot *s)
{
  const struct layout *const l = &g->record.layout;
  uint8_t *p = s->buf;

  set_busy (g, s, 1);
  s->id = 0;
  if (s->kind != OP_READ)
    s->id = record_sent (&g->record, s->kind, s->first, s->count);
  if (s->kind != OP_WRITE && s->kind != OP_WRITE_FUA)
    return;
  for (size_t i = s->first; i < s->first + s->count; i++) {
    content_block (l->seed, s->id, l->cells[i].offset, p, l->cells[i].length);
    p += l->cells[i].length;
  }
}

/* Called by libnbd; must not use the handle. */
static int
completed (void *opaque, int *error)
{
  struct slot *const s = opaque;

  s->ended_mono_us = now_mono_us ();
  s->ended_real_us = now_real_us ();
  s->error = *error;
  s->done = true;
  return 1;
}

static int64_t
send_command (struct slot *s)
{
  const nbd_completion_callback cb = { .callback = completed, .user_data = s };
  struct nbd_handle *const nbd = s->conn->nbd;

  switch (s->kind) {
  case OP_READ:
    return nbd_aio_pread (nbd, s->buf, s->length, s->offset, cb, 0);
  case OP_WRITE:
    return nbd_aio_pwrite (nbd, s->buf, s->length, s->offset, cb, 0);
  case OP_WRITE_FUA:
    return nbd_aio_pwrite (nbd, s->buf, s->length, s->offset, cb,
                           LIBNBD_CMD_FLAG_FUA);
  case OP_ZERO:
  case OP_ZERO_LONG:
    return nbd_aio_zero (nbd, s->length, s->offset, cb, 0);
  case OP_ZERO_NO_HOLE:
    return nbd_aio_zero (nbd, s->length, s->offset, cb,
                         LIBNBD_CMD_FLAG_NO_HOLE);
  case OP_TRIM:
    return nbd_aio_trim (nbd, s->length, s->offset, cb, 0);
  case OP_FLUSH:
    return nbd_aio_flush (nbd, cb, 0);
  }
  abort ();
}

/* Why nothing could be sent.  On a connection that has just ended libnbd says
 * EINVAL of all but the first request.
 */
static int
send_error (const struct slot *s)
{
  const int error = nbd_get_errno ();

  if (nbd_aio_is_dead (s->conn->nbd) || nbd_aio_is_closed (s->conn->nbd))
    return ENOTCONN;
  return error ? error : EIO;
}

void
guest_send (struct guest *g, struct slot *s)
{
  s->done = false;
  s->error = 0;
  s->conn->in_flight++;
  s->sent_mono_us = now_mono_us ();
  g->ops++;
  if (send_command (s) == -1)
    completed (s, &(int){ send_error (s) });
}

/* ---- Its end ----------------------------------------------------------- */

static void
count_good (struct counters *c, const struct slot *s)
{
  const int64_t took = s->ended_mono_us - s->sent_mono_us;

  switch (s->kind) {
  case OP_READ:
    c->reads++;
    return;
  case OP_FLUSH:
    c->flushes++;
    return;
  case OP_WRITE:
  case OP_WRITE_FUA:
    c->writes++;
    c->written_bytes += s->length;
    break;
  case OP_ZERO:
  case OP_ZERO_NO_HOLE:
  case OP_ZERO_LONG:
    c->zeroes++;
    break;
  case OP_TRIM:
    c->trims++;
    break;
  }
  if (took > c->longest_write_us) {
    c->longest_write_us = took;
    c->longest_write_at_us = s->ended_real_us;
  }
}

/* No two requests are on one cell at a time: its reads come one by one. */
static void
check_read (struct guest *g, const struct slot *s)
{
  const uint8_t *p = s->buf;

  for (size_t i = s->first; i < s->first + s->count; i++) {
    if (!judge_latest (&g->record, i, p)) {
      say ("a read returned what the guest has not left there");
      judge_explain (&g->record, i, p);
      g->wrong = g->stopping = true;
      return;
    }
    judge_seen (&g->record, i, p);
    p += g->record.layout.cells[i].length;
  }
}

static void
count_bad (struct guest *g, const struct slot *s)
{
  if (s->error == ESHUTDOWN && g->o->expect_shutdown) {
    g->count.shutdowns++;
    g->stopping = true;
    return;
  }
  /* libnbd says so of what is in flight before it is seen that the connection
   * has ended; no server answers with it.
   */
  const bool lost = s->conn->dead || s->error == ENOTCONN;

  if (lost) {
    g->disconnected = g->stopping = true;
    if (g->o->expect_disconnect)
      return;
  }
  g->count.errors++;
  if (g->o->tolerate_errors && !lost)
    return;
  if (!g->failed)
    say ("%s: request of kind %c at offset %" PRIu64 ", length %zu: %s",
         g->o->uris[s->conn->disk], s->kind, s->offset, s->length,
         strerror (s->error));
  g->failed = g->stopping = true;
}

void
guest_reap (struct guest *g, struct slot *s)
{
  set_busy (g, s, 0);
  s->conn->in_flight--;
  if (s->id != 0)
    record_ended (&g->record, s->id, s->ended_real_us, s->error);
  if (s->error != 0)
    count_bad (g, s);
  else {
    count_good (&g->count, s);
    if (s->kind == OP_READ)
      check_read (g, s);
  }
  s->conn = NULL;
}

/* A guest that stops leaves nothing in a cache. */
void
guest_final_flush (struct guest *g)
{
  for (size_t i = 0; i < g->nr_conns; i++) {
    struct connection *const c = &g->conns[i];
    uint32_t id;
    int error = 0;

    if (c->dead || nbd_can_flush (c->nbd) != 1)
      continue;
    id = record_sent (&g->record, OP_FLUSH, c->disk, 0);
    record_write (&g->record);
    if (nbd_flush (c->nbd, 0) == -1) {
      error = nbd_get_errno () ? nbd_get_errno () : EIO;
      say ("%s: %s", g->o->uris[c->disk], nbd_get_error ());
      g->count.errors++;
      if (!g->o->tolerate_errors)
        g->failed = true;
    }
    else
      g->count.flushes++;
    record_ended (&g->record, id, now_real_us (), error);
  }
}
