/* SPDX-License-Identifier: BSD-3-Clause */
/* One flush of the destination.
 *
 * It goes to every connection that has had a write answered since its last
 * flush: that a connection answers a flush is the only proof that its server
 * has lived since (R6).  With none, one connection is asked all the same.
 */

#include "base/clock.h"
#include "internal.h"

/* L. */
static void
add_flushes (struct relay *r, struct batch *b)
{
  for (unsigned i = 0; i < r->remote.nr_connections; ++i) {
    struct connection *c = r->remote.connections[i];

    if (!c->lost && c->flushed < c->acknowledged)
      batch_add (b, COMMAND_FLUSH, 0, c->acknowledged, 0, NULL)->connection = c;
  }
  if (b->n == 0)
    batch_add (b, COMMAND_FLUSH, 0, 0, 0, NULL);
}

int
relay_flush_once (struct relay *r, uint64_t generation, uint64_t *seen)
{
  struct batch b;
  uint64_t mark;
  int result;

  batch_init (&b, generation);
  pthread_mutex_lock (&r->remote.lock);
  add_flushes (r, &b);
  mark = relay_log_flush_begin (r->log);
  witness_flush_begin (&r->witnesses, mark,
                       range_lock_has_suspects (&r->ranges, clock_ms ()));
  batch_link (&r->remote, &b, NULL);
  pthread_mutex_unlock (&r->remote.lock);
  batch_issue (&b);
  result = batch_wait (&r->remote, &b);
  batch_destroy (&b);

  pthread_mutex_lock (&r->remote.lock);
  if (result != REMOTE_LOST && r->remote.generation != generation)
    result = REMOTE_LOST; /* it proves nothing any more */
  if (result > 0) {
    owed_error_raise (r->options.owed, seen);
    witness_flush_failed (&r->witnesses);
  }
  else if (result == 0 && witness_flush_end (&r->witnesses, mark))
    relay_want_witnesses (r);
#ifdef PLANT_BUG_relay_flush_covers_later
  mark = relay_log_flush_begin (r->log);
#endif
  if (result != REMOTE_LOST) {
    /* After an error too: a server may have dropped what it could not write,
     * and the guests hear of it.
     */
    relay_log_flush_end (r->log, mark);
    pthread_cond_broadcast (&r->remote.changed);
  }
  pthread_mutex_unlock (&r->remote.lock);
  owed_error_settle (r->options.owed);
  return result;
}
