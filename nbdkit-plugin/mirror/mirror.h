/* SPDX-License-Identifier: BSD-3-Clause */
/* The mirror: guests' writes carried to the destination of a migration while
 * the source serves them (R12, R15).
 *
 *   mirror.c   on, off, the end, looking
 *   write.c    one request
 *   keeper.c   the thread that connects, and waits for what nobody waits for
 *   flush.c    flushes of the connections here (R6)
 *
 * Nothing is repeated, and no error reaches a guest: whatever goes wrong puts
 * the mirror off, at once, and the request counts as not mirrored.  Which
 * requests are, the tracker decides; here nobody knows of it, of nbdkit and of
 * sessions.
 *
 * A destination that is slow is not waited for (max_ms), but not given up
 * either (R17): what it has not answered stays on its connection, with a copy
 * of the data, until the answer comes or the connection breaks.  Until then,
 * and for the grace after it, the mirror is 'late', and what is in quarantine
 * must not be read back.
 *
 * Memory: each request under way has a copy of its data, of MEMORY_BYTES in
 * all with what keeps them; beyond that requests are not mirrored.  Once the
 * mirror is off nothing is added, so a destination that hangs keeps what was
 * under way then, and no more.
 *
 * The destination must announce multi-conn.  Without it, what is written over
 * the migrator's connections and over these need not be done to the same cache:
 * a flush of one says nothing of the other, and an older write of one may be
 * written out after a newer one of the other, for all that both were answered.
 */

#ifndef NBDMIGRATE_MIRROR_H
#define NBDMIGRATE_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct mirror;

/* Called with the mirror's lock held. */
struct mirror_user {
  /* Requests of whole blocks of so many bytes are to be mirrored; 0: none. */
  void (*set) (void *opaque, uint32_t block_bytes);
  /* What was written and not flushed may be gone (R6a). */
  void (*lost) (void *opaque);
  /* A write was not answered for so long (R17). */
  void (*delayed) (void *opaque, uint64_t ms);
  void *opaque; /* outlives the mirror */
};

struct mirror_options {
  const char *uri;
  uint64_t disk_bytes;
  unsigned unheard_ms; /* a connection is lost after so long (remote.h) */
  bool require_tls;
  struct mirror_user user;
};

/* Where the migrator's connections lead to; 0 bytes: not known. */
struct mirror_peer {
  struct sockaddr_storage address;
  socklen_t bytes;
};

/* Off.  NULL: no memory, or no thread. */
extern struct mirror *mirror_new (const struct mirror_options *options);

/* All requests must have left it.  Waits for nothing but its own thread, at
 * most about a second: what is unanswered is given up.
 */
extern void mirror_free (struct mirror *m);

/* On, as soon as it is connected to that address; does not wait for that.  Or
 * with another limit.
 */
extern void mirror_enable (struct mirror *m, const struct mirror_peer *peer,
                           unsigned max_ms);

/* Off; what is under way goes on. */
extern void mirror_disable (struct mirror *m);

/* The same, and these connections are not used any more: the destination may be
 * another one now.
 */
extern void mirror_leave (struct mirror *m, const char *why);

/* The session is over: off for good.  The connections are closed as soon as
 * nothing is unanswered.
 */
extern void mirror_end_session (struct mirror *m);

/* The server quits: what waits for the destination ends. */
extern void mirror_stop (struct mirror *m);

/* ---- One request ------------------------------------------------------- */

enum mirror_kind { MIRROR_WRITE, MIRROR_ZERO };

struct mirror_write;

/* Send it.  NULL: it was not sent.  'data' of a zero is not looked at, and is
 * not used after the call.
 */
extern struct mirror_write *mirror_send (struct mirror *m,
                                         enum mirror_kind kind,
                                         const void *data, uint32_t length,
                                         uint64_t offset, bool may_trim);

enum mirror_result {
  MIRROR_DONE,
  MIRROR_FAILED,
  MIRROR_UNKNOWN, /* it may still be done (R17) */
};

/* Wait for the answer, but not longer than max_ms after it was sent. */
extern enum mirror_result mirror_wait (struct mirror_write *w);

/* ---- Flushes ----------------------------------------------------------- */

/* Ask for a flush of all that was answered until now; one at a time.  NULL:
 * there is nothing to flush.  Without memory what is not flushed counts as
 * lost.
 */
struct mirror_flush;
extern struct mirror_flush *mirror_flush_begin (struct mirror *m);

/* Wait for it, at most 'ms'.  False: it is not over.  Otherwise it is gone, and
 * has called user.lost if it failed.
 */
extern bool mirror_flush_wait (struct mirror_flush *f, unsigned ms,
                               bool *success);

/* Nobody waits for it any more. */
extern void mirror_flush_abandon (struct mirror_flush *f);

/* ---- Looking ----------------------------------------------------------- */

struct mirror_status {
  bool starting, on, over;
  bool ended;          /* over, with no connection left */
  unsigned unanswered; /* writes that nobody waits for any more */
  int64_t late_ms;     /* since when the oldest of those is, or 0 */
  uint64_t demotions;
  char why[256]; /* it went off; "": it did not */
};

extern void mirror_get_status (struct mirror *m, struct mirror_status *s);

/* A write may still land that nobody waits for (R17). */
extern bool mirror_is_late (struct mirror *m);

#endif /* NBDMIGRATE_MIRROR_H */
