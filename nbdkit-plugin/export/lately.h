/* SPDX-License-Identifier: BSD-3-Clause */
/* Some of the places that the latest session has copied.
 *
 * Of two copies that take turns at one address, each lacks what the other was
 * given since: exactly there they differ, and a few random places would hardly
 * find that (R20).  In memory only: after a restart there are none.
 */

#ifndef NBDMIGRATE_LATELY_H
#define NBDMIGRATE_LATELY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "extents.h"
#include "protocol.h"

/* All zeroes is empty. */
struct lately {
  uint64_t offsets[PROTOCOL_LATELY_MAX]; /* bytes, of whole chunks */
  size_t n;
  uint64_t seen;  /* so many ranges were copied */
  unsigned shift; /* each 2^shift of them is kept */
  bool over;      /* they are of a session that has ended */
};

/* None of the functions takes a lock: the session's is held. */

/* Another session begins, and what is there is of the one before: 'resumed': it
 * stays until something is copied.
 */
extern void lately_begin (struct lately *l, bool resumed);

/* These ranges were copied. */
extern void lately_add (struct lately *l, const struct extents *e);

#endif /* NBDMIGRATE_LATELY_H */
