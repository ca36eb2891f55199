/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that fail for the guest after a time that the operator has set.
 *
 * The request itself cannot be ended: only its answer tells what became of it
 * (R17).  So it is run by a thread of the relay's own, on data of its own, and
 * the guest's thread waits for that as long as it may.  What was not sent yet
 * ends soon after; what was sent keeps its connection and its range.
 *
 * Without a limit, which is the default, none of this is used.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "internal.h"

struct job {
  struct request request; /* 'buf', 'extents' and 'seen' are the job's own */
  struct relay_waiter waiter;
  run_fn *run;
  try_fn *try;
  struct extent_list extents;
  uint64_t seen;

  pthread_cond_t ended;
  bool done;      /* L */
  bool abandoned; /* L; atomic: nobody waits for it */
  int result;
  struct job *next; /* L */
};

struct worker {
  pthread_t thread;
  struct relay *relay;
  struct worker *next;
};

/* ---- Jobs -------------------------------------------------------------- */

static void
job_free (struct job *j)
{
  pthread_cond_destroy (&j->ended);
  free (j->extents.v);
  free (j->request.buf);
  free (j);
}

static bool
is_wanted (void *opaque)
{
  const struct job *j = opaque;

  return !__atomic_load_n (&j->abandoned, __ATOMIC_RELAXED);
}

static bool
is_write (const struct job *j)
{
  return j->try == try_write || j->try == try_zero || j->try == try_trim;
}

static struct job *
job_new (const struct request *q, run_fn *run, try_fn *try)
{
  struct job *j = calloc (1, sizeof *j);

  if (j == NULL)
    return NULL;
  j->request = *q;
  j->waiter = (struct relay_waiter){ is_wanted, j };
  j->request.waiter = &j->waiter;
  j->run = run;
  j->try = try;
  pthread_cond_init (&j->ended, NULL);
  if (q->extents != NULL)
    j->request.extents = &j->extents;
  if (q->seen != NULL) {
    j->seen = *q->seen;
    j->request.seen = &j->seen;
  }
  if (q->buf == NULL)
    return j;
  j->request.buf = malloc (q->length);
  if (j->request.buf == NULL) {
    job_free (j);
    return NULL;
  }
  if (try == try_write)
    memcpy (j->request.buf, q->buf, q->length);
  return j;
}

/* What it has brought goes to the guest's request. */
static void
give_back (struct job *j, struct request *q)
{
  if (j->try == try_read && j->result == 0)
    memcpy (q->buf, j->request.buf, q->length);
  if (q->seen != NULL)
    *q->seen = j->seen;
  if (q->extents != NULL) {
    *q->extents = j->extents;
    j->extents.v = NULL;
  }
}

/* ---- Workers ----------------------------------------------------------- */

static void *
work (void *opaque)
{
  struct relay *r = ((struct worker *)opaque)->relay;
  struct job *j;

  pthread_mutex_lock (&r->remote.lock);
  for (;;) {
    while (r->jobs == NULL && !r->remote.stopping)
      pthread_cond_wait (&r->job, &r->remote.lock);
    if (r->jobs == NULL)
      break;
    j = r->jobs;
    r->jobs = j->next;
    --r->idle_workers;
    pthread_mutex_unlock (&r->remote.lock);
    /* One that was given up before it began must not begin any more: its range
     * was not locked, and was seen since.
     */
    j->result = is_wanted (j) ? j->run (&j->request, j->try) : ESHUTDOWN;
    pthread_mutex_lock (&r->remote.lock);
    ++r->idle_workers;
    j->done = true;
    if (j->abandoned) {
      r->abandoned -= is_write (j);
      job_free (j);
    }
    else
      pthread_cond_signal (&j->ended);
  }
  pthread_mutex_unlock (&r->remote.lock);
  return NULL;
}

/* L. */
static int
start_worker (struct relay *r)
{
  struct worker *w = malloc (sizeof *w);
  sigset_t all, old;
  int e;

  if (w == NULL)
    return -1;
  w->relay = r;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  e = pthread_create (&w->thread, NULL, work, w);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (e != 0) {
    free (w);
    return -1;
  }
  w->next = r->workers;
  r->workers = w;
  ++r->idle_workers;
  return 0;
}

void
limit_join (struct relay *r)
{
  while (r->workers != NULL) {
    struct worker *w = r->workers;

    r->workers = w->next;
    pthread_join (w->thread, NULL);
    free (w);
  }
}

/* ---- The guest's thread ------------------------------------------------ */

/* L.  False: no thread can be had. */
static bool
hand_over (struct relay *r, struct job *j)
{
  unsigned waiting = 1;

  for (const struct job *o = r->jobs; o != NULL; o = o->next)
    ++waiting;
  if (r->idle_workers < waiting && start_worker (r) == -1 && r->workers == NULL)
    return false;
  j->next = r->jobs;
  r->jobs = j;
  pthread_cond_signal (&r->job);
  return true;
}

/* L; released meanwhile.  0: it is done. */
static int
wait_for (struct job *j, struct request *q)
{
  struct relay *r = q->relay;
  const int64_t until = clock_ms () + r->options.request_limit_ms;

  while (!j->done) {
    const int64_t now = clock_ms ();
    const int64_t wake =
      now + REMOTE_SLICE_MS < until ? now + REMOTE_SLICE_MS : until;
    const struct timespec ts = { wake / 1000, wake % 1000 * 1000000 };

    if (now >= until)
      return EIO;
    if (pthread_cond_clockwait (&j->ended, &r->remote.lock, CLOCK_MONOTONIC,
                                &ts) == 0 ||
        q->waiter == NULL)
      continue;
    pthread_mutex_unlock (&r->remote.lock);
    const bool alive = q->waiter->alive (q->waiter->opaque);
    pthread_mutex_lock (&r->remote.lock);
    if (!alive && !j->done)
      return ESHUTDOWN;
  }
  return 0;
}

int
limit_run (struct request *q, run_fn *run, try_fn *try)
{
  struct relay *r = q->relay;
  struct job *j = job_new (q, run, try);
  int result;

  if (j == NULL)
    return ENOMEM;
  pthread_mutex_lock (&r->remote.lock);
  if (r->remote.stopping || !hand_over (r, j)) {
    result = r->remote.stopping ? ESHUTDOWN : EAGAIN;
    pthread_mutex_unlock (&r->remote.lock);
    job_free (j);
    return result;
  }
  result = wait_for (j, q);
  if (result != 0) {
    __atomic_store_n (&j->abandoned, true, __ATOMIC_RELAXED);
    r->abandoned += is_write (j);
    pthread_mutex_unlock (&r->remote.lock);
    return result;
  }
  pthread_mutex_unlock (&r->remote.lock);
  give_back (j, q);
  result = j->result;
  job_free (j);
  return result;
}
