/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory that a session shares with this filter (shared-memory.h), and who
 * may have read what into it: only requests of the session's own process.
 *
 * It is unmapped when the session has ended and no request uses it any more.
 * Has its own lock, held for short times only.
 */

#ifndef NBDMIGRATE_SHARED_READS_H
#define NBDMIGRATE_SHARED_READS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct shared_slot;
struct mapping;

struct shared_reads {
  pthread_mutex_t lock;
  struct mapping *mapping; /* the session's, or NULL */
  int64_t pid;             /* of its process */
};

/* One request. */
struct shared_read {
  struct mapping *mapping;
  struct shared_slot *slot;
  void *where; /* to read to */
};

extern void shared_reads_init (struct shared_reads *s);
extern void shared_reads_destroy (struct shared_reads *s);

/* The session of this process begins with such memory; the descriptor stays the
 * caller's.  NULL, or why it cannot be used.
 */
extern const char *shared_reads_begin (struct shared_reads *s, int fd,
                                       int64_t pid);
extern void shared_reads_end (struct shared_reads *s);

/* An NBD_CMD_CACHE of this process (0: of nobody known).  True: it means to
 * read this range; shared_reads_ended is to follow.  False: it is an ordinary
 * one.
 */
extern bool shared_reads_take (struct shared_reads *s, int64_t pid,
                               uint64_t offset, uint32_t length,
                               struct shared_read *read);

/* It has ended: the bytes are there, or could not be read. */
extern void shared_reads_ended (struct shared_reads *s,
                                struct shared_read *read, bool filled);

#endif /* NBDMIGRATE_SHARED_READS_H */
