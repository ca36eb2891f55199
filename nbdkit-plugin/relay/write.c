/* SPDX-License-Identifier: BSD-3-Clause */
/* Write, zero or trim one aligned range: the log around the transfer.
 *
 * A write larger than the log takes is not logged; it is flushed before it is
 * acknowledged.  That flush also covers all older writes beneath it, so none
 * of them is replayed over it.
 *
 * A FUA write is logged like the others: an older one beneath it that is not
 * flushed yet would otherwise be replayed over it.
 */

#include <errno.h>

#include "internal.h"

/* Where a request stands that waits for room: first come, first served. */
static void
join_line (struct relay *r, struct room_waiter *w)
{
  struct room_waiter **p = &r->room;

  while (*p != NULL)
    p = &(*p)->next;
  w->next = NULL;
  *p = w;
}

static void
leave_line (struct relay *r, struct room_waiter *w)
{
  struct room_waiter **p = &r->room;

  while (*p != w)
    p = &(*p)->next;
  *p = w->next;
  pthread_cond_broadcast (&r->remote.changed);
}

/* Where the oldest record waits for an answer a flush frees nothing: it would
 * be asked for again and again.
 */
void
relay_want_flush (struct relay *r)
{
  if (r->flush_wanted || !relay_log_can_free (r->log))
    return;
  r->flush_wanted = true;
  pthread_cond_signal (&r->work);
}

struct reservation {
  uint64_t id;
  uint8_t *data;
};

/* L. */
static int
wait_for_room (struct request *q, const struct view *v,
               const struct log_entry *e, struct reservation *res)
{
  struct relay *r = q->relay;
  struct room_waiter w;
  int result;

  join_line (r, &w);
  for (;;) {
    if (!r->remote.up || r->remote.generation != v->generation) {
      result = REMOTE_LOST;
      break;
    }
    if (r->room == &w &&
        relay_log_reserve (r->log, e->kind, e->flags, e->offset, e->length,
                           &res->id, &res->data)) {
      result = 0;
      break;
    }
    relay_want_flush (r);
    result = request_wait (q);
    if (result != 0)
      break;
  }
  leave_line (r, &w);
  return result;
}

static int
reserve (struct request *q, const struct view *v, const struct log_entry *e,
         struct reservation *res)
{
  struct relay *r = q->relay;
  int result = 0;

  pthread_mutex_lock (&r->remote.lock);
  if (r->room != NULL ||
      !relay_log_reserve (r->log, e->kind, e->flags, e->offset, e->length,
                          &res->id, &res->data))
    result = wait_for_room (q, v, e, res);
  if (relay_log_half_full (r->log))
    relay_want_flush (r);
  pthread_mutex_unlock (&r->remote.lock);
  return result;
}

/* L. */
static void
bear_witness (struct relay *r, const struct command *model, const uint8_t *data)
{
  if (model->kind == COMMAND_WRITE)
    witness_written (&r->witnesses, data, model->offset, model->length);
  else if (model->kind == COMMAND_TRIM)
    witness_trimmed (&r->witnesses);
}

/* An answer of an older generation is worth nothing: the replay has not seen
 * this write.
 */
static int
settle (struct relay *r, const struct view *v, const struct command *model,
        const struct reservation *res, int result)
{
  pthread_mutex_lock (&r->remote.lock);
  if (result == 0 && r->remote.generation != v->generation)
    result = REMOTE_LOST;
  if (result == 0) {
    relay_log_acknowledge (r->log, res->id);
    bear_witness (r, model, res->data);
  }
  else
    relay_log_cancel (r->log, res->id);
  if (r->room != NULL)
    relay_want_flush (r);
  pthread_mutex_unlock (&r->remote.lock);
  return result;
}

static enum log_kind
log_kind (enum command_kind kind)
{
  return kind == COMMAND_WRITE  ? LOG_WRITE
         : kind == COMMAND_ZERO ? LOG_ZERO
                                : LOG_TRIM;
}

static int
send_range (struct request *q, const struct view *v,
            const struct command *model, uint8_t *copy)
{
  if (model->kind == COMMAND_ZERO)
    return remote_transfer_zero (&q->relay->remote, v, NULL, model->flags,
                                 model->offset, model->length, &q->unknown);
  return remote_transfer (&q->relay->remote, v, NULL, model, copy, &q->unknown);
}

int
relay_write_range (struct request *q, const struct view *v,
                   enum command_kind kind, uint32_t flags, uint64_t offset,
                   uint64_t length, const void *data)
{
  struct relay *r = q->relay;
  const struct command model = {
    .kind = kind,
    .flags = flags,
    .offset = offset,
    .length = length,
    .data = (void *)data,
  };
  const struct log_entry entry = {
    .kind = log_kind (kind),
    .flags = flags & LIBNBD_CMD_FLAG_NO_HOLE,
    .offset = offset,
    .length = length,
  };
  struct reservation res;
  int result;

  if (kind == COMMAND_WRITE && length > relay_log_largest (r->log)) {
    result = send_range (q, v, &model, NULL);
    return result != 0 ? result : relay_flush_once (r, v->generation, NULL);
  }
  result = reserve (q, v, &entry, &res);
  if (result != 0)
    return result;
  result = send_range (q, v, &model, res.data);
  return settle (r, v, &model, &res, result);
}
