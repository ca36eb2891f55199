/* SPDX-License-Identifier: BSD-3-Clause */
/* The error that is owed to the guests of a disk: what was acknowledged, and
 * not flushed, may have been lost (R13).
 *
 * It is told by the next flush, once to each guest connection, as fsync (2)
 * does for open files.  If nobody has heard of it yet when another connection
 * begins, that one is told, too: a guest that connects again, or the guest
 * after it, cannot miss what it would have been told.  An error that is
 * answered to a connection whose guest has gone is heard by nobody.
 *
 * It belongs to the disk and outlives the relays that raise it, and the process
 * if it is kept: 'keep' is called whenever it changes whether one is owed that
 * nobody has heard of.  Such a call may block, so it takes place in
 * owed_error_settle only, some time after the change.  A process that is killed
 * in between has lost its log of unflushed writes as well, as a disk does that
 * loses power.
 *
 * All functions may be called by several threads at once, with other locks held
 * but for owed_error_settle.
 */

#ifndef NBDMIGRATE_OWED_ERROR_H
#define NBDMIGRATE_OWED_ERROR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct owed_error {
  pthread_mutex_t lock; /* for the numbers; held for short times only */
  uint64_t raised;      /* how many errors there were */
  uint64_t heard;       /* the last of them that somebody has heard of */
  bool unsettled;       /* atomic */

  pthread_mutex_t keep_lock; /* one call at a time */
  bool kept;                 /* what 'keep' has done last */
  int (*keep) (void *opaque, bool owed);
  void *opaque;
};

/* 'owed': one was kept by an earlier process.  'keep' returns -1 if it fails
 * (it says why itself), and is then called again next time; NULL: nothing is
 * kept.
 */
extern void owed_error_init (struct owed_error *o, bool owed,
                             int (*keep) (void *opaque, bool owed),
                             void *opaque);
extern void owed_error_destroy (struct owed_error *o);

/* Raise one.  If '*seen' (may be NULL) is up to date its connection is told by
 * other means, and it stays up to date; whether it hears that is to be said.
 */
extern void owed_error_raise (struct owed_error *o, uint64_t *seen);

/* What a guest connection that begins now has seen. */
extern uint64_t owed_error_seen (struct owed_error *o);

/* Whether the connection has to be told, by an error of its flush; it is not
 * told once more then.
 */
extern bool owed_error_tell (struct owed_error *o, uint64_t *seen);

/* A connection has heard of all that it has seen: its guest was there when the
 * error was answered.
 */
extern void owed_error_heard (struct owed_error *o, uint64_t seen);

/* How many errors were raised. */
extern uint64_t owed_error_count (struct owed_error *o);

/* Keep what has changed; returns at once if nothing has. */
extern void owed_error_settle (struct owed_error *o);

#endif /* NBDMIGRATE_OWED_ERROR_H */
