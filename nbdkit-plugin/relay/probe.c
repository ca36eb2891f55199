/* SPDX-License-Identifier: BSD-3-Clause */
/* A round trip over every connection in use: is the destination there now
 * (R11)?
 *
 * That a connection is open says nothing: a server that is stopped, or behind a
 * network that is away, keeps it open for as long as nothing is sent.  A read
 * of one block is asked for, and any answer will do, an error too.
 *
 * A server that does not answer is no reason to give the connection up, so an
 * unanswered probe stays where it is when its caller returns, and the next
 * caller waits for the same one: with a new one for each, a server that takes
 * longer than a caller waits would never have answered.  It holds the buffers;
 * libnbd tells by the completion's 'free' when it needs them no more, whatever
 * became of the handle.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

#define PROBE_BYTES 512 /* or a block, if that is larger */

struct trip {
  struct probe *probe;
  struct connection *connection; /* valid while it is being sent */
  uint32_t length;
  bool answered; /* L */
  void *data;
};

struct probe {
  struct remote *remote;
  int64_t since_ms;
  unsigned pending; /* L: trips that libnbd may still write to */
  unsigned lost;    /* L: that had no answer when they ended */
  unsigned n;
  struct trip trips[REMOTE_CONNECTIONS_MAX];
};

void
relay_probe_free (struct probe *p)
{
  if (p == NULL)
    return;
  for (unsigned i = 0; i < p->n; ++i)
    free (p->trips[i].data);
  free (p);
}

/* ---- Answers ----------------------------------------------------------- */

static int
completed (void *opaque, int *error)
{
  struct trip *t = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->probe->remote->lock);

  t->answered = *error != ENOTCONN && *error != ESHUTDOWN;
  return 1;
}

/* The last that libnbd does with a command. */
static void
retired (void *opaque)
{
  struct trip *t = opaque;
  struct probe *p = t->probe;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->remote->lock);

  if (!t->answered)
    ++p->lost;
  if (--p->pending == 0)
    pthread_cond_broadcast (&p->remote->changed);
}

/* ---- Sending ----------------------------------------------------------- */

/* A trip over each connection in use, all counted as pending.  L. */
static int
plan (const struct remote *m, struct probe *p)
{
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    struct connection *c = m->connections[i];
    const struct destination *d = &c->destination;
    const uint32_t length = d->minimum > PROBE_BYTES ? d->minimum : PROBE_BYTES;
    struct trip *t = &p->trips[p->n];

    if (c->lost || d->bytes < length)
      continue;
    *t = (struct trip){
      .probe = p,
      .connection = c,
      .length = length,
      .data = malloc (length),
    };
    if (t->data == NULL)
      return -1;
    ++p->n;
  }
  for (unsigned i = 0; i < p->n; ++i)
    /* so none of them is freed */
    __atomic_fetch_add (&p->trips[i].connection->users, 1, __ATOMIC_RELAXED);
  p->pending = p->n;
  return 0;
}

static void
send_trip (struct trip *t)
{
  const nbd_completion_callback done = {
    .callback = completed,
    .user_data = t,
    .free = retired,
  };
  struct connection *c = t->connection;
  struct remote *m = c->remote;

  if (nbd_aio_pread (c->nbd, t->data, t->length, 0, done, 0) != -1 &&
      nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE)
    connection_kick (c);
  pthread_mutex_lock (&m->lock);
  if (c->lost)
    pthread_cond_broadcast (&m->changed);
  connection_leave (c);
  pthread_mutex_unlock (&m->lock);
}

/* L; released meanwhile.  Nobody else probes. */
static int
begin (struct relay *r)
{
  struct probe *p = calloc (1, sizeof *p);

  if (p == NULL)
    return -1;
  p->remote = &r->remote;
  p->since_ms = clock_ms ();
  if (plan (&r->remote, p) == -1) {
    relay_probe_free (p);
    return -1;
  }
  relay_probe_free (r->probe);
  r->probe = p;
  pthread_mutex_unlock (&r->remote.lock);
  for (unsigned i = 0; i < p->n; ++i)
    send_trip (&p->trips[i]);
  pthread_mutex_lock (&r->remote.lock);
  return 0;
}

/* ---- Asking ------------------------------------------------------------ */

static bool
is_pending (const struct relay *r)
{
  return r->probe != NULL && r->probe->pending > 0;
}

/* L. */
static enum relay_probe
judge (const struct relay *r, int64_t *silent_ms)
{
  *silent_ms = is_pending (r) ? clock_ms () - r->probe->since_ms : 0;
  if (!r->remote.up || r->probe == NULL)
    return RELAY_AWAY;
  if (is_pending (r))
    return RELAY_SILENT;
  return r->probe->lost == 0 ? RELAY_ANSWERS : RELAY_AWAY;
}

/* Not for longer than that.  L. */
static void
wait_for_answer (struct relay *r, struct request *q, int64_t until_ms)
{
  while (is_pending (r) && clock_ms () < until_ms && request_wait (q) == 0)
    ;
}

enum relay_probe
relay_probe (struct relay *r, unsigned timeout_ms,
             const struct relay_waiter *waiter, bool *begun, int64_t *silent_ms)
{
  const int64_t until = clock_ms () + timeout_ms;
  struct request q = { .relay = r, .waiter = waiter };
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  *begun = false;
  if (r->probing) /* for another caller: it is pending */
    return judge (r, silent_ms);
  r->probing = true;
  if (!is_pending (r) && !r->remote.stopping)
    *begun = begin (r) == 0;
  wait_for_answer (r, &q, until);
  r->probing = false;
  return judge (r, silent_ms);
}
