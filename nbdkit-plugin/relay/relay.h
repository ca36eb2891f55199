/* SPDX-License-Identifier: BSD-3-Clause */
/* The relay: guest requests carried to the destination, after a pivot.
 *
 * Many threads use one relay at once.  Each function blocks its caller until
 * the destination has answered, whatever it takes: several requests are in
 * flight on each connection, there are several connections where the
 * destination offers multi-conn, a lost destination is connected to again.
 * What it does not offer (FUA, zero, trim, block status, small or large
 * requests) is made up for here, so that what the guest negotiated earlier
 * stays true.
 *
 * The relay knows nothing of nbdkit, sessions and owners.  Its destination is
 * the server that it leads to, whatever that is called in a migration.
 *
 * A destination that is slow is waited for, however long it takes (R17): only
 * its answer tells what became of a write.
 *
 * When the destination is lost (the peer closed the connection, the network
 * does not reach it any more, it says that it is shutting down), requests wait
 * while the relay connects again, up to reconnect_ms after the loss, or after
 * the last answer that was owed on another connection then; then they fail with
 * EIO at once, until it is there again.  A write in flight at the loss may be
 * half done: it is sent again, and nothing that overlaps it passes in between.
 * Writes acknowledged but not flushed are in a log (bounded; at half the bound
 * the relay flushes the destination itself) and sent again, in order, before
 * anything else passes (R13).  Where that fails an error is owed to the guests.
 */

#ifndef NBDMIGRATE_RELAY_H
#define NBDMIGRATE_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "owed-error.h"
#include "remote/peer.h"
#include "socket-life.h"

struct relay;

struct relay_options {
  uint64_t disk_bytes;
  unsigned connections; /* at most, and one without multi-conn */
  unsigned connect_ms;  /* for one attempt to connect */
  unsigned reconnect_ms;
  /* A guest's request fails after so long without an answer; 0: never.  It goes
   * on all the same, with its range locked, until it is answered.
   */
  unsigned request_limit_ms;
  unsigned silent_ms;  /* nothing else is sent after so much silence */
  unsigned unheard_ms; /* lost after so long; 0: never (remote/remote.h) */
  bool require_tls;
  /* A write whose outcome is unknown may still land for so long after the
   * destination is back, or for twice the longest that a request ever took, if
   * that is more (R17): overlapping writes wait.
   */
  unsigned grace_ms;
  unsigned delay_ms; /* the longest that was seen there before, by anybody */
  /* Another process was the relay before: what it had sent may land in any
   * place, so all writes wait for the grace (R17).
   */
  bool takes_over;

  /* One has failed a flush there, as far as is known: see failed_flushes. */
  bool failed_before;
  size_t log_bytes; /* memory for unflushed writes */

  /* What the relay before this one has left, or NULL.  It is sent again before
   * any request passes, once its grace is over; relay_open does not wait for
   * that.  Then 'restored' is called, by the keeper without a lock: -1 (with
   * *why, which may be NULL; the keeper frees it): not yet.
   */
  const struct relay_rest *rest;
  int (*restored) (void *opaque, char **why);
  bool hold; /* nothing of that before relay_unhold (r, true) */

  /* Gets the errors that acknowledged writes may be lost; outlives the relay.
   */
  struct owed_error *owed;

  /* A request took so long, or has not been answered for so long, and that is
   * at least twice as much as was told before: the next process has to know, if
   * this one is killed (R17).  False: tell it again in a second.  Not before
   * 'restored'.  Called without a lock; may block as long as a sync takes, but
   * not for who closes the relay.  May be NULL.
   */
  bool (*delayed) (void *opaque, uint64_t ms);

  /* Told about losses and returns, one line without newline; may be NULL.
   * Called by the relay's own threads.
   */
  void (*notice) (void *opaque, bool good, const char *text);
  void *opaque;
};

#define RELAY_OPTIONS_DEFAULT                                                  \
  {                                                                            \
    .connections = 4, .connect_ms = 5000, .reconnect_ms = 30000,               \
    .silent_ms = 3000, .unheard_ms = SOCKET_UNHEARD_MS, .grace_ms = 2000,      \
    .log_bytes = 64 * 1024 * 1024,                                             \
  }

/* What a relay leaves behind when it is closed: acknowledged writes that the
 * destination has not flushed, oldest first; and with them some of what it has
 * flushed, by which the next relay sees that it is the same disk (witness.h).
 */
enum relay_entry_kind {
  RELAY_ENTRY_WRITE,
  RELAY_ENTRY_ZERO,
  RELAY_ENTRY_TRIM,
  RELAY_ENTRY_WITNESS,
};

struct relay_entry {
  enum relay_entry_kind kind;
  bool no_hole; /* a zero that must not make holes */
  uint64_t offset;
  uint64_t length;
  const uint8_t *data; /* of a write or witness */
};

struct relay_rest {
  const struct relay_entry *entries;
  size_t nr_entries;
  /* Something was sent and not answered, and may still land for so long (R17);
   * 0: no.
   */
  unsigned grace_ms;
};

/* Who is waiting.  'alive' is asked about ten times a second, without any lock
 * held, while a request waits for the destination's return, for an overlapping
 * write or for room in the log; on false it fails with ESHUTDOWN.  (A request
 * that the destination has got waits for the answer.)  In the same way it ends
 * an attempt to connect.  May be NULL.
 */
struct relay_waiter {
  bool (*alive) (void *opaque);
  void *opaque;
};

/* Connect, check that the destination is fit to hold the disk (size, write
 * permission, flush, block sizes, verifiable TLS), and start the relay's
 * threads: not before the last fork.  NULL on error; *why says what is wrong
 * and what to do about it, the caller frees it (NULL: no memory).
 */
extern struct relay *relay_open (const char *uri,
                                 const struct relay_options *options,
                                 const struct relay_waiter *waiter, char **why);

/* All calls, waiting ones and later ones, fail with ESHUTDOWN: the server is
 * quitting.  Requests in flight get half a second to end.  Does not wait.
 */
extern void relay_stop (struct relay *r);

/* relay_stop, a flush if the destination answers at once, disconnect, call
 * 'keep' (may be NULL) if something is left, free.
 * Takes at most about two seconds (plus what the resolver takes if it is
 * looking for the destination's name just then).  No call may be running.
 */
typedef void relay_keep (void *opaque, const struct relay_rest *rest);
extern void relay_close_keeping (struct relay *r, relay_keep *keep,
                                 void *opaque);

/* The same, and what is left is dropped. */
extern void relay_close (struct relay *r);

/* While the destination is lost, or silent over all connections: do not look
 * for it until relay_unhold.  -1: it is connected, or about to be.  May block
 * for seconds.  One caller at a time; holding once more is possible.
 */
extern int relay_hold (struct relay *r);

/* While it is held: connect to where the same disk is now, and check it.  That
 * connection waits for relay_unhold.  *peer: what is there.  -1: *why, as
 * relay_open; it stays held.
 */
extern int relay_move (struct relay *r, const char *uri,
                       const struct relay_waiter *waiter,
                       struct remote_peer *peer, char **why);

/* Look for it again: where relay_move was, or where it was before.  Unflushed
 * writes are sent again there.  (Nothing happens if it is not held.)
 */
extern void relay_unhold (struct relay *r, bool moved);

/* Somebody else has seen a request take so long there (R17). */
extern void relay_note_delay (struct relay *r, uint64_t ms);

/* Whether the guest owns the destination.  If it does not, others may change
 * what is there, and what the relay remembers of it is forgotten (witness.h).
 * It does at first.
 */
extern void relay_set_owner (struct relay *r, bool ours);

/* ---- Requests ---------------------------------------------------------- */

#define RELAY_FUA 1u     /* write, zero, trim */
#define RELAY_NO_HOLE 2u /* zero */
#define RELAY_FAST_ZERO                                                        \
  4u /* zero: EOPNOTSUPP rather than slower than a write */

/* 0, or -1 with errno: what the destination answered, EIO (it was away for
 * too long), ESHUTDOWN (stopped, or the waiter is gone), ENOMEM.  The range
 * must lie inside the disk.
 */
extern int relay_read (struct relay *r, void *buf, size_t count,
                       uint64_t offset, const struct relay_waiter *waiter);
extern int relay_write (struct relay *r, const void *buf, size_t count,
                        uint64_t offset, unsigned flags,
                        const struct relay_waiter *waiter);
extern int relay_zero (struct relay *r, uint64_t count, uint64_t offset,
                       unsigned flags, const struct relay_waiter *waiter);
extern int relay_trim (struct relay *r, uint64_t count, uint64_t offset,
                       unsigned flags, const struct relay_waiter *waiter);
extern int relay_cache (struct relay *r, uint64_t count, uint64_t offset,
                        const struct relay_waiter *waiter);

/* All writes that were answered before this call are durable, or it fails.
 * '*seen' belongs to one guest connection (NULL: to none).  What is owed to it
 * for earlier errors the caller has to tell (owed-error.h); the error of this
 * flush is owed to all others, and '*seen' stays up to date.
 */
extern int relay_flush (struct relay *r, uint64_t *seen,
                        const struct relay_waiter *waiter);

/* Called with consecutive pieces that cover [offset, offset + count), or a
 * part of it from 'offset' on, at least one; 'flags' as in base:allocation (1:
 * hole, 2: reads as zero).  Not 0: stop, with this errno.
 */
typedef int relay_extent_cb (void *opaque, uint64_t offset, uint64_t length,
                             uint32_t flags);
extern int relay_block_status (struct relay *r, uint64_t count, uint64_t offset,
                               relay_extent_cb *cb, void *opaque,
                               const struct relay_waiter *waiter);

/* ---- Looking ----------------------------------------------------------- */

/* Read over the connection of this number, from 0 on below 'connections' of
 * relay_get_status.  Nothing is tried again.  0, or -1 with errno: what the
 * destination answered, ENOTCONN (there is no such connection, or it was lost),
 * ENOMEM.  The range must lie inside the disk.
 */
extern int relay_read_back (struct relay *r, unsigned which, void *buf,
                            size_t count, uint64_t offset);

struct relay_status {
  bool up;
  bool failing; /* away for too long: requests that come now fail with EIO */
  bool held;
  int64_t silent_ms;         /* nothing came where something is unanswered */
  int64_t oldest_request_ms; /* so long it is unanswered; 0: there is none */
  int64_t longest_answer_ms; /* that it ever took */
  unsigned connections;
  unsigned requests_in_flight; /* commands sent and not answered */
  uint64_t losses;             /* how often the destination was lost */
  uint64_t replayed_writes;
  uint64_t own_flushes; /* at the log's bound */
  uint64_t errors; /* so many were owed to the guests, of this relay or not */
  uint64_t failed_flushes; /* here, and writes sent again that were refused */
  size_t log_used_bytes;
  uint64_t destination_bytes;
  struct remote_peer peer;
  uint32_t minimum_block_bytes;
  uint32_t maximum_block_bytes;
};

extern void relay_get_status (struct relay *r, struct relay_status *s);

/* Call for each range in which a write may still land that was lost with its
 * connection, in 'left_ms' at the latest (-1: not known, it is lost still).
 * The lock is held.
 */
typedef void relay_unknown_cb (void *opaque, uint64_t offset, uint64_t length,
                               int64_t left_ms);
extern void relay_unknown (struct relay *r, relay_unknown_cb *cb, void *opaque);

/* For how long at least something may still land that was sent and that no
 * guest's request waits for; 0: nothing can.  That includes what may be sent
 * again: acknowledged writes while it is not up.
 */
extern uint64_t relay_late_ms (struct relay *r);

/* What a round trip over each connection, asked for now, has shown. */
enum relay_probe {
  RELAY_ANSWERS, /* over all of them */
  RELAY_SILENT,  /* not over all of them until now */
  RELAY_AWAY,    /* the destination is lost, or one connection was meanwhile */
};

/* Wait for it for at most timeout_ms, or until the waiter (may be NULL) has
 * gone.  A silent one goes on, and the next caller waits for the same: '*begun'
 * says whether this call has begun the one that it tells about, '*silent_ms'
 * for how long that one has been silent (otherwise 0).
 */
extern enum relay_probe relay_probe (struct relay *r, unsigned timeout_ms,
                                     const struct relay_waiter *waiter,
                                     bool *begun, int64_t *silent_ms);

/* Duplicates of the sockets to the destination, at most 'max'; the caller
 * closes them.  shutdown(2) on them counts as a loss.  If there are fewer than
 * could be, errno is 0 where the relay has no more of them.
 */
extern size_t relay_sockets (struct relay *r, int *fds, size_t max);

#endif /* NBDMIGRATE_RELAY_H */
