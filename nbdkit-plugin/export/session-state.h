/* SPDX-License-Identifier: BSD-3-Clause */
/* What an export keeps of its session, the one control connection that moves
 * the disk (R16), and of those before it.  What begins and ends a session is in
 * control/session.h.
 */

#ifndef NBDMIGRATE_SESSION_STATE_H
#define NBDMIGRATE_SESSION_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "lately.h"
#include "ledger.h"
#include "old-connections.h"
#include "protocol.h"
#include "record.h"
#include "state/history.h"

struct client; /* of the control server */

/* What a session found that touched nothing in the end.  Not kept if something
 * was tracked then: it is lost when another one begins.
 */
struct session_before {
  bool kept;
  enum owner owner;
  enum record_end last_end;
  unsigned source_place, destination_place;
  char *source, *destination;
  uint64_t delay_ms, source_delay_ms;
};

struct session {
  pthread_mutex_t lock; /* for all that follows */

  struct client *client; /* who has it, NULL if nobody; whether there is one is
                          * looked at without the lock, too */
  int fds[PROTOCOL_FDS_MAX]; /* its destination sockets; owned */
  size_t nr_fds;
  int64_t began_us;                 /* nothing is owed on them since before */
  const struct ledger *ledger;      /* what it owes on them, or NULL */
  int source_fds[PROTOCOL_FDS_MAX]; /* its ends of connections to this nbdkit,
                                     * for gaps/linger.h; owned */
  size_t nr_source_fds;
  int process;   /* its pidfd, or -1 */
  bool promised; /* it said that it writes no more */

  /* What sessions that are over left unanswered (R17). */
  struct old_connections old;
  bool late_elsewhere; /* that of another destination than the latest */

  /* The longest delays that were seen at other servers than the destination,
   * whose the tracker has (R17): at earlier destinations where something may
   * still land, and at the source.
   */
  uint64_t elsewhere_delay_ms, source_delay_ms;

  /* How the latest session ended; while there is one, what its commit has
   * made of it, or RECORD_END_NONE.
   */
  enum record_end last_end;
  bool untouched; /* the latest ended before anything was done: not counted */
  char *source;   /* the URI of a remote source, or NULL: local */
  char *destination;      /* as 'begin' gave it last, or NULL */
  struct history history; /* of all of them, for R18 */
  enum history_past past; /* of the present session's */
  struct session_before before;
  char *promise;        /* what 'begin' was told to be there already, or NULL */
  bool latest_in_use;   /* the latest one was detached: others write there */
  struct lately lately; /* of what was copied to the destination */

  bool reopening; /* command_reopen connects, and has dropped the lock */

  json_t *progress; /* what the session published last, or NULL */
  json_t *wishes;   /* of others, for the next 'publish'; an object or NULL */
};

extern void session_state_init (struct session *s);
extern void session_state_destroy (struct session *s);

extern void session_state_forget_before (struct session *s);

/* Close its sockets; the connections go on where others have them.  Under the
 * lock.
 */
extern void session_state_close_fds (struct session *s);

#endif /* NBDMIGRATE_SESSION_STATE_H */
