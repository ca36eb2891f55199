/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: poll(2) over everything a thread waits for.
 *
 * Each loop is one thread's; nothing here or in what it calls is locked, but
 * for loop_post, by which other threads have it do something.  A watch is
 * embedded in its owner, added once and removed before the owner goes.
 * Completions are queued by libnbd's callbacks, which may not do more than
 * that, and are carried out by loop_run_once.
 */

#ifndef NBDMIGRATE_LOOP_H
#define NBDMIGRATE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pollfd;

struct watch {
  int fd;       /* below 0: not polled */
  short events; /* as for poll(2) */
  /* Called before each poll to bring fd and events up to date; may be NULL. */
  void (*prepare) (struct watch *w);
  void (*ready) (struct watch *w, short revents);
};

/* Work that a callback left for later. */
struct deferred {
  void (*run) (struct deferred *d);
  struct deferred *next;
};

struct loop {
  struct watch **watches;
  struct pollfd *pollfds;
  size_t nr_watches;
  size_t allocated;
  struct deferred *first, **last;
  int64_t wake_us; /* see loop_wake_at */

  /* What other threads have posted.  'lock' guards the other two. */
  struct watch bell; /* an eventfd; -1: loop_listen was not called */
  pthread_mutex_t lock;
  struct deferred *posted, **last_posted;
  bool asleep; /* it has to be woken */
};

extern void loop_init (struct loop *l);
extern void loop_destroy (struct loop *l);

/* -1 with errno ENOMEM. */
extern int loop_add (struct loop *l, struct watch *w)
  __attribute__ ((warn_unused_result));
extern void loop_remove (struct loop *l, struct watch *w);

extern void loop_defer (struct loop *l, struct deferred *d);

/* Not any more: it is about to be freed. */
extern void loop_undefer (struct loop *l, struct deferred *d);

/* There is something to do at this time (of loop_now_us; 0: now) although
 * nothing may become ready: the next wait is over then.  The earliest one
 * counts, for that wait only.
 */
extern void loop_wake_at (struct loop *l, int64_t us);

/* From now on other threads may post.  -1 with errno; more than once is fine.
 */
extern int loop_listen (struct loop *l) __attribute__ ((warn_unused_result));

/* The same as loop_defer, by any thread.  In the order in which it is called;
 * what the caller has written before is seen by d->run.
 */
extern void loop_post (struct loop *l, struct deferred *d);

/* Wait for at most timeout_ms (-1: without a limit; not at all if work was
 * deferred) and serve what is ready.  -1 with errno set if poll failed.
 */
extern int loop_run_once (struct loop *l, int timeout_ms);

/* Monotonic microseconds. */
extern int64_t loop_now_us (void);

#endif /* NBDMIGRATE_LOOP_H */
