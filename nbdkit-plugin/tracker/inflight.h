/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of write-type guest requests in flight.
 *
 * The list is short (16 threads a connection), so looking for an overlap is a
 * scan.  The nodes belong to whoever entered them, usually a stack frame.
 * Not locked: the tracker's lock must be held for every call.
 */

#ifndef NBDMIGRATE_INFLIGHT_H
#define NBDMIGRATE_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

struct inflight_node {
  uint64_t offset; /* bytes */
  uint64_t length; /* bytes */
  bool mirrored;   /* it goes to the destination, too (R12) */
  bool conflict;   /* and something came in its way */
  struct inflight_node *prev, *next;
};

struct inflight {
  struct inflight_node head; /* of a ring; offset and length unused */
  uint64_t requests;
  uint64_t bytes;
  uint64_t mirrored; /* requests */
};

extern void inflight_init (struct inflight *l);
extern void inflight_add (struct inflight *l, struct inflight_node *node,
                          uint64_t offset, uint64_t length);
extern void inflight_remove (struct inflight *l, struct inflight_node *node);

/* It goes to the destination, too. */
extern void inflight_mirror (struct inflight *l, struct inflight_node *node);

/* Something has come in the way of all that do. */
extern void inflight_conflict (struct inflight *l);

/* Whether a request in flight touches a byte of [offset, offset + length). */
extern bool inflight_overlaps (const struct inflight *l, uint64_t offset,
                               uint64_t length);

/* The first byte of [offset, offset + length) that a request in flight touches;
 * the end if there is none.  Nothing may end past 2^64.
 */
extern uint64_t inflight_first (const struct inflight *l, uint64_t offset,
                                uint64_t length);

#endif /* NBDMIGRATE_INFLIGHT_H */
