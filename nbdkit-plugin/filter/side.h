/* SPDX-License-Identifier: BSD-3-Clause */
/* A side of a disk: a place that holds it and serves requests.
 *
 * The local side is nbdkit's plugin, a remote side is an NBD server that the
 * relay reaches.  Both have the same operations, so that who serves a request
 * is decided in one place (request.c), and the rest of its way does not ask.
 *
 * A side knows nothing of the gate, of the tracker and of other sides: to serve
 * a request on two sides is to call two of them, with the same io.
 */

#ifndef NBDMIGRATE_SIDE_H
#define NBDMIGRATE_SIDE_H

#include <stdint.h>

#include "handle.h"

enum io_type {
  IO_READ,
  IO_WRITE,
  IO_ZERO,
  IO_TRIM,
  IO_FLUSH,
  IO_EXTENTS,
  IO_CACHE,
  IO_TYPES,
};

/* A request, as nbdkit's callbacks get it; a member counts only where the type
 * has it.  It belongs to the caller.
 */
struct io {
  enum io_type type;
  struct handle *handle;
  nbdkit_next *next; /* the connection's own context, or NULL */
  void *buffer;      /* to read into */
  const void *data;  /* to write */
  uint32_t count;    /* bytes */
  uint64_t offset;   /* bytes */
  uint32_t flags;    /* NBDKIT_FLAG_* */
  struct nbdkit_extents *extents;
  struct relay *relay;   /* to the remote side */
  struct delays *delays; /* that it meets are added here, or NULL */
  int *err;              /* set on -1 */
};

/* 0 or -1, as nbdkit's callbacks.  Any number of threads at once. */
typedef int side_operation (const struct io *io);

/* What nbdkit asks for before a client may send a request; the answers are
 * those of its callbacks of the same names.
 */
enum fact {
  FACT_CAN_WRITE,
  FACT_CAN_FLUSH,
  FACT_IS_ROTATIONAL,
  FACT_CAN_TRIM,
  FACT_CAN_ZERO,
  FACT_CAN_FAST_ZERO,
  FACT_CAN_EXTENTS,
  FACT_CAN_FUA,
  FACT_CAN_CACHE,
  FACTS,
};

/* 'next' is the connection's own context, or NULL.  -1 on error. */
typedef int side_fact (const struct handle *h, nbdkit_next *next,
                       enum fact fact);

struct side {
  side_operation *serve[IO_TYPES];
  side_fact *fact;
};

/* The plugin's context of the connection, or the one that all share. */
extern const struct side local_side;

/* The relay.  The caller keeps it (export/destination.h). */
extern const struct side remote_side;

#endif /* NBDMIGRATE_SIDE_H */
