/* SPDX-License-Identifier: BSD-3-Clause */
/* The tracker: what the destination of one disk still lacks, which guest
 * writes are in flight, whether they must wait, and who owns the disk.
 *
 * It is the only authority on these, and knows nothing of nbdkit, sockets or
 * JSON.  Every function takes the tracker's own lock; none is called with it
 * held and none calls back.  Bytes everywhere; times in milliseconds of the
 * monotonic clock unless the name says microseconds.
 *
 * Each chunk has the bits D (dirty), L (leased), U (unflushed), F (being
 * flushed), Q (quarantined) and W (the migrator may have written here to the
 * destination, or the guest to the source since tracking began).  D and L may
 * both be set: the guest wrote while the chunk was copied.
 */

#ifndef NBDMIGRATE_TRACKER_H
#define NBDMIGRATE_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dirt.h"
#include "extents.h"
#include "gate.h"
#include "inflight.h"
#include "ownership.h"

/* How long after its last quarantining a chunk stays in Q, at least (R17).  A
 * server whose connection is gone may still carry out requests it had received;
 * one that answers at once has them in memory, so they land within milliseconds
 * (or never).  Of one that was seen to be slow it is QUARANTINE_FACTOR times
 * the longest delay (tracker_note_delay).
 */
#define QUARANTINE_GRACE_MS 2000
#define QUARANTINE_FACTOR 2

/* So long, if a delay of so much was seen. */
static inline uint64_t
quarantine_grace_ms (uint64_t delay_ms)
{
  const uint64_t slow_ms = delay_ms * QUARANTINE_FACTOR;

  return slow_ms > QUARANTINE_GRACE_MS ? slow_ms : QUARANTINE_GRACE_MS;
}

struct tracker;

/* Who serves a request.  The owner is a role in the latest migration; where the
 * one in that role is to be found is its place, a number that means something
 * to the caller only.
 */
struct route {
  enum owner owner;
  unsigned place; /* if somebody is served */
};

/* A chunk is a power of two, at least 1 byte here (the filter has stricter
 * limits).  disk_bytes may be 0 and need not be a multiple of it.  NULL with
 * errno set on error.
 */
extern struct tracker *tracker_new (uint64_t disk_bytes, uint64_t chunk_bytes,
                                    enum owner owner);

/* The places of the source and of the destination, at first 0 and 1.  The
 * owner's is not to be changed where requests are about.
 */
extern void tracker_set_place (struct tracker *t, enum owner role,
                               unsigned place);
extern unsigned tracker_place (struct tracker *t, enum owner role);

/* If the destination owns the disk, it is the source from now on, in the same
 * place: another migration begins.
 */
extern void tracker_promote (struct tracker *t);

/* The reverse, if that migration came to nothing: the source is the destination
 * again, and 'source' is where the source was.  Tracking has to stop next.
 */
extern void tracker_demote (struct tracker *t, unsigned source);
/* Nothing may be in flight. */
extern void tracker_free (struct tracker *t);

/* ---- The guest's side: called for each request ------------------------- */

enum tracker_verdict {
  TRACKER_PASS,   /* go on, to the side named by the route */
  TRACKER_FENCED, /* fail with ESHUTDOWN; the request is not entered */
  TRACKER_WAIT,   /* the gate is closed; not entered: call again */
};

/* One write-type request (write, zero, trim).  Lives with the caller from the
 * first tracker_enter, before which it is TRACKER_REQUEST_INIT, to
 * tracker_leave; all members are the tracker's but those of the route, which
 * the caller reads, and of what it wishes.
 */
struct tracker_request {
  struct inflight_node node;
  bool held;          /* counted among those that wait at the gate */
  uint64_t held_us;   /* for the caller: how long it was held there */
  bool listed;        /* in the list, not only counted */
  unsigned char lane; /* where it is counted (lane.h) */
  struct route route;
  bool may_be_mirrored; /* the caller's wish: set it before the first enter */
  bool mirrored;        /* part of the route: to the destination, too (R12) */
  bool missed;          /* it was not, though others are */
};

#define TRACKER_REQUEST_INIT                                                   \
  {                                                                            \
    .held = false                                                              \
  }

/* A request that does not write. */
struct tracker_read {
  bool held;
  uint64_t held_us;   /* the same */
  struct route route; /* for the caller */
};

#define TRACKER_READ_INIT                                                      \
  {                                                                            \
    .held = false                                                              \
  }

/* The gate check and the entry in the in-flight list, one critical section
 * (R8).  While no migration runs it costs atomic operations only.  At a closed
 * gate it waits, at most 100 ms, and then returns TRACKER_WAIT, so that the
 * caller can see whether its client is still there: then it must call this
 * again or tracker_give_up, at once, since the next hold waits for it.
 */
extern enum tracker_verdict tracker_enter (struct tracker *t,
                                           struct tracker_request *req,
                                           uint64_t offset, uint64_t length);

/* After TRACKER_WAIT: the request does not come again. */
extern void tracker_give_up (struct tracker *t, struct tracker_request *req);

/* The request ended, well or badly (R2: it becomes dirty here).  Must be called
 * before the guest sees the reply, once for each TRACKER_PASS.
 */
extern void tracker_leave (struct tracker *t, struct tracker_request *req);

/* The same for one that is mirrored, when it has ended on both sides (R12). */
enum tracker_both {
  BOTH_WRITTEN,
  BOTH_FAILED,  /* one of them, or it was never sent to the destination */
  BOTH_UNKNOWN, /* at the destination it may still be done (R17) */
};
extern void tracker_leave_both (struct tracker *t, struct tracker_request *req,
                                enum tracker_both outcome);

/* What such a request would do, were it to end now. */
extern struct dirt tracker_weigh (struct tracker *t, uint64_t offset,
                                  uint64_t length);

/* Who owns the disk, and where.  The second is false if nobody is served. */
extern enum owner tracker_owner (struct tracker *t);
extern bool tracker_route (struct tracker *t, struct route *route);

/* Whom a commit would be taken back to, as long as it can be: what is durable
 * at the new owner must be so there, too (R13).  False: it cannot be.
 */
extern bool tracker_fallback (struct tracker *t, struct route *route);

/* The same for requests that do not write, which ask once, at their start (R19
 * ff.).  They pass a shut gate, except when the owner serves nobody: until it
 * opens, a handover may be taken back, and then the source has to serve them.
 * TRACKER_WAIT as for tracker_enter.
 */
extern enum tracker_verdict tracker_enter_read (struct tracker *t,
                                                struct tracker_read *read);
extern void tracker_give_up_read (struct tracker *t, struct tracker_read *read);

/* Wake all waiting threads, whatever they wait for: the server is quitting. */
extern void tracker_wake (struct tracker *t);

/* ---- Tracking ---------------------------------------------------------- */

/* Chunks of another size (a power of two) from now on: a session is to begin
 * whose destination takes no smaller writes (R19).  What was known of the disk
 * stays known as well as the larger of both sizes allows.  No session may be
 * there.  -1 with errno ENOMEM or EINVAL: nothing has changed.
 */
extern int tracker_set_chunk (struct tracker *t, uint64_t chunk_bytes);

/* Start a session's tracking (R1).  With 'resume' the dirty bits go on from
 * what an earlier session left, otherwise everything becomes dirty.
 * Returns whether it is a resumption: not if tracking was off, whatever was
 * asked for, nor without 'same_destination', since nobody knows then what was
 * missed.  Q and W are always kept.  Waits while another thread is between
 * tracker_commit_begin and tracker_commit_end, and so does tracker_set_owner:
 * look at the owner afterwards.
 */
extern bool tracker_begin (struct tracker *t, bool resume,
                           bool same_destination);

/* Wait, at most 'ms', until no request is left that passed before tracking was
 * on (R1).  True if there is none; false also if tracking is off.
 */
extern bool tracker_wait_settled (struct tracker *t, unsigned ms);

/* The session ended (R7): U, F and L become D, L also becomes Q, the epoch is
 * raised, the gate opens (R10 permitting, otherwise in tracker_commit_end).
 * Tracking goes on.  The caller gives up the destination sockets before it
 * calls this, so that nothing more is sent; what was sent may still land (R17).
 */
extern void tracker_end_session (struct tracker *t);

/* End the session as above and stop tracking.  D, L, U and F are forgotten; Q
 * and W stay, because what they say of the destination stays true.  Between
 * tracker_commit_begin and tracker_commit_end it takes effect in the latter:
 * with tracking off, requests would pass the shut gate.
 */
extern void tracker_stop (struct tracker *t);

/* W everywhere: what was written to the destination is not known.  Or nowhere:
 * nothing was ever written to it (R18).
 */
extern void tracker_set_written (struct tracker *t, bool written);
extern bool tracker_is_tracking (struct tracker *t);

/* ---- Mirroring (R12) ---------------------------------------------------- */

/* From now on requests that consist of blocks of so many bytes are mirrored, if
 * nothing is in their way; 0: none.  It also ends with the session, with
 * tracker_stop and tracker_commit_begin.  What is under way then goes on.
 */
extern void tracker_mirror (struct tracker *t, uint32_t block_bytes);

/* What was written and not flushed may be gone: U and F become D, and what is
 * under way comes into conflict (R6a).  So does what is leased, which becomes D
 * as well: it may have been acknowledged already, and a server that could not
 * write it out says so only once, here.  So the epoch can stay.
 */
extern void tracker_mirror_lost (struct tracker *t);

/* ---- Leases (R3 to R6a) ------------------------------------------------ */

/* D to L for up to max_bytes (at least one chunk) in at most max_extents
 * ranges, looking from 'cursor' (bytes, rounded down to a chunk) to the end of
 * the disk, no wrap.  Chunks with L are passed over (R4).  The ranges are
 * appended to *out; the last is cut at the disk's end.  *next is where to go
 * on, disk_bytes when the end was reached.  -1 with errno ENOMEM: nothing was
 * taken, whatever is in *out.
 */
extern int tracker_take (struct tracker *t, uint64_t cursor, uint64_t max_bytes,
                         size_t max_extents, struct extents *out,
                         uint64_t *next);

/* The same without what is hot: what guests touched in each of the last two
 * rounds that have ended.  It would only be copied in vain.  A guest that
 * leaves it alone for a round makes it cold.
 */
extern int tracker_take_cold (struct tracker *t, uint64_t cursor,
                              uint64_t max_bytes, size_t max_extents,
                              struct extents *out, uint64_t *next);

/* A round of the copying ends and another begins: the caller's word. */
extern void tracker_begin_round (struct tracker *t);

/* The ranges must be whole chunks (the disk's end counts as one) that are all
 * leased: otherwise -1 with errno EINVAL and nothing has changed.  An 'epoch'
 * other than the present one turns done into failed.  'unknown': the write's
 * outcome is not known, so the chunks become Q as well (R17).  Skipped: done
 * without a write, so that W goes (R18); but not where the guest wrote
 * meanwhile.
 */
extern int tracker_done (struct tracker *t, const struct extents *e,
                         uint64_t epoch);
extern int tracker_skipped (struct tracker *t, const struct extents *e,
                            uint64_t epoch);
extern int tracker_failed (struct tracker *t, const struct extents *e,
                           bool unknown);

/* The same for chunks that were not touched when they were taken, and hold the
 * same as then: W goes, but not where the guest wrote meanwhile (R18).
 */
extern int tracker_put_back (struct tracker *t, const struct extents *e);

/* U to F; -1 with errno EBUSY if a flush is already under way. *epoch is the
 * present one, to be given to tracker_flush_end.
 */
extern int tracker_flush_begin (struct tracker *t, uint64_t *epoch);

/* -1 with errno EINVAL without a flush under way; F goes to D if 'success' is
 * false or the epoch is an older one.
 */
extern int tracker_flush_end (struct tracker *t, bool success, uint64_t epoch);

/* Raise the epoch: U and F become D (R6a).  Returns the new one; *again_bytes
 * (may be NULL): of the chunks that are dirty because of it, also those of
 * which a flush that failed, or the mirror, has told already.
 */
extern uint64_t tracker_lost (struct tracker *t, uint64_t *again_bytes);
extern uint64_t tracker_epoch (struct tracker *t);

/* The destination has taken so long to answer a write, or has not answered one
 * for so long (R17).
 */
extern void tracker_note_delay (struct tracker *t, uint64_t ms);

/* It is another destination, whose longest delay was that, or 0. */
extern void tracker_set_delay (struct tracker *t, uint64_t ms);

/* What may still land may do so from now on: the grace of all that is in Q
 * begins anew.
 */
extern void tracker_renew_quarantine (struct tracker *t);

/* Nothing can land any more: what is in Q may be read back now. */
extern void tracker_end_quarantine (struct tracker *t);

/* For another destination: nothing was ever written to this one, so nothing can
 * land there, or all of it may have been.
 */
extern void tracker_set_quarantined (struct tracker *t, bool quarantined);

/* As tracker_take, for chunks to read back and compare: without D, L, U and F.
 * 'quarantined': those with Q, and none until the grace period is over;
 * otherwise those without Q.  So between them the two cover all chunks, and
 * none is found equal while a late write may still come.  'touched' is always
 * true.
 */
extern int tracker_compare (struct tracker *t, bool quarantined,
                            uint64_t cursor, uint64_t max_bytes,
                            size_t max_extents, struct extents *out,
                            uint64_t *next);

/* The end of such a lease.  Equal: L goes, Q becomes U (a late write may have
 * put there what was read, so it takes a flush), but not where a guest has
 * written meanwhile: that may itself be of unknown outcome.  Not equal: L
 * becomes D, Q stays; the ranges (chunks) that no guest request touched
 * meanwhile are appended to *wrong: there the destination truly differs.  -1
 * with errno EINVAL as tracker_done, or ENOMEM: nothing has changed.
 */
extern int tracker_compared (struct tracker *t, const struct extents *e,
                             bool equal, struct extents *wrong);

/* Of ranges that are said to read as zeroes: what is left without the chunks
 * that a guest request has touched since the session began, or touches now.
 * There the plugin's word is not taken: a cache below may answer for what lies
 * under it.  *end: how far that goes, for want of room in max_extents.  -1 with
 * errno ENOMEM.
 */
extern int tracker_untouched (struct tracker *t, const struct extents *zero,
                              size_t max_extents, struct extents *out,
                              uint64_t *end);

/* ---- What is the same on both sides (R14) ------------------------------- */

/* A file keeps a mark for each chunk that may be different, and a mark may be
 * cleared where D = L = U = F = Q = 0 and nothing is in flight, once the source
 * was flushed after the chunk was read.
 *
 * Note which chunks are quiet: they are clean now.  Then flush the source.  Not
 * those that a guest has touched since the call before, unless 'touched_too':
 * the next write there would have to set the mark again.  False: nothing can be
 * said, since tracking is off, or a request is under way that began before.
 */
extern bool tracker_note_quiet (struct tracker *t, bool touched_too);

/* Those that have been quiet since, some words at a time: 64 chunks each, bits
 * past the last chunk are 1.  The one exception to what is said above: 'take'
 * is called with the lock held, so that no request enters before it returns. It
 * must be short, and call nothing of the tracker.  Nothing happens if chunks
 * have another size than that.
 */
typedef void tracker_quiet_taker (void *opaque, uint64_t word,
                                  const uint64_t *bits, size_t n);
extern void tracker_give_quiet (struct tracker *t, uint64_t chunk_bytes,
                                tracker_quiet_taker *take, void *opaque);

/* The source may hold something else there than what was read: these chunks, n
 * words of them, are dirty, those that are leased as well; bits past the last
 * chunk are 0.  All are, if chunks have another size than that.
 */
extern void tracker_source_lost (struct tracker *t, uint64_t chunk_bytes,
                                 uint64_t word, const uint64_t *bits, size_t n);

/* Before the first request: tracking is on, these chunks are dirty, in words as
 * above, and only they may be in Q; W is set everywhere (R18).
 */
extern void tracker_restore (struct tracker *t, const uint64_t *dirty,
                             bool quarantined);

/* ---- More of leases ----------------------------------------------------- */

/* What was left out because it read as zeroes did not: every chunk is dirty,
 * those that are leased as well.
 */
extern void tracker_distrust (struct tracker *t);

/* ---- Gate and commit (R8 to R10) --------------------------------------- */

/* Close the gate for at most deadline_ms.  The token, or 0 if it is closed
 * already or tracking is off.  Every request held by the hold before passes
 * first, so that no chain of holds can keep one for longer than a deadline.
 */
extern uint64_t tracker_hold (struct tracker *t, unsigned deadline_ms);

/* Wait until the gate is open. */
extern void tracker_wait_open (struct tracker *t);

enum tracker_drain { DRAIN_DONE, DRAIN_WAIT, DRAIN_EXPIRED };

/* Wait, at most 'ms', until nothing is in flight under this hold (R9). */
extern enum tracker_drain tracker_wait_drained (struct tracker *t,
                                                uint64_t token, unsigned ms);

/* Open the gate.  -1 with errno ETIMEDOUT if the token is void, EBUSY between
 * tracker_commit_begin and tracker_commit_end.  *pause_us is how long it was
 * shut.
 */
extern int tracker_release (struct tracker *t, uint64_t token,
                            uint64_t *pause_us);

/* First step of a commit: -1 with errno ETIMEDOUT if the token is void, EBUSY
 * if something is still dirty, leased, unflushed, being flushed, quarantined
 * or in flight, or a flush is not ended, EINVAL if the hold is committed
 * already or the source is not the owner.  After success neither deadline nor
 * session end opens the gate until tracker_commit_end, which the same thread
 * must call.  'patience_ms' is for a disk that is cut over with others: so much
 * longer than the deadline the gate stays shut once the new owner is in effect,
 * unless it is released, the commit is taken back or the session ends (R10).
 */
extern int tracker_commit_begin (struct tracker *t, uint64_t token,
                                 unsigned patience_ms);

/* Second step, once the record is durable: the new owner (the same for a
 * detach) takes effect with the gate still shut.  recorded == false: the owner
 * is the one before tracker_commit_begin and 'owner' is not looked at.  The
 * deadline counts again, with the patience only if it is recorded; if it has
 * passed, or the session has ended, the gate opens here.
 */
extern void tracker_commit_end (struct tracker *t, bool recorded,
                                enum owner owner);

/* Take a commit back while the gate is shut, around the restoring of the old
 * record.  -1 with errno ETIMEDOUT if the token is void, EINVAL if the hold is
 * not committed.  tracker_commit_end (t, false, old_owner) ends it, or (t,
 * true, owner) if the old record could not be restored.
 */
extern int tracker_rollback_begin (struct tracker *t, uint64_t token);

/* Settle the owner from outside a session: at start and for 'reopen'.  With
 * 'all_dirty', every chunk is dirty for the next session (R20), and none counts
 * as untouched by an earlier run (R18).  Not for taking the disk from an owner
 * that is being served: nothing may be in flight then (asserted).
 */
extern void tracker_set_owner (struct tracker *t, enum owner owner,
                               bool all_dirty);

/* Another grace period than QUARANTINE_GRACE_MS (tests). */
extern void tracker_set_grace (struct tracker *t, unsigned ms);

/* ---- Looking ----------------------------------------------------------- */

struct tracker_status {
  enum owner owner;
  bool tracking;
  enum gate_state gate;
  uint64_t disk_bytes;
  uint64_t chunk_bytes;
  uint64_t epoch;
  uint64_t dirty_bytes; /* these five count whole chunks, cut at the end */
  uint64_t leased_bytes;
  uint64_t unflushed_bytes; /* U and F */
  uint64_t quarantined_bytes;
  uint64_t quarantine_ms;   /* how long until those may be read back */
  uint64_t delay_ms;        /* the longest that was noted of this destination */
  uint64_t remaining_bytes; /* D + L + in flight (R9), at most the disk */
  uint64_t in_flight_bytes;
  uint64_t in_flight_requests;
  uint64_t hot_bytes;    /* dirty and hot (chunks.h) */
  uint64_t guest_bytes;  /* chunks that guests touched in this session */
  struct dirt dirt;      /* what guests did since tracking began */
  struct dirt dirt_rate; /* and of late, in bytes per second */
  uint64_t mirrored_in_flight;
  /* Since the session began: requests that went to both sides, their bytes, and
   * those that did not although requests were mirrored.
   */
  uint64_t mirrored, mirrored_bytes, not_mirrored;
  uint64_t gates_expired; /* deadlines that passed */
  uint64_t last_pause_us;
};

extern void tracker_get_status (struct tracker *t, struct tracker_status *s);

#endif /* NBDMIGRATE_TRACKER_H */
