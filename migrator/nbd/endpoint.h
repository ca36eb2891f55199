/* SPDX-License-Identifier: BSD-3-Clause */
/* One side of a disk: an NBD export and our connections to it. */

#ifndef NBDMIGRATE_ENDPOINT_H
#define NBDMIGRATE_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd/connection.h"

#define ENDPOINT_CONNECTIONS_MAX 16
#define ENDPOINT_OTHERS_MAX 4

_Static_assert(ENDPOINT_CONNECTIONS_MAX + ENDPOINT_OTHERS_MAX <=
                 CONNECTION_SEVERAL_MAX,
               "all are opened at once");

/* Shorter silence is nothing to talk about. */
#define ENDPOINT_SILENT_US (INT64_C (3) * 1000000)

struct endpoint {
  const char *uri; /* not owned; absolute paths */
  char *export_name;
  char *description; /* NULL if there is none */

  uint64_t disk_bytes;
  uint32_t minimum_bytes;      /* block size constraints, never 0 */
  uint32_t maximum_bytes;      /* of one read or write */
  uint32_t zero_maximum_bytes; /* of one to write zeroes */
  bool read_only;
  bool can_flush;
  bool can_zero;
  bool multi_conn;
  bool has_allocation; /* base:allocation was granted */
  bool has_depth;      /* so was the context asked for beside it */

  bool is_here; /* its server runs on this host, for sure */

  int64_t connect_us; /* how long the first connection took */
  struct connection *connections[ENDPOINT_CONNECTIONS_MAX];
  unsigned nr_connections;

  struct connection_ahead ahead; /* for endpoint_widen */

  struct wire *wire; /* wire.h; not owned, or NULL */

  bool silence_said; /* it has answered nothing for long */
};

/* Open the first connection and learn what the export is.  NULL on error with
 * *why as for connection_open.
 */
extern struct endpoint *endpoint_open (struct loop *loop, const char *uri,
                                       const struct connection_options *options,
                                       int interrupt_fd, char **why);

/* The same of one that will be widened by up to so many connections with these
 * options: they are begun already if it is far away.  Which of them are used is
 * known later, so only where the others do no harm.
 */
extern struct endpoint *
endpoint_open_ahead (struct loop *loop, const char *uri,
                     const struct connection_options *options,
                     const struct connection_options *others, unsigned wanted,
                     int interrupt_fd, char **why);

enum endpoint_widened {
  ENDPOINT_WIDENED,
  ENDPOINT_NOT_ADMITTED, /* fewer: what was admitted, less others' share */
  ENDPOINT_DIFFERS,      /* they reach different exports: use none of them */
};

struct endpoint_wanted {
  unsigned connections; /* in all; at most ENDPOINT_CONNECTIONS_MAX */
  unsigned others;      /* that somebody else will need, at most
                           ENDPOINT_OTHERS_MAX: of a server that does not admit
                           all, up to a half */
};

/* So long a further connection may take at least, after the one before. */
#define ENDPOINT_WIDEN_MS 1000

/* Open more connections; one only without multi-conn (several would not see
 * each other's writes).  The export must be the same on all.  *why tells what
 * is wrong, as for connection_open_several, also where the server admits enough
 * for us but not for the others.
 */
extern enum endpoint_widened
endpoint_widen (struct endpoint *e, struct loop *loop,
                const struct connection_options *options,
                const struct endpoint_wanted *wanted, int interrupt_fd,
                char **why);

/* How long a round trip to the server takes at most, as far as was seen. */
extern int64_t endpoint_distance_us (const struct endpoint *e);

/* Whether it is reached by a Unix socket. */
extern bool endpoint_is_unix (const struct endpoint *e);

/* Another connection in the place of the first one, before there are more: a
 * server may tell a client that comes again more than before.  Where that is
 * not admitted the first one stays.
 */
extern void endpoint_exchange_first (struct endpoint *e, struct loop *loop,
                                     const struct connection_options *options,
                                     int interrupt_fd);

/* Take a broken connection that holds nothing out of use.  Why it broke, which
 * the caller frees; NULL: there is none.
 */
extern char *endpoint_drop_broken (struct endpoint *e);

/* Whether this connection reaches what the others do; otherwise *why. */
extern bool endpoint_matches (const struct endpoint *e,
                              const struct connection *c,
                              const struct connection_options *options,
                              char **why);

/* Whether a server that was away is the same as before; otherwise *why, which
 * the caller frees, NULL: no memory.
 */
extern bool endpoint_is_same (const struct endpoint *e,
                              const struct connection *c,
                              const struct connection_options *options,
                              char **why);

/* Use it, too; it becomes the endpoint's. */
extern void endpoint_add (struct endpoint *e, struct connection *c);

/* Whether another opening of the same URI has reached another export, as far as
 * its facts tell; *why as above.
 */
extern bool endpoint_differs (const struct endpoint *e,
                              const struct endpoint *other, char **why);

/* Close all but the first one.  Nothing may be in flight on the others. */
extern void endpoint_narrow (struct endpoint *e);

/* Make another one of its last n connections; some must be left.  NULL: no
 * memory, nothing has changed.
 */
extern struct endpoint *endpoint_split (struct endpoint *e, unsigned n);

extern void endpoint_close (struct endpoint *e);

/* Of the first so many connections that are alive the one with the fewest
 * requests in flight, if they are fewer than 'depth' and it is not to be
 * flushed first; NULL if there is none.
 */
extern struct connection *endpoint_idle (const struct endpoint *e,
                                         unsigned connections, unsigned depth);

extern bool endpoint_any_alive (const struct endpoint *e);
extern unsigned endpoint_in_flight (const struct endpoint *e);

/* Why the first broken connection broke; NULL if all are alive. */
extern const char *endpoint_broken (const struct endpoint *e);

/* The same of those that something is lost with. */
extern const char *endpoint_lost (const struct endpoint *e);

/* connection_check for each. */
extern void endpoint_check (struct endpoint *e, int64_t now_us,
                            int64_t stopped_us);

/* Leave the connections that are owed an answer to the proxy, which takes it
 * from the socket: they are not read any more.  With false they are given up
 * again.
 */
extern void endpoint_leave (struct endpoint *e, bool leave);

/* connection_goodbye for each. */
extern void endpoint_goodbye (struct endpoint *e);

/* For how long the server has answered nothing although it was asked; 0 if
 * nothing is in flight.
 */
extern int64_t endpoint_silent_us (const struct endpoint *e, int64_t now_us);

/* The value of the last line that begins with 'key' in the export description;
 * the caller frees it.  NULL if there is no such line (or no memory).
 */
extern char *endpoint_announcement (const struct endpoint *e, const char *key);

#endif /* NBDMIGRATE_ENDPOINT_H */
