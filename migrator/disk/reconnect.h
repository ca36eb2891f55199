/* SPDX-License-Identifier: BSD-3-Clause */
/* A destination that was lost, and may come back.
 *
 * One connection that breaks with something in flight or unflushed is the loss
 * of all (R6a): its server may have been started again, and what the others say
 * may be of another life of it.  So all are reset (R17), what was in flight
 * ends, and the filter is told: what was not flushed is dirty again, guests'
 * writes are not mirrored any more, and it gives up its copies of the sockets.
 * Then the server is dialled, its name looked up anew, until it is there or the
 * time is over.  It must be the same export as before, as far as its facts
 * tell; the filter gets the new sockets; and whoever drives this looks at what
 * it holds (trust/evidence.h) before anything is written.
 *
 *   THERE -> LOST -> GIVEN_UP -> AWAY -> TOLD -> BACK -> THERE
 *
 * A loss in any later state leads to LOST again.  Nothing here waits.
 */

#ifndef NBDMIGRATE_RECONNECT_H
#define NBDMIGRATE_RECONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd/endpoint.h"
#include "policy/backoff.h"

struct disk;
struct ledger;

enum reconnect_state {
  RECONNECT_THERE,    /* nothing is lost */
  RECONNECT_LOST,     /* noted, and nothing done about it */
  RECONNECT_ENDING,   /* what was in flight ends */
  RECONNECT_GIVEN_UP, /* the filter is told that there is no connection */
  RECONNECT_AWAY,     /* it is dialled */
  RECONNECT_TOLD,     /* the filter is told of new connections */
  RECONNECT_BACK,     /* they are in use, but not for copying */
};

struct reconnect {
  enum reconnect_state state;
  struct backoff backoff; /* since the loss */
  bool flushed;           /* something, with success, since it was back last */
  int64_t back_us;        /* when that was */
  uint64_t back_bytes;    /* written until then */
  unsigned wanted;        /* connections */
  struct connection *coming[ENDPOINT_CONNECTIONS_MAX]; /* owned */
  unsigned nr_coming;
  bool others_dialled; /* in this attempt */
  int64_t begun_us;    /* when the attempt began, or the latest of them came */
  int64_t run_us;      /* when it was looked at last */
  struct ledger *ledger; /* owned; the new one, until the filter knows it */
  char *why;             /* with what it was lost, owned */
  char *attempt_why;     /* what became of the latest attempt, owned; or NULL */
  uint64_t again_bytes;  /* that have become dirty again */
  unsigned times;        /* that it was back */
};

/* Whether a loss is waited for at all (--reconnect). */
extern bool reconnect_is_allowed (const struct disk *d);

/* The destination is lost, what says how it was noticed: the migration stops
 * (failure.h), to go on with the following where that may be.
 */
extern void reconnect_note_loss (struct disk *d, const char *what);

/* Nothing can be copied for now. */
extern bool reconnect_is_away (const struct disk *d);

/* Give up all connections, once the migration has stopped for a loss.  It is
 * over when reconnect_has_ended; nothing is taken meanwhile.
 */
extern void reconnect_give_up (struct disk *d);
extern bool reconnect_has_ended (const struct disk *d);

/* Then: go on with it.  Once a round. */
extern void reconnect_run (struct disk *d, int64_t now_us);

/* It holds what it should: it may be written to. */
extern void reconnect_go_on (struct disk *d);

/* A flush has succeeded: the next loss is a new one, unless there was nothing
 * to flush so soon after the last one.
 */
extern void reconnect_note_flush (struct disk *d);

/* For how long it has been away. */
extern int64_t reconnect_away_us (const struct disk *d, int64_t now_us);

extern void reconnect_close (struct reconnect *r);

#endif /* NBDMIGRATE_RECONNECT_H */
