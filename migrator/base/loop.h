/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: poll(2) over everything the migrator waits for.
 *
 * One thread; nothing here or in what it calls is locked.  A watch is embedded
 * in its owner, added once and removed before the owner goes.  Completions are
 * queued by libnbd's callbacks, which may not do more than that, and are
 * carried out by loop_run_once.
 */

#ifndef NBDMIGRATE_LOOP_H
#define NBDMIGRATE_LOOP_H

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

/* Wait for at most timeout_ms (not at all if work was deferred) and serve what
 * is ready.  -1 with errno set if poll failed.
 */
extern int loop_run_once (struct loop *l, int timeout_ms);

/* Monotonic microseconds. */
extern int64_t loop_now_us (void);

#endif /* NBDMIGRATE_LOOP_H */
