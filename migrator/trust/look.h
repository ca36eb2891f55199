/* SPDX-License-Identifier: BSD-3-Clause */
/* Single requests beside the copying, to see what is at an endpoint. */

#ifndef NBDMIGRATE_LOOK_H
#define NBDMIGRATE_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/connection.h"
#include "nbd/endpoint.h"

struct disks;

/* The last two: with FUA, if the connection 'over' can (can_fua). */
enum look_kind {
  LOOK_READ,
  LOOK_WRITE,
  LOOK_ZERO,
  LOOK_FLUSH,
  LOOK_WRITE_THROUGH,
  LOOK_ZERO_THROUGH,
};

struct look {
  struct io io;
  enum look_kind kind;
  const struct endpoint *where;
  struct connection *over; /* NULL: any of its connections */
  uint64_t offset;
  uint32_t bytes;
  char *data; /* 'bytes' long: what was read, or is to be written */

  /* Its own. */
  char *buf; /* of a read: whole blocks */
  uint64_t buf_offset;
  uint32_t buf_bytes;
  char *why; /* it failed, for a message; owned; NULL: or no memory */
  enum { LOOK_WAITS, LOOK_STARTED, LOOK_ENDED, LOOK_LEFT_OUT } state;
};

/* Many of them; all that was added lives until looks_free. */
struct looks {
  struct look *v;
  size_t n, allocated;
  int64_t until_us; /* what is not started by then is left out; 0: nothing is */
  /* Where this one answers nothing for so long, all its connections are broken,
   * which is a loss (disk/reconnect.h).  NULL: it is waited for.
   */
  const struct endpoint *limited;
  int64_t limit_us;

  /* Its own: of the limited one. */
  size_t answers;
  int64_t silent_since_us, round_us;
};

#define LOOKS_EMPTY ((struct looks){ .v = NULL })
#define CLEANUP_LOOKS __attribute__ ((cleanup (looks_free)))

/* The range may begin and end inside a block when it is read, but must lie
 * inside the export.  'data' is what a write writes; it stays the caller's and
 * must live until looks_run is back.  Returns its index.  Aborts if there is
 * no memory for it: a few kilobytes.
 */
extern size_t looks_add (struct looks *p, enum look_kind kind,
                         const struct endpoint *where, struct connection *over,
                         uint64_t offset, uint32_t bytes, const char *data);

/* Carry out what was added since the last time, in any order, one request at a
 * time on each connection, or of reads some.  When this returns all of them
 * have ended, however long the server takes (connection_check), unless there is
 * a limit.  -1 after failure_note, if one failed.
 */
extern int looks_run (struct disks *disks, struct looks *p);

/* Forget all. */
extern void looks_free (struct looks *p);

#endif /* NBDMIGRATE_LOOK_H */
