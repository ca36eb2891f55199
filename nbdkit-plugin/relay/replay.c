/* SPDX-License-Identifier: BSD-3-Clause */
/* After a reconnect, before anything else passes: send the log again (R13).
 *
 * Records that do not overlap go together, others one after the other: the
 * server may reorder what is in flight.  The flush at the end proves that the
 * destination works again, and empties the log.
 *
 * If a replay is itself lost, what it had sent and got no answer to is of
 * unknown outcome (R17).  Landing late it brings what is there already, unless
 * something newer was written to the same place.  So guests' writes wait there
 * for the grace period, as they do after a request that was lost; and the next
 * replay, before it sends a later record of the same place, waits until a flush
 * was answered and that period is over.
 */

#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

struct replay {
  struct relay *relay;
  struct connection *connection;
  struct view view;
  struct batch batch;
  uint64_t records;
  uint64_t cursor;                    /* of the present one */
  struct sent_record sent[BATCH_MAX]; /* not answered yet */
  unsigned nr_sent;
  bool failed; /* the server refused something */
};

/* ---- What is unknown ---------------------------------------------------- */

/* L.  False: there is no memory for that. */
static bool
suspect (struct relay *r, const struct sent_record *s)
{
  struct range_node node;

  range_lock_enter (&r->ranges, &node, s->offset, s->length);
  if (range_lock_leave_suspect (&r->ranges, &node, RANGE_NEVER) == 0)
    return true;
  range_lock_leave (&r->ranges, &node);
  return false;
}

static void
note_unknown (struct replay *p)
{
  struct relay *r = p->relay;
  struct unknown_records *u = &r->unknown_records;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  for (unsigned i = 0; i < p->nr_sent; ++i) {
    if (u->n == sizeof u->v / sizeof u->v[0] || !suspect (r, &p->sent[i]))
      u->all = true;
    else
      u->v[u->n++] = p->sent[i];
  }
}

/* Whether an earlier record of the same place may still land. */
static bool
would_be_undone (const struct replay *p, const struct log_entry *e)
{
  const struct unknown_records *u = &p->relay->unknown_records;

  for (unsigned i = 0; i < u->n; ++i) {
    const struct sent_record *s = &u->v[i];

    if (s->cursor < p->cursor && s->offset < e->offset + e->length &&
        e->offset < s->offset + s->length)
      return true;
  }
  return false;
}

/* ---- Sending --------------------------------------------------------------
 */

/* The records in the batch.  REMOTE_LOST, or 0. */
static int
send_batch (struct replay *p)
{
  int result;

  if (p->batch.n == 0)
    return 0;
  batch_send (&p->relay->remote, &p->batch, p->connection);
  result = batch_wait (&p->relay->remote, &p->batch);
  if (result > 0)
    p->failed = true;
  if (result == REMOTE_LOST)
    return REMOTE_LOST;
  p->nr_sent = 0;
  return 0;
}

static void
note_sent (struct replay *p, const struct log_entry *e)
{
  p->sent[p->nr_sent++] = (struct sent_record){
    .cursor = p->cursor,
    .offset = e->offset,
    .length = e->length,
  };
}

static int
send_flush (struct replay *p)
{
  /* No writes are in flight on this connection now. */
  batch_add (&p->batch, COMMAND_FLUSH, 0, p->connection->acknowledged, 0, NULL);
  return send_batch (p);
}

static bool
overlaps_batch (const struct batch *b, const struct log_entry *e)
{
#ifdef PLANT_BUG_relay_replays_at_once
  return false;
#endif
  for (unsigned i = 0; i < b->n; ++i) {
    const struct command *cmd = &b->commands[i];

    if (cmd->offset < e->offset + e->length &&
        e->offset < cmd->offset + cmd->length)
      return true;
  }
  return false;
}

/* Whether this destination takes the record as one command. */
static bool
is_one_command (struct remote *m, const struct destination *d,
                const struct log_entry *e)
{
  switch (e->kind) {
  case LOG_WRITE:
    return e->length <= d->maximum;
  case LOG_ZERO:
    return d->can_zero && e->length <= REMOTE_PIECE_SMALL &&
           remote_takes_zero (m, e->offset, e->length);
  case LOG_TRIM:
    return e->length <= REMOTE_PIECE_SMALL &&
           remote_takes_trim (m, e->offset, e->length);
  }
  return false;
}

static struct command
to_command (const struct log_entry *e)
{
  static const enum command_kind kinds[] = {
    [LOG_WRITE] = COMMAND_WRITE,
    [LOG_ZERO] = COMMAND_ZERO,
    [LOG_TRIM] = COMMAND_TRIM,
  };

  return (struct command){
    .kind = kinds[e->kind],
    .flags = e->flags,
    .offset = e->offset,
    .length = e->length,
    .data = (void *)e->data,
  };
}

/* A record that needs several commands. */
static int
send_alone (struct replay *p, const struct log_entry *e)
{
  const struct command model = to_command (e);
  bool *const unknown = &p->batch.unknown;
  int result = send_batch (p);

  if (result != 0)
    return result;
  note_sent (p, e);
  if (e->kind == LOG_ZERO)
    result = remote_transfer_zero (&p->relay->remote, &p->view, p->connection,
                                   e->flags, e->offset, e->length, unknown);
  else
    result = remote_transfer (&p->relay->remote, &p->view, p->connection,
                              &model, NULL, unknown);
  if (result > 0)
    p->failed = true;
  if (result == REMOTE_LOST)
    return REMOTE_LOST;
  p->nr_sent = 0;
  return 0;
}

/* Let writes of an earlier replay land that may still be on their way. */
static int
wait_for_stragglers (struct replay *p)
{
  struct relay *r = p->relay;
  int result = send_batch (p);
  int64_t until;

  if (result == 0)
    result = send_flush (p);
  if (result != 0)
    return result;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  until = clock_ms () + relay_grace_ms (r);
  while (!r->remote.stopping && !p->connection->lost && clock_ms () < until)
    remote_wait_changed (&r->remote);
  if (r->remote.stopping || p->connection->lost)
    return REMOTE_LOST;
  r->unknown_records.n = 0;
  r->unknown_records.all = false;
  return 0;
}

static int
send_record (struct replay *p, const struct log_entry *e)
{
  const struct destination *d = &p->view.destination;
  const struct command cmd = to_command (e);
  int result = 0;

  if (e->kind == LOG_TRIM && !d->can_trim)
    return 0;
  if (would_be_undone (p, e))
    result = wait_for_stragglers (p);
  if (result != 0)
    return result;
  if (!is_one_command (&p->relay->remote, d, e))
    return send_alone (p, e);
  if (p->batch.n == BATCH_MAX || overlaps_batch (&p->batch, e))
    result = send_batch (p);
  if (result != 0)
    return result;
  note_sent (p, e);
  batch_add (&p->batch, cmd.kind, cmd.flags, cmd.offset, cmd.length, cmd.data);
  return 0;
}

static int
send_log (struct replay *p)
{
  struct relay *r = p->relay;
  struct log_entry entry;
  uint64_t cursor = 0;
  int result = 0;
  bool more;

  while (result == 0) {
    pthread_mutex_lock (&r->remote.lock);
    more = relay_log_next (r->log, &cursor, &entry);
    pthread_mutex_unlock (&r->remote.lock);
    if (!more)
      break;
    ++p->records;
    p->cursor = cursor;
    result = send_record (p, &entry);
  }
  return result == 0 ? send_batch (p) : result;
}

static int
replay (struct replay *p)
{
  struct relay *r = p->relay;
  uint64_t mark;
  int result = 0;

  if (r->restoring)
    result = relay_rest_wait (r, p->connection);
  if (result == 0 && r->unknown_records.all)
    result = wait_for_stragglers (p);
#ifdef PLANT_BUG_relay_no_replay
  if (result != 0)
#else
  if (result == 0)
#endif
    result = send_log (p);
  if (result != 0) {
    if (p->batch.unknown)
      note_unknown (p);
    return result;
  }

  pthread_mutex_lock (&r->remote.lock);
  mark = relay_log_flush_begin (r->log);
  pthread_mutex_unlock (&r->remote.lock);
  result = send_flush (p);
  if (result != 0)
    return result; /* all records were answered */
  /* An earlier process acknowledged it: it stays where it is kept. */
  if (p->failed && r->restoring)
    return REMOTE_LOST;

  pthread_mutex_lock (&r->remote.lock);
  relay_log_flush_end (r->log, mark);
  r->replayed += p->records;
  r->unknown_records.n = 0; /* those places are suspect still */
  if (p->failed) {
    r->failed_flushes++;
    owed_error_raise (r->options.owed, NULL);
    witness_flush_failed (&r->witnesses);
  }
  pthread_mutex_unlock (&r->remote.lock);
  return 0;
}

int
relay_replay (struct relay *r, struct connection *c, char **why)
{
  struct replay p = {
    .relay = r,
    .connection = c,
    .view = { .destination = c->destination },
  };
  int result;

  batch_init (&p.batch, 0);
  result = replay (&p);
  batch_destroy (&p.batch);
  if (r->restoring && p.failed)
    relay_rest_refused (r, why);
  if (r->restoring && result == 0 && relay_rest_done (r, why) == -1)
    result = REMOTE_LOST;
  owed_error_settle (r->options.owed);
  if (result == 0 && p.failed)
    relay_notice (r, "it refused writes that had been acknowledged before it "
                     "was lost, or their flush; the guests' next flush fails");
  return result;
}
