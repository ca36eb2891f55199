/* SPDX-License-Identifier: BSD-3-Clause */
/* Answers are received: by one thread at a time for a connection.
 *
 * A thread that waits for the answer to its command receives it itself, and
 * whatever else comes until then, for the others, who sleep; after that it has
 * the one that has waited longest go on.  So nobody is woken for an answer only
 * to wake somebody else.  All that is there is received before anybody is
 * woken.
 *
 * Where nobody waits in this way (a ping, a batch of several commands), and at
 * the end, the connection's I/O thread receives.  Otherwise that only looks
 * whether the connection has ended.
 *
 * 'receiving' is set as long as there is a receiver.  Whoever finds it unset
 * may set it and is the receiver then; only the receiver gives it away or
 * unsets it.  A thread says that it waits before it looks at 'receiving', and a
 * receiver that leaves unsets that before it looks who waits: so one of them
 * sees the other.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cleanup.h"
#include "nbd-error.h"
#include "remote.h"

#define GATHER_MAX 16 /* answers: nobody is kept waiting for more */

/* ---- Receiving --------------------------------------------------------- */

/* Call libnbd for what poll(2) saw.  Another thread may have changed the state
 * meanwhile: an event that does not fit any more is an error of the call, not
 * of the connection.
 */
static int
notify (struct connection *c, short events)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);
  const bool broken = events & (POLLHUP | POLLERR | POLLNVAL);

  if ((direction & LIBNBD_AIO_DIRECTION_READ) && (events & POLLIN || broken))
    return nbd_aio_notify_read (c->nbd);
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (events & POLLOUT || broken))
    return nbd_aio_notify_write (c->nbd);
  return 0;
}

/* False: that took longer than the time. */
static bool
wait_for_event (struct connection *c, int timeout_ms, short *events)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);
  struct pollfd fds[2] = {
    { .fd = c->fd },
    { .fd = c->kick, .events = POLLIN },
  };
  uint64_t kicks;
  int n;

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    fds[0].events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    fds[0].events |= POLLOUT;
  n = poll (fds, 2, timeout_ms);
  if (n == -1)
    fds[0].revents = fds[1].revents = 0;
  if (fds[1].revents && read (c->kick, &kicks, sizeof kicks) == -1)
    kicks = 0;
  *events = fds[0].revents;
  return n != 0;
}

bool
connection_is_over (const struct connection *c)
{
  return nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd);
}

static void
keep_reason (struct connection *c)
{
  free (c->why);
  c->why = strdup (nbd_error_text (nbd_get_error ()));
}

/* The receiver that this thread is. */
static _Thread_local struct receipt *receipt;

void
receive_begin (struct connection *c, struct batch *own, struct receipt *t)
{
  *t = (struct receipt){ .answered.own = own };
  batch_gather (&t->answered);
  receipt = t;
  t->more = connection_send (c);
}

bool
receive_some (struct connection *c, struct receipt *t, int timeout_ms)
{
  const struct gathered *g = &t->answered;
  const bool only_look = t->more || g->n > 0 || g->own_answered;
  short events;
  const bool any = wait_for_event (c, only_look ? 0 : timeout_ms, &events);

  if (!(events & POLLIN) || g->n >= GATHER_MAX) {
    if (g->own_answered) {
      t->complete = true;
      return true;
    }
    batch_wake_gathered (c->remote, &t->answered, 0);
  }
  t->more = connection_send (c);
  if (events & POLLIN)
    __atomic_store_n (&c->heard_ms, clock_ms (), __ATOMIC_RELAXED);
  if (notify (c, events) == -1 && !t->left)
    keep_reason (c);
  return any || only_look;
}

/* ---- Who receives ------------------------------------------------------ */

static bool
try_to_receive (struct connection *c)
{
  bool nobody = false;

  return __atomic_compare_exchange_n (&c->receiving, &nobody, true, false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

bool
receive_needs_io_thread (const struct connection *c)
{
  return __atomic_load_n (&c->others, __ATOMIC_RELAXED) > 0 ||
         __atomic_load_n (&c->io_wanted, __ATOMIC_RELAXED);
}

/* L. */
static void
give_to_io_thread (struct connection *c)
{
  __atomic_store_n (&c->io_receives, true, __ATOMIC_RELEASE);
  connection_call_io_thread (c);
}

/* Of those that wait, the one whose command was sent first.  L. */
static struct batch *
longest_waiting (const struct connection *c)
{
  for (struct command *cmd = c->last; cmd != NULL; cmd = cmd->prev) {
    struct batch *b = cmd->batch;

    if (b->receiver == c && __atomic_load_n (&b->waits, __ATOMIC_SEQ_CST))
      return b;
  }
  return NULL;
}

/* It exists as long as its command is not done, so for as long as the lock is
 * held; its bit of the bell can be rung later.  L.
 */
static uint32_t
give_to (struct batch *b)
{
  __atomic_store_n (&b->receives, true, __ATOMIC_RELEASE);
  return b->bit;
}

/* Returns the bits of the bell that are to be rung.  L. */
static uint32_t
pass_on (struct connection *c)
{
  struct batch *b;

  do {
    if (receive_needs_io_thread (c)) {
      give_to_io_thread (c);
      return 0;
    }
    b = longest_waiting (c);
    if (b != NULL)
      return give_to (b);
    __atomic_store_n (&c->receiving, false, __ATOMIC_SEQ_CST);
  } while (longest_waiting (c) != NULL && try_to_receive (c));
  return 0;
}

/* Where nothing else is under way nothing has to be passed on, and that is
 * known with the lock that is held for the answer.
 */
void
receive_answered (struct connection *c, const struct batch *b)
{
  if (receipt == NULL || receipt->answered.own != b || c->in_flight > 0 ||
      receive_needs_io_thread (c))
    return;
  receipt->left = true;
  __atomic_store_n (&c->receiving, false, __ATOMIC_SEQ_CST);
}

void
receive_end (struct connection *c, struct receipt *t)
{
  struct remote *m = c->remote;
  uint32_t bits = 0;

  batch_gather (NULL);
  receipt = NULL;
  if (!t->left) {
    pthread_mutex_lock (&m->lock);
    if (connection_is_over (c)) /* it completes what libnbd has missed */
      __atomic_store_n (&c->io_wanted, true, __ATOMIC_RELAXED);
    bits = pass_on (c);
    pthread_mutex_unlock (&m->lock);
  }
  batch_wake_gathered (m, &t->answered, bits);
}

void
receive_to_the_end (struct connection *c)
{
  __atomic_store_n (&c->io_wanted, true, __ATOMIC_RELAXED);
  receive_by_io_thread (c);
}

void
receive_by_io_thread (struct connection *c)
{
  if (try_to_receive (c))
    give_to_io_thread (c);
}

/* ---- Waiting for one's own --------------------------------------------- */

static bool
is_woken (const struct batch *b)
{
  return __atomic_load_n (&b->woken, __ATOMIC_ACQUIRE);
}

static void
check (struct connection *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->remote->lock);

  connection_check (c, clock_ms ());
}

/* The receiver's: until its own answer has come.  Then another one is. */
static void
receive_own (struct connection *c, struct batch *b, bool checks)
{
  const int timeout_ms = checks ? REMOTE_SLICE_MS : -1;
  struct receipt t;

  receive_begin (c, b, &t);
  while (!t.complete && !t.left && !is_woken (b) && !connection_is_over (c)) {
    if (!receive_some (c, &t, timeout_ms) && checks)
      check (c);
  }
  receive_end (c, &t);
}

/* It may be made the receiver more than once: where one that leaves finds
 * nobody else, before this one knows that its own answer has come.
 */
void
receive_until_woken (struct batch *b, bool checks)
{
  struct connection *c = b->receiver;

  __atomic_store_n (&b->waits, true, __ATOMIC_SEQ_CST);
  if (!is_woken (b) && try_to_receive (c))
    receive_own (c, b, checks);
  for (;;) {
    batch_sleep (b, checks);
    if (!__atomic_exchange_n (&b->receives, false, __ATOMIC_ACQ_REL))
      break;
    receive_own (c, b, checks);
  }
}
