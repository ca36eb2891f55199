/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of a connection share: connection.c (its begin and its end),
 * connection-io.c (what it carries, and who drives it).
 */

#ifndef NBDMIGRATE_CONNECTION_INTERNAL_H
#define NBDMIGRATE_CONNECTION_INTERNAL_H

#include "nbd/connection.h"
#include "nbd-error.h"

/* What libnbd said last on this thread. */
static inline const char *
connection_libnbd_error (void)
{
  return nbd_error_text (nbd_get_error ());
}

/* libnbd has given it up.  Any thread may ask. */
static inline bool
connection_is_broken (const struct connection *c)
{
  return nbd_aio_is_dead (c->nbd) == 1 || nbd_aio_is_closed (c->nbd) == 1;
}

/* It is broken; NULL: nobody said why.  The first reason is kept. */
extern void connection_note_why (struct connection *c, const char *why);

/* A step on the way to the server. */
extern void connection_reach_on (struct connection *c);

/* ---- connection-io.c */

extern void connection_init_io (struct connection *c);

/* It has come: from now on a thread drives it, if there is one. */
extern void connection_give_to_thread (struct connection *c);

/* When it returns the thread has given to libnbd what was submitted, and does
 * nothing more with it; the loop drives it.
 */
extern void connection_take_back (struct connection *c);

#endif /* NBDMIGRATE_CONNECTION_INTERNAL_H */
