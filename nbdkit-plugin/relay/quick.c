/* SPDX-License-Identifier: BSD-3-Clause */
/* The usual case: a read or write that is one command, of whole blocks and with
 * nothing in its way.
 *
 * It takes the lock twice, not eight times: once to find that nothing is in its
 * way, to reserve its place in the log and to be linked to a connection, and
 * once, when the answer comes, in the thread that receives it.  Its data are
 * copied once, into the log, and without the lock.  If there are many the
 * destination is at work meanwhile; should it answer first, the write is
 * settled after the copy, with a third lock.
 *
 * Whatever is not usual goes the long way (request.c), also a request that is
 * lost on this one: with its range, which it keeps.
 */

#include "internal.h"
#include "remote/copy.h"

/* A copy of more is made while the destination is at work. */
#define COPY_FIRST_BYTES 65536

struct quick {
  struct batch batch; /* first: quick_answered is given this */
  struct request *request;
  uint64_t log_id;
  uint8_t *data; /* in the log */
  bool copied;   /* atomic: they are there */
  bool deferred; /* answered before that: the sender settles it */
  int result;
};

/* ---- The answer -------------------------------------------------------- */

/* L. */
static void
settle (struct quick *k)
{
  struct request *q = k->request;
  struct relay *r = q->relay;

  k->result = k->batch.result;
  q->unknown = k->batch.unknown;
  if (k->result == 0 && r->remote.generation != k->batch.generation)
    k->result = REMOTE_LOST; /* the replay has not seen it */
#ifdef PLANT_BUG_relay_replies_early
  if (k->result == REMOTE_LOST) {
    relay_log_cancel (r->log, k->log_id);
    range_lock_leave (&r->ranges, &q->node);
    q->unknown = false;
    k->result = 0;
    return;
  }
#endif
  if (k->result == 0) {
    relay_log_acknowledge (r->log, k->log_id);
    witness_written (&r->witnesses, k->data, q->offset, q->length);
  }
  else {
    relay_log_cancel (r->log, k->log_id);
    if (k->result != REMOTE_LOST)
      witness_write_failed (&r->witnesses);
  }
  if (r->room != NULL)
    relay_want_flush (r);
  if (k->result == REMOTE_LOST)
    return; /* its range stays its own */
  range_lock_leave (&r->ranges, &q->node);
  if (r->range_waiters > 0)
    pthread_cond_broadcast (&r->remote.changed);
}

/* batch.finish: L. */
static void
quick_answered (struct batch *b)
{
  struct quick *k = (struct quick *)b;

  if (__atomic_load_n (&k->copied, __ATOMIC_ACQUIRE))
    settle (k);
  else
    k->deferred = true;
}

/* ---- The way there ----------------------------------------------------- */

static bool
is_usual (const struct request *q)
{
  const struct relay *r = q->relay;
  const struct destination *d = &r->remote.destination;
  const uint64_t mask = d->minimum - 1;

  return r->remote.up && !r->remote.stopping && q->length > 0 &&
         q->length <= d->maximum && ((q->offset | q->length) & mask) == 0 &&
         (!(q->flags & RELAY_FUA) || d->can_fua);
}

/* L. */
static bool
link_it (struct quick *k, enum command_kind kind, uint32_t flags)
{
  struct request *q = k->request;
  struct relay *r = q->relay;

  k->batch.generation = r->remote.generation;
  batch_add (&k->batch, kind, flags, q->offset, q->length, q->buf);
  batch_link (&r->remote, &k->batch, NULL);
  if (!k->batch.sent)
    return false;
  relay_wake_watcher (r);
  return true;
}

/* L. */
static bool
begin_write (struct quick *k)
{
  struct request *q = k->request;
  struct relay *r = q->relay;

  if (!is_usual (q) || r->room != NULL ||
      q->length > relay_log_largest (r->log))
    return false;
  range_lock_enter (&r->ranges, &q->node, q->offset, q->length);
  if (range_lock_ask (&r->ranges, &q->node, q->start_ms) != RANGE_MINE)
    goto leave;
  if (!relay_log_reserve (r->log, LOG_WRITE, 0, q->offset, q->length,
                          &k->log_id, &k->data))
    goto leave;
  if (!link_it (k, COMMAND_WRITE,
                q->flags & RELAY_FUA ? LIBNBD_CMD_FLAG_FUA : 0)) {
    relay_log_cancel (r->log, k->log_id);
    goto leave;
  }
  witness_forget (&r->witnesses, q->node.start, q->node.end - q->node.start);
  if (relay_log_half_full (r->log))
    relay_want_flush (r);
  return true;

leave:
  range_lock_leave (&r->ranges, &q->node);
  return false;
}

/* L. */
static bool
begin_read (struct quick *k)
{
  struct request *q = k->request;
  struct relay *r = q->relay;

  q->ticket = r->ranges.tickets;
  return is_usual (q) &&
         !range_lock_blocks_read (&r->ranges, q->offset, q->length,
                                  q->ticket) &&
         link_it (k, COMMAND_READ, 0);
}

static void
copy_to_log (struct quick *k)
{
  const struct request *q = k->request;

  copy_past_caches (k->data, q->buf, q->length);
  __atomic_store_n (&k->copied, true, __ATOMIC_RELEASE);
}

/* Send it and wait for the answer.  Nothing is settled before it is sent. */
static void
carry_write (struct quick *k)
{
  const bool copy_first = k->request->length <= COPY_FIRST_BYTES;
  struct relay *r = k->request->relay;

  if (copy_first)
    copy_to_log (k);
  batch_issue (&k->batch);
  if (!copy_first)
    copy_to_log (k);
  batch_await (&r->remote, &k->batch);
  if (k->deferred) {
    pthread_mutex_lock (&r->remote.lock);
    settle (k);
    pthread_mutex_unlock (&r->remote.lock);
  }
}

bool
quick_write (struct request *q, int *result)
{
  struct relay *r = q->relay;
  struct quick k = { .request = q };
  bool begun;

  if (r->options.request_limit_ms > 0)
    return false;
  batch_init (&k.batch, 0);
  k.batch.finish = quick_answered;
  pthread_mutex_lock (&r->remote.lock);
  begun = begin_write (&k);
  pthread_mutex_unlock (&r->remote.lock);
  if (begun) {
    carry_write (&k);
    *result = k.result;
    if (k.result == REMOTE_LOST)
      *result = request_go_on (q, try_write);
  }
  batch_destroy (&k.batch);
  return begun;
}

bool
quick_read (struct request *q, int *result)
{
  struct relay *r = q->relay;
  struct quick k = { .request = q };
  bool begun;

  if (r->options.request_limit_ms > 0)
    return false;
  batch_init (&k.batch, 0);
  pthread_mutex_lock (&r->remote.lock);
  begun = begin_read (&k);
  pthread_mutex_unlock (&r->remote.lock);
  if (begun) {
    batch_issue (&k.batch);
    batch_await (&r->remote, &k.batch);
    *result = k.batch.result;
    if (*result == REMOTE_LOST)
      *result = request_repeat (q, try_read);
  }
  batch_destroy (&k.batch);
  return begun;
}
