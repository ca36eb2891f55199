/* SPDX-License-Identifier: BSD-3-Clause */
/* One disk of a migration: its servers, its session, its leases.
 *
 *   disk-open.c     both endpoints and the control connection, checked
 *   disk-begin.c    the session
 *   disk.c          leases: taking, copying, reporting
 *   disk-extents.c  what of them reads as zeroes
 *   disk-kept.c     some of what was copied, to be looked at in the end
 *   latest.c        what was copied last, to be looked at after a loss
 *   checkpoint.c    flushes while a pass goes on
 *   renew.c         connections that were closed
 *   reconnect.c     a destination that was lost
 *   sockets.c       the filter is told of new ones
 *   widen.c         more of them to the source
 *
 * It knows nothing of other disks.  Errors go to settings->failure.
 */

#ifndef NBDMIGRATE_DISK_H
#define NBDMIGRATE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/failure.h"
#include "base/loop.h"
#include "base/options.h"
#include "bitmap.h"
#include "copy/copier.h"
#include "disk/latest.h"
#include "disk/reconnect.h"
#include "disk/renew.h"
#include "disk/widen.h"
#include "extents.h"
#include "nbd/endpoint.h"
#include "nbd/wire.h"
#include "policy/bucket.h"
#include "policy/mirror.h"
#include "policy/take.h"
#include "proxy/control.h"

struct disks;

/* Observers.  Something was decided, and why. */
typedef void disk_decided (const char *decision, const char *reason);

/* The destination was lost, and the proxy knows what that costs; and it is
 * back (reconnect.h).
 */
struct disk;
struct disk_observer {
  void (*lost) (struct disk *d);
  void (*back) (struct disk *d);
};

/* The same for all disks of a migration; nothing of it is owned. */
struct disk_settings {
  const struct options *options;
  struct loop *loop;
  struct failure *failure;
  struct bucket *bucket;
  int cancel_fd;   /* readable: connecting is not to be waited for */
  size_t nr_disks; /* that share what may be in flight */
  uint64_t sample_seed;
  disk_decided *decided;
  const struct disk_observer *observe;
};

#define DISK_KEPT 32
#define DISK_KEPT_BYTES 4096 /* one of them, at most */
#define DIGEST_TEXT_BYTES 65 /* SHA-256, hexadecimal, with the final 0 */

enum pass_kind {
  PASS_COPY,       /* what is dirty */
  PASS_QUARANTINE, /* read back what may have been written late (R17) */
  PASS_VERIFY,     /* read back what was copied (--verify) */
};

/* What became of the commit of a disk. */
enum outcome {
  OUTCOME_REFUSED, /* the source's, as before */
  OUTCOME_COMMITTED,
  OUTCOME_LOST,    /* the answer, and nobody could be asked */
  OUTCOME_UNKNOWN, /* to the proxy itself, which serves nobody (R10) */
};

struct disk {
  struct disks *disks; /* that it is one of: for who stands above */
  const struct disk_settings *settings;
  const struct pair *pair; /* not owned */
  const char *base_uri;    /* --shared-base of it, not owned; or NULL */
  struct endpoint *source, *destination;
  bool destination_is_full; /* it admits no more connections */
  struct endpoint *base;    /* --shared-base, or NULL */
  /* To the destination, too, but nothing is ever written over it: what it sees
   * was kept by the server.  NULL: there is no such connection.
   */
  struct endpoint *reader;
  struct wire from_wire, to_wire; /* of closed connections to both sides */
  char *control_path;
  struct control *control;
  struct ledger *ledger; /* of the destination's connections, or NULL */
  struct copier *copier;

  uint64_t disk_bytes;
  uint64_t chunk_bytes;
  uint64_t max_gate_ms;
  uint64_t epoch; /* of the destination connections (R6a) */
  bool resumed;
  bool past_unknown; /* the filter does not know what the destination held */
  /* The URI of the server where the disk is, NULL: it is in the proxy's local
   * image; and what that server calls itself if it is a proxy, or NULL.
   */
  char *place, *place_id;
  /* --incremental: where the migration before us went, or NULL; and why there
   * is no detach to go on from (static), NULL: it ended in one.
   */
  char *latest;
  const char *no_detach;
  uint64_t settle_ms;   /* for which 'begin' waits at least */
  bool attached;        /* the filter told about it */
  bool is_there;        /* where it is to go */
  bool owned_elsewhere; /* not by the source: an earlier run cut over */
  bool beginning;       /* asked for our session, not yet answered */
  bool begun;           /* our session exists */
  char *not_shared; /* why the proxy does not share memory, or NULL; owned */
  bool distrusted;  /* it does not hold what was copied to it */

  /* The pass under way. */
  enum pass_kind pass_kind;
  bool began_to_copy; /* there was a pass */
  uint64_t cursor;    /* where the next take begins */
  bool swept;         /* the cursor has reached the end */
  bool stopped;       /* nothing more is to be taken: disk_stop_taking */
  bool take_pending;
  struct take take;
  uint64_t taken_bytes; /* in this pass */
  bool new_round;       /* nothing was taken in it yet */
  bool not_hot;         /* what guests write again and again is left dirty */
  bool bulk;            /* no pass of this run has come to its end yet */
  bool checkpoints;     /* it goes on for long: flushes beside the copying */

  struct question {
    uint64_t ticket, offset, length;
    int64_t asked_us;
  } question;             /* of the copier, to the filter */
  bool zeroes_distrusted; /* a sample of them was not zero */

  struct bitmap unverified; /* --verify: of any run, not yet read back */

  /* Ended parts, not yet reported to the filter. */
  struct extents skipped, done, failed, unknown, equal, different;
  unsigned reports_pending; /* reported, not yet answered */
  uint64_t reported_bytes;  /* of skipped and done */
  int64_t next_report_us;

  /* The flush beside the copying. */
  enum checkpoint {
    CHECKPOINT_NO,
    CHECKPOINT_BEGIN,
    CHECKPOINT_FLUSH,
    CHECKPOINT_END
  } checkpoint;
  int64_t next_checkpoint_us;
  uint64_t flush_us; /* the latest of them took */

  struct renewal renewal, reader_renewal;
  struct reconnect reconnect;
  struct widening widening;

  /* The proxy's own connections to the destination: see liveness.c. */
  struct relay_life {
    bool pending;            /* asked, not yet answered */
    bool away;               /* it is connecting again */
    int64_t sent_us;         /* when it was asked last */
    int64_t begun_us;        /* the same, of the latest round trip */
    int64_t asked_us;        /* the same, of the latest that was answered */
    int64_t silent_since_us; /* 0: it is not */
  } relay_life;

  uint64_t busy_us; /* of the copier, when it was last measured */

  char *token; /* of the present hold, or NULL */
  bool held;   /* gates_open: it was valid until then */
  enum outcome outcome;
  char *owner; /* as outcome_ask_all was told, or NULL */

  /* The filter's latest status. */
  bool status_pending;
  uint64_t remaining_bytes;
  uint64_t copied_bytes; /* or left out; of whole chunks */
  uint64_t told_bytes;   /* of those: the filter knew when it said that */
  uint64_t quarantined_bytes;
  uint64_t quarantine_ms;   /* until those may be read back */
  uint64_t old_connections; /* of earlier runs, with writes unanswered */
  uint64_t unanswered_ms;   /* for how long */
  uint64_t source_late_ms;  /* a write may land at the source; 0: none can */
  uint64_t record_us;       /* writing the owner record took, of late */
  uint64_t dirty_rate;      /* bytes per second */

  /* What guests do, by the same status; bytes per second of late.  And what the
   * filter was asked to do about them (run/guests.c).
   */
  struct disk_load {
    uint64_t write_rate, touch_rate, redirty_rate;
    uint64_t guest_bytes, hot_bytes;
    enum mirror_state mirror;
    uint64_t demotions, throttle;
    uint64_t mirrored_writes, not_mirrored_writes; /* of this session */
    uint64_t mirror_asked_ms; /* how long a guest waits for it; 0: off */
    bool mirror_pending, mirror_refused;
    bool throttle_pending;
    uint64_t throttle_asked;
  } load;

  /* How long the guests' requests took of late, as the filter sees it. */
  struct disk_latency {
    uint64_t requests, mean_us, most_us; /* most: what 99 of 100 keep to */
  } guest_reads, guest_writes;

  /* A random choice of places that were copied as data; and what was found
   * there in the end.
   */
  struct kept {
    uint64_t hash, offset;
  } kept[DISK_KEPT];
  unsigned nr_kept;
  struct latest latest_places; /* that were copied, by the run before, too */
  uint64_t map_questions;      /* that were asked (trust/map.c) */
  uint64_t marked_bytes;       /* written by trust/canary.c, besides the copy */
  unsigned sampled_places;     /* the last time */
  uint64_t sampled_bytes;
  const char *sampled_over; /* NULL: nothing was; static */

  char digest[DIGEST_TEXT_BYTES]; /* --digest; empty if not asked for */
  uint64_t digested_bytes;        /* how far it is */

  struct control_answer answer; /* to the last drive_ask_all */
};

/* ---- opening ----------------------------------------------------------- */

/* Connect to both sides and to the control socket, and check everything that
 * can be checked before a byte is written.  -1 after saying what is wrong.
 */
extern int disk_open (struct disk *d, const struct pair *pair,
                      const char *base_uri,
                      const struct disk_settings *settings);

/* Second step, once all disks of the migration passed the first: the other
 * connections.  This may wait for long, and no heartbeat goes out meanwhile: no
 * disk may have a session yet.
 */
extern int disk_widen (struct disk *d);

/* To a server, of which as many are used as help. */
extern unsigned disk_connections (const struct disk *d);

/* What connections to the source ask for. */
extern const struct connection_options disk_source_options;

/* What every connection to the destination but the first one asks for. */
extern const struct connection_options disk_more_options;

/* What was kept by the destination is best seen over this: the reader, or the
 * connections that wrote if there is none, or none any more.
 */
extern struct endpoint *disk_reader (const struct disk *d);

/* When nothing will be written any more: the connections that wrote make room
 * for readers.  -1 after failure_note.
 */
extern int disk_widen_reader (struct disk *d);

/* Third step, once all disks passed the second: ask for the session, tracking
 * on (R1).  d->beginning until that was answered, or nobody waits for it any
 * more; then disk_check_begun: -1 after failure_note.
 */
extern void disk_begin (struct disk *d);
extern int disk_check_begun (struct disk *d);

/* What it says then of the destination, for which ranges may be left out; the
 * caller frees it.
 */
extern char *disk_promise (const struct disk *d);

/* failure_note: the destination is where the disk is.  -1. */
extern int disk_fail_is_there (struct disk *d);
extern void disk_close (struct disk *d);

/* Whether the source is read through memory that its proxy shares; if not, why,
 * or NULL as long as that is not known.
 */
extern bool disk_is_shared (const struct disk *d, const char **why);

/* Whether its proxy can be asked. */
extern bool disk_is_connected (const struct disk *d);

/* ---- leases ------------------------------------------------------------ */

/* The copier's callback: a part of a leased range ended. */
extern copier_ended disk_part_ended;

/* disk-extents.c: its questions, and what a sample has found. */
extern copier_ask disk_ask_extents;
extern copier_distrusted disk_distrust;
extern copier_not_blank disk_not_blank;

/* disk-kept.c: data was written. */
extern copier_wrote disk_wrote;

/* Bytes copied or left out and not yet read back; 0 without --verify. */
extern uint64_t disk_unverified_bytes (const struct disk *d);

/* What remains by now: as the filter said last, less what was copied since. */
extern uint64_t disk_remaining_bytes (const struct disk *d);

/* The filter is asked for its status; and what it says of the disk. */
extern void disk_ask_status (struct disk *d);
extern void disk_note_status (struct disk *d, const json_t *status);

/* Whether it says that guests' writes are mirrored; NULL says nothing. */
extern bool disk_is_mirrored (const json_t *status);

/* Whether nothing can be said yet of what an earlier run has written (R17). */
extern bool disk_waits_for_late_writes (const struct disk *d);

/* Why the destination may hold something else than it should, and what to do
 * then; "": nothing that the options would tell.
 */
extern const char *disk_wrong_hint (const struct disk *d);

extern void disk_start_pass (struct disk *d, enum pass_kind kind,
                             bool checkpoints, bool bulk);
extern void disk_stop_taking (struct disk *d);

/* All that was to be taken has been, has ended and is reported: the cursor may
 * go round once more.  A pass is running also while something is flushed.
 */
extern bool disk_is_swept (const struct disk *d);
extern bool disk_pass_running (const struct disk *d);

/* Whether requests of the copying are under way. */
extern bool disk_is_moving (const struct disk *d);

/* Take more if the copier runs low, report what ended. */
extern void disk_feed (struct disk *d);
extern void disk_report (struct disk *d);

/* ---- checkpoint.c ------------------------------------------------------ */

/* Begin or go on with a flush of the destination beside the copying, so that
 * what was copied so far survives an interruption.
 */
extern void checkpoint_run (struct disk *d, int64_t now_us);

/* Begin one now; none may be under way. */
extern void checkpoint_begin (struct disk *d);
extern bool checkpoint_running (const struct disk *d);

#endif /* NBDMIGRATE_DISK_H */
