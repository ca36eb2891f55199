/* SPDX-License-Identifier: BSD-3-Clause */
/* What a destination has not answered yet, in memory that nbdmigrate shares
 * with the filter (a memfd, sent with the sockets of 'begin').
 *
 * When a session ends, in whatever way, the filter holds duplicates of the
 * sockets; the ledger tells it on which of them a write is still owed an
 * answer, for how long, whether the request has left the process as a whole,
 * and whether the answers can be counted (R17). A line a socket, in the order
 * in which they were sent.
 *
 * One thread of nbdmigrate at a time writes a line; the filter reads it, at any
 * time. What the filter reads may be anything: it is a measure of patience, and
 * no more.
 */

#ifndef NBDMIGRATE_LEDGER_H
#define NBDMIGRATE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

/* One connection. */
struct ledger_line {
  int64_t since_us;   /* when the oldest write that has no answer was begun, on
                         the monotonic clock; 0: all were answered */
  int64_t slowest_us; /* how long the slowest answer to a write took */
  uint32_t requests;  /* in flight, reads and flushes included */
  uint32_t whole;     /* 1: the kernel has all bytes of them */
  uint32_t framed;    /* 1: what comes next is the beginning of a reply, and
                         replies say themselves how long they are */
  uint32_t unused;    /* 0 */
};

struct ledger {
  struct ledger_line lines[PROTOCOL_FDS_MAX];
};

/* nbdmigrate's: *fd is to be sent.  NULL with errno set on error. */
extern struct ledger *ledger_create (int *fd);

/* Whether a descriptor could be one, and no socket. */
extern bool ledger_is (int fd);

/* The filter's: only to be read.  It stays when the descriptor is closed and
 * when nbdmigrate has ended.  NULL with errno set: it is none, or could be
 * shortened (a read would be a SIGBUS then).
 */
extern const struct ledger *ledger_open (int fd);

extern void ledger_close (const struct ledger *l);

/* A copy of a line, and the other way round. */
extern struct ledger_line ledger_read (const struct ledger_line *line);
extern void ledger_write (struct ledger_line *line,
                          const struct ledger_line *value);

#endif /* NBDMIGRATE_LEDGER_H */
