/* SPDX-License-Identifier: BSD-3-Clause */
/* What of a disk reads as zeroes, for a session that asks over the control
 * socket.
 *
 * Not by NBD block status: nbdkit before 1.34 aborts, and takes the guest's
 * disk with it, when a client is killed while the parts of such a reply are
 * being sent.
 *
 * The plugin may take its time to answer.  So a thread of the export asks it,
 * in a context of its own, or in the one that all connections share; nobody
 * waits for that thread with a lock held.  It is started by the first question
 * and lives as long as the export; its context is closed after each session.
 *
 * What is said here is true of what was flushed.  Before the first answer of a
 * session the thread flushes the plugin: a cache below may answer for what lies
 * under it.  For what the guest wrote since, tracker_untouched is asked as
 * well.
 */

#ifndef NBDMIGRATE_ALLOCATION_H
#define NBDMIGRATE_ALLOCATION_H

#include <stdint.h>

#include "extents.h"

struct allocation;
struct export;

/* The same number means the same question, asked again because the answer was
 * pending.  What is asked with another number is asked of the plugin anew: it
 * must be so after a new lease (R1).
 */
struct allocation_question {
  uint64_t number;
  uint64_t offset, length; /* bytes */
};

/* What an answer says of [offset, end): these ranges, ascending, read as
 * zeroes, the rest may not.  The end can be before that of the question (there
 * is more to say) and behind it (all that is behind it is data).
 */
struct allocation_answer {
  struct extents zero;
  uint64_t end; /* bytes */
};

enum allocation_result {
  ALLOCATION_KNOWN,
  ALLOCATION_PENDING, /* ask again: the plugin has not answered yet */
  ALLOCATION_UNKNOWN, /* nothing can be said in this session; *why */
  ALLOCATION_NO_MEMORY,
};

/* NULL: no memory. */
extern struct allocation *allocation_new (struct export *e);

/* Ends the thread, and waits for it until then (of clock_ms).  False: it is in
 * the plugin still, and must not be freed.
 */
extern bool allocation_end (struct allocation *a, int64_t until_ms);

/* The same without a limit; it is freed. */
extern void allocation_free (struct allocation *a);

/* Ask about a range of the disk, waiting for at most 'ms'.  The answer is the
 * caller's to free (zero), also if it is not known.  A new question takes the
 * place of the one before.  *why is a static text.  No lock may be held.
 */
extern enum allocation_result
allocation_ask (struct allocation *a, const struct allocation_question *q,
                unsigned ms, struct allocation_answer *answer,
                const char **why);

/* The session has ended: what it asked is of no interest any more.  Does not
 * wait.
 */
extern void allocation_session_ended (struct allocation *a);

#endif /* NBDMIGRATE_ALLOCATION_H */
