/* SPDX-License-Identifier: BSD-3-Clause */
/* The way of a guest's request: enter (the gate and the list), route (which
 * side serves it), the side, leave.
 */

#ifndef NBDMIGRATE_REQUEST_H
#define NBDMIGRATE_REQUEST_H

#include "side.h"

/* 0 or -1, as nbdkit's callbacks. */
extern int request_serve (const struct io *io);

#endif /* NBDMIGRATE_REQUEST_H */
