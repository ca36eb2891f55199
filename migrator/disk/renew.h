/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections to a destination that were closed while they held nothing.
 *
 * A balancer or a firewall may close what was idle, or restart.  Nothing is
 * lost with a connection that has nothing in flight or unflushed, so it is made
 * anew.  (With one that has, writes may be gone: that is the loss of all, see
 * reconnect.h.)
 *
 * The filter shuts down the sockets of a session that ends (R7), so a new one
 * is used once the filter has it.  It raises the epoch then (R6a), which costs
 * no more than copying again what was not flushed yet.
 */

#ifndef NBDMIGRATE_RENEW_H
#define NBDMIGRATE_RENEW_H

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct disk;
struct ledger;

struct renewal {
  unsigned missing;            /* connections that were closed */
  struct connection *coming;   /* one that is being made, owned; or NULL */
  bool telling;                /* it has come, and the filter is told */
  int64_t begun_us;            /* when that began */
  int64_t next_us, backoff_us; /* the next attempt */
  int64_t without_us;          /* since when the last one is gone, or 0 */
  int64_t run_us;              /* when it was looked at last */
  struct ledger *ledger;       /* owned; while telling: the new one */
  char *why;                   /* what went wrong last, owned */
};

/* Take out of use what was closed, and go on with making it anew.  Once a
 * round, before anything is sent; it does not wait.
 */
extern void renew_run (struct disk *d, int64_t now_us);

/* So many are missing after a loss of all (reconnect.h), and are made anew from
 * now on, at the same distances as those that were closed.
 */
extern void renew_after_loss (struct renewal *r, unsigned missing);

extern void renew_close (struct renewal *r);

#endif /* NBDMIGRATE_RENEW_H */
