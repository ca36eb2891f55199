/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"

#define POLL_FAILED_MS 10

void
loop_init (struct loop *l)
{
  *l = (struct loop){ .last = &l->first,
                      .wake_us = INT64_MAX,
                      .bell.fd = -1,
                      .last_posted = &l->posted };
  pthread_mutex_init (&l->lock, NULL);
}

void
loop_destroy (struct loop *l)
{
  if (l->bell.fd != -1)
    close (l->bell.fd);
  pthread_mutex_destroy (&l->lock);
  free (l->watches);
  free (l->pollfds);
}

static int
grow (struct loop *l)
{
  const size_t n = l->allocated ? l->allocated * 2 : 64;
  struct watch **watches;
  struct pollfd *pollfds;

  watches = reallocarray (l->watches, n, sizeof *watches);
  if (watches == NULL)
    return -1;
  l->watches = watches;
  pollfds = reallocarray (l->pollfds, n, sizeof *pollfds);
  if (pollfds == NULL)
    return -1;
  l->pollfds = pollfds;
  l->allocated = n;
  return 0;
}

int
loop_add (struct loop *l, struct watch *w)
{
  if (l->nr_watches == l->allocated && grow (l) == -1)
    return -1;
  l->watches[l->nr_watches++] = w;
  return 0;
}

/* The slot is emptied only: a watch may go while loop_run_once walks over
 * them.
 */
void
loop_remove (struct loop *l, struct watch *w)
{
  size_t i;

  for (i = 0; i < l->nr_watches; ++i)
    if (l->watches[i] == w)
      l->watches[i] = NULL;
}

void
loop_defer (struct loop *l, struct deferred *d)
{
  d->next = NULL;
  *l->last = d;
  l->last = &d->next;
}

static void
take_out (struct deferred **first, struct deferred ***last, struct deferred *d)
{
  struct deferred **p = first;

  while (*p != NULL && *p != d)
    p = &(*p)->next;
  if (*p == NULL)
    return;
  *p = d->next;
  if (*p == NULL)
    *last = p;
}

void
loop_undefer (struct loop *l, struct deferred *d)
{
  take_out (&l->first, &l->last, d);
  pthread_mutex_lock (&l->lock);
  take_out (&l->posted, &l->last_posted, d);
  pthread_mutex_unlock (&l->lock);
}

/* ---- other threads ------------------------------------------------------ */

static void
answer_bell (struct watch *w, short revents)
{
  uint64_t n;

  (void)revents;
  while (read (w->fd, &n, sizeof n) == -1 && errno == EINTR)
    ;
}

int
loop_listen (struct loop *l)
{
  if (l->bell.fd != -1)
    return 0;
  l->bell = (struct watch){ .events = POLLIN, .ready = answer_bell };
  l->bell.fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (l->bell.fd == -1)
    return -1;
  if (loop_add (l, &l->bell) == 0)
    return 0;
  close (l->bell.fd);
  l->bell.fd = -1;
  return -1;
}

static void
ring (const struct loop *l)
{
  static const uint64_t one = 1;

  /* It cannot be full: one who is asleep is woken once. */
  while (write (l->bell.fd, &one, sizeof one) == -1 && errno == EINTR)
    ;
}

void
loop_post (struct loop *l, struct deferred *d)
{
  bool asleep;

  d->next = NULL;
  pthread_mutex_lock (&l->lock);
  *l->last_posted = d;
  l->last_posted = &d->next;
  asleep = l->asleep;
  l->asleep = false;
  pthread_mutex_unlock (&l->lock);
  if (asleep)
    ring (l);
}

/* Take what was posted.  With 'sleep', whoever posts later is to ring. */
static void
take_posted (struct loop *l, bool sleep)
{
  if (l->bell.fd == -1)
    return;
  pthread_mutex_lock (&l->lock);
  if (l->posted != NULL) {
    *l->last = l->posted;
    l->last = l->last_posted;
    l->posted = NULL;
    l->last_posted = &l->posted;
  }
  l->asleep = sleep && l->first == NULL;
  pthread_mutex_unlock (&l->lock);
}

static void
run_deferred (struct loop *l)
{
  struct deferred *d;

  while ((d = l->first) != NULL) {
    l->first = d->next;
    if (l->first == NULL)
      l->last = &l->first;
    d->run (d);
  }
}

static void
squeeze (struct loop *l)
{
  size_t i, n = 0;

  for (i = 0; i < l->nr_watches; ++i)
    if (l->watches[i] != NULL)
      l->watches[n++] = l->watches[i];
  l->nr_watches = n;
}

/* Whoever waits for an answer calls again at once: not in a loop at full speed,
 * and what has ended already ends.
 */
static int
poll_failed (struct loop *l)
{
  const int saved = errno;

  run_deferred (l);
  poll (NULL, 0, POLL_FAILED_MS);
  errno = saved;
  return -1;
}

void
loop_wake_at (struct loop *l, int64_t us)
{
  if (us < l->wake_us)
    l->wake_us = us;
}

/* How long to wait, as something is to be done then at the latest. */
static int
wait_ms (struct loop *l, int timeout_ms)
{
  const int64_t wake_us = l->wake_us;
  int64_t left_ms;

  l->wake_us = INT64_MAX;
  if (l->first != NULL || wake_us == 0)
    return 0;
  if (wake_us == INT64_MAX)
    return timeout_ms;
  left_ms = (wake_us - loop_now_us () + 999) / 1000;
  if (left_ms <= 0)
    return 0;
  if (timeout_ms < 0) /* no limit */
    timeout_ms = INT_MAX;
  return left_ms < timeout_ms ? (int)left_ms : timeout_ms;
}

int
loop_run_once (struct loop *l, int timeout_ms)
{
  size_t i, n;
  int r;

  squeeze (l);
  n = l->nr_watches;
  for (i = 0; i < n; ++i) {
    struct watch *w = l->watches[i];

    if (w->prepare != NULL)
      w->prepare (w);
    l->pollfds[i] =
      (struct pollfd){ .fd = w->events ? w->fd : -1, .events = w->events };
  }
  take_posted (l, true);
  r = poll (l->pollfds, n, wait_ms (l, timeout_ms));
  take_posted (l, false);
  if (r == -1 && errno != EINTR)
    return poll_failed (l);
  if (r > 0)
    for (i = 0; i < n; ++i)
      if (l->pollfds[i].revents != 0 && l->watches[i] != NULL)
        l->watches[i]->ready (l->watches[i], l->pollfds[i].revents);
  run_deferred (l);
  return 0;
}

int64_t
loop_now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
