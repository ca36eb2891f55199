/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes that outlive the process (R13): what a relay leaves when nbdkit stops
 * goes to DIR/kept (state/kept-file.h), and from there into the next relay to
 * that place, before anybody is served.
 */

#ifndef NBDMIGRATE_KEPT_H
#define NBDMIGRATE_KEPT_H

#include <stdbool.h>

#include "relay/relay.h"
#include "state/kept-file.h"

struct export;

/* e->name is valid.  -1: no memory (reported). */
extern int kept_init (struct export *e);

/* What a relay to where the disk is gets: in its options, until relay_open has
 * returned.
 */
struct kept_rest {
  struct relay_rest rest;
  struct kept_file file;
  struct relay_entry *entries;
};

/* Fill it and the options, whose delay_ms is known.  -1: what is kept cannot be
 * used, so nobody may be served from there; *why says what it is and what to do
 * (the caller frees it; NULL: no memory).  The guests' next flush fails then,
 * even if it is moved away.  Blocks for file I/O.
 */
extern int kept_load (struct export *e, const char *uri, struct kept_rest *k,
                      struct relay_options *options, char **why);
extern void kept_free (struct kept_rest *k);

/* Whether nothing is kept, so that the disk may go elsewhere.  *why: no. */
extern bool kept_is_nothing (struct export *e, char **why);

/* Close the relay to 'uri', where the disk is, or may be taken back to, and
 * keep what it leaves; what cannot be kept is reported and owed to the guests.
 */
extern void kept_close_relay (struct export *e, struct relay *relay,
                              const char *uri);

#endif /* NBDMIGRATE_KEPT_H */
