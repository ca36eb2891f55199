/* SPDX-License-Identifier: BSD-3-Clause */
/* One flush of the destination.
 *
 * It goes to every connection that has had a write answered since its last
 * flush: that a connection answers a flush is the only proof that its server
 * has lived since (R6).  With none, one connection is asked all the same.
 *
 * Of flushes that are under way together a server may tell one alone that it
 * could not write something, and has dropped it: so an fsync (2) of Linux does.
 * The success of another one says nothing then.  So each waits, when it has
 * succeeded, for those that had begun by then, and has failed if one of them
 * has (R13).
 */

#include <errno.h>

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

/* ---- Those that are under way together ---------------------------------- */

struct flush {
  struct flush *next;
  uint64_t number; /* in the order in which they began */
  bool answered;   /* it waits for others */
  bool spoilt;     /* another one has failed meanwhile */
};

/* L. */
static void
begin (struct relay *r, struct flush *f)
{
  *f = (struct flush){ .next = r->flushes, .number = ++r->flushes_begun };
  r->flushes = f;
}

/* L. */
static void
end (struct relay *r, struct flush *f)
{
  struct flush **p = &r->flushes;

  while (*p != f)
    p = &(*p)->next;
  *p = f->next;
  pthread_cond_broadcast (&r->remote.changed);
}

/* L. */
static void
spoil_others (struct relay *r, const struct flush *f)
{
  for (struct flush *other = r->flushes; other != NULL; other = other->next)
    if (other != f)
      other->spoilt = true;
}

/* L. */
static bool
has_others (const struct relay *r, uint64_t last)
{
#ifdef PLANT_BUG_relay_flush_beside
  return false;
#endif
  for (const struct flush *f = r->flushes; f != NULL; f = f->next)
    if (!f->answered && f->number <= last)
      return true;
  return false;
}

/* L; released meanwhile. */
static void
wait_for_others (struct relay *r, struct flush *f)
{
  const uint64_t last = r->flushes_begun;

  f->answered = true;
  pthread_cond_broadcast (&r->remote.changed);
  while (has_others (r, last))
    remote_wait_changed (&r->remote);
}

/* ---- One ---------------------------------------------------------------- */

int
relay_flush_once (struct relay *r, uint64_t generation, uint64_t *seen)
{
  struct flush f;
  struct batch b;
  uint64_t mark;
  int result;

  batch_init (&b, generation);
  pthread_mutex_lock (&r->remote.lock);
  begin (r, &f);
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
  if (result == 0)
    wait_for_others (r, &f);
  if (result != REMOTE_LOST && r->remote.generation != generation)
    result = REMOTE_LOST; /* it proves nothing any more */
  if (result > 0) {
    r->failed_flushes++;
    owed_error_raise (r->options.owed, seen);
    witness_flush_failed (&r->witnesses);
    spoil_others (r, &f);
  }
  else if (result == 0 && f.spoilt)
    result = EIO; /* which is owed already */
  else if (result == 0 && witness_flush_end (&r->witnesses, mark))
    relay_want_witnesses (r);
#ifdef PLANT_BUG_relay_flush_covers_later
  mark = relay_log_flush_begin (r->log);
#endif
  if (result >= 0) {
    /* After an error too: a server may have dropped what it could not write,
     * and the guests hear of it.
     */
    relay_log_flush_end (r->log, mark);
    pthread_cond_broadcast (&r->remote.changed);
  }
  end (r, &f);
  pthread_mutex_unlock (&r->remote.lock);
  owed_error_settle (r->options.owed);
  return result;
}
