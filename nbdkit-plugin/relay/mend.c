/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes that failed for the guest while they may still land (R17).
 *
 * The guest was told of an error, so anything between the old and the new data
 * may be there; but nothing may change by itself after it has been seen.  So
 * the range stays locked, for reads too, until the destination has been back
 * for the grace period.  Then it is read back, and what the guest wanted to
 * write is written, through the log like any other write: from then on that is
 * what is there.
 *
 * (A write that was lost and then repeated with success needs no repair: a late
 * copy of it brings the same bytes.  Only writes to that range wait: see
 * range-lock.h.)
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

struct mend {
  struct request request; /* its node locks the range; 'buf' is a copy */
  try_fn *try;
  int64_t since_ms;
  struct mend *next;
};

struct mend *
mend_new (const struct request *q, try_fn *try)
{
  struct mend *m = malloc (sizeof *m);

  if (m == NULL)
    return NULL;
  *m = (struct mend){ .request = *q, .try = try };
  m->request.waiter = NULL;
  m->request.flags &= RELAY_NO_HOLE;
  m->request.buf = NULL;
  if (try != try_write)
    return m;
  m->request.buf = malloc (q->length);
  if (m->request.buf == NULL) {
    free (m);
    return NULL;
  }
  memcpy (m->request.buf, q->buf, q->length);
  return m;
}

static void
mend_free (struct mend *m)
{
  free (m->request.buf);
  free (m);
}

void
mend_take_over (struct mend *m, struct request *q)
{
  struct relay *r = q->relay;

  range_lock_replace (&q->node, &m->request.node);
  m->since_ms = clock_ms ();
  m->next = r->mends;
  r->mends = m;
  pthread_cond_signal (&r->mend);
}

/* ---- The repair -------------------------------------------------------- */

static bool
look (struct relay *r, struct view *v)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  v->generation = r->remote.generation;
  v->destination = r->remote.destination;
  return r->remote.up;
}

/* Whether the destination holds what the guest wanted there.  0, an errno, or
 * REMOTE_LOST.
 */
static int
read_back (const struct mend *m, const struct view *v, bool *equal)
{
  struct request q = m->request;
  CLEANUP_FREE void *data = malloc (q.length);
  int result;

  if (data == NULL)
    return ENOMEM;
  q.buf = data;
  result = try_read (&q, v);
  *equal = result == 0 && memcmp (data, m->request.buf, q.length) == 0;
  return result;
}

/* What is said of it. */
static const char *
outcome (const struct mend *m, int result, bool equal)
{
  return result > 0           ? "cannot be repeated: "
         : equal              ? "was found done"
         : m->try == try_trim ? "is not repeated, as it only discards"
                              : "was done again";
}

static int
repair (struct mend *m)
{
  struct relay *r = m->request.relay;
  bool equal = false; /* not where it was not looked at */
  struct view v;
  int result = 0;

  if (!look (r, &v))
    return REMOTE_LOST;
  if (m->try == try_write)
    result = read_back (m, &v, &equal);
  if (result < 0)
    return result;
  if (m->try != try_trim) /* what a trim leaves is for the server to choose */
    result = m->try (&m->request, &v);
  if (result >= 0)
    relay_notice (r,
                  "a request of %llu bytes at %llu failed while it could still "
                  "be done late: it %s%s",
                  (unsigned long long)m->request.length,
                  (unsigned long long)m->request.offset,
                  outcome (m, result, equal),
                  result == 0 ? "" : strerror (result));
  return result;
}

/* L. */
static int64_t
left_ms (const struct relay *r, const struct mend *m, int64_t now)
{
  const int64_t since = m->since_ms > r->up_ms ? m->since_ms : r->up_ms;

  return since + relay_grace_ms (r) - now;
}

/* L. */
static bool
is_due (const struct relay *r, const struct mend *m)
{
  return r->remote.up && left_ms (r, m, clock_ms ()) <= 0;
}

static struct mend **
find_due (struct relay *r)
{
  struct mend **p = &r->mends;

  while (*p != NULL && !is_due (r, *p))
    p = &(*p)->next;
  return p;
}

/* L; released meanwhile.  New ones come in at the front only. */
static void
mend_one (struct relay *r, struct mend *m)
{
  struct mend **p = &r->mends;
  int result;

  pthread_mutex_unlock (&r->remote.lock);
  result = repair (m);
  pthread_mutex_lock (&r->remote.lock);
  if (result < 0) {
    m->since_ms = clock_ms ();
    return;
  }
  while (*p != m)
    p = &(*p)->next;
  *p = m->next;
  range_lock_leave (&r->ranges, &m->request.node);
  pthread_cond_broadcast (&r->remote.changed);
  mend_free (m);
}

void *
relay_mender (void *opaque)
{
  struct relay *r = opaque;
  struct mend *m;

  pthread_mutex_lock (&r->remote.lock);
  while (!r->remote.stopping) {
    m = *find_due (r);
    if (m != NULL)
      mend_one (r, m);
    else if (r->mends != NULL)
      remote_wait_changed (&r->remote);
    else
      pthread_cond_wait (&r->mend, &r->remote.lock);
  }
  pthread_mutex_unlock (&r->remote.lock);
  return NULL;
}

void
mend_free_all (struct relay *r)
{
  while (r->mends != NULL) {
    struct mend *m = r->mends;

    r->mends = m->next;
    mend_free (m);
  }
}

/* ---- Looking ----------------------------------------------------------- */

struct listing {
  relay_unknown_cb *cb;
  void *opaque;
  int64_t now;
};

static void
list (void *opaque, uint64_t offset, uint64_t length, int64_t until)
{
  const struct listing *l = opaque;

  l->cb (l->opaque, offset, length, until == RANGE_NEVER ? -1 : until - l->now);
}

void
relay_unknown (struct relay *r, relay_unknown_cb *cb, void *opaque)
{
  struct listing l = { cb, opaque, clock_ms () };
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  range_lock_each_suspect (&r->ranges, l.now, list, &l);
  for (const struct mend *m = r->mends; m != NULL; m = m->next) {
    const int64_t left = left_ms (r, m, l.now);

    cb (opaque, m->request.offset, m->request.length,
        !r->remote.up ? -1
        : left > 0    ? left
                      : 0);
  }
}

/* While it is up there is an end to each. */
static void
find_longest (void *opaque, uint64_t offset, uint64_t length, int64_t until)
{
  int64_t *longest = opaque;

  (void)offset;
  (void)length;
  if (until > *longest)
    *longest = until;
}

uint64_t
relay_late_ms (struct relay *r)
{
  const int64_t now = clock_ms ();
  int64_t until = now;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  if (r->mends == NULL && r->abandoned == 0 &&
      !range_lock_has_suspects (&r->ranges, now) &&
      (r->remote.up || (relay_log_empty (r->log) && !r->restoring)))
    return 0;
  if (!r->remote.up || r->abandoned > 0)
    return (uint64_t)relay_grace_ms (r);
  range_lock_each_suspect (&r->ranges, now, find_longest, &until);
  for (const struct mend *m = r->mends; m != NULL; m = m->next)
    if (now + left_ms (r, m, now) > until)
      until = now + left_ms (r, m, now);
  return until > now ? (uint64_t)(until - now) : 1; /* a repair is under way */
}
