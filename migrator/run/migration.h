/* SPDX-License-Identifier: BSD-3-Clause */
/* What a running migration is made of.
 *
 * One thread, one event loop.  The files build on each other in this order:
 *
 *   disk-open.c    one disk: both endpoints and the control connection, checked
 *   disk-unique.c  no disk twice, in other words
 *   evidence.c     samples of what the destination holds
 *   canary*.c      each destination is the disk that it is taken for
 *   disk.c         its leases: taking, copying, reporting
 *   checkpoint.c   flushes while a pass goes on
 *   drive.c        one round of everything; questions to all filters at once
 *   renew.c        connections that were closed
 *   probe.c, liveness.c  whether the destinations answer
 *   pass.c         copy and compare passes, destination flushes
 *   cut-over.c     hold, final pass, commit, release
 *   outcome.c      what became of a commit whose answer was lost
 *   converge.c     the policy: another pass, cut over, or give up
 *   migrate.c      start and end, and what is said then
 *
 * meter.c measures; progress.c, progress-text.c and events.c show.
 */

#ifndef NBDMIGRATE_MIGRATION_H
#define NBDMIGRATE_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bitmap.h"
#include "policy/bucket.h"
#include "proxy/control.h"
#include "copy/copier.h"
#include "trust/digest.h"
#include "nbd/endpoint.h"
#include "extents.h"
#include "policy/forecast.h"
#include "policy/meter.h"
#include "base/failure.h"
#include "base/options.h"
#include "base/random.h"
#include "disk/renew.h"

struct migration;

#define EVIDENCE_KEPT 32

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
  struct migration *m;
  const struct pair *pair; /* not owned */
  struct endpoint *source, *destination;
  struct endpoint *base; /* --shared-base, or NULL */
  /* To the destination, too, but nothing is ever written over it: what it sees
   * was kept by the server.  NULL: there is no such connection.
   */
  struct endpoint *reader;
  char *control_path;
  struct control *control;
  struct ledger *ledger; /* of the destination's connections, or NULL */
  struct copier *copier;

  uint64_t disk_bytes;
  uint64_t chunk_bytes;
  uint64_t max_gate_ms;
  uint64_t epoch; /* of the destination connections (R6a) */
  bool resumed;
  bool past_unknown;    /* the filter does not know what the destination held */
  char *place_id;       /* of the proxy where the disk is, or NULL */
  char *detached_to;    /* --incremental: where to before us, or NULL */
  bool attached;        /* the filter told about it */
  bool owned_elsewhere; /* not by the source: an earlier run cut over */
  bool begun;           /* our session exists */

  /* The pass under way. */
  enum pass_kind pass_kind;
  uint64_t cursor; /* where the next take begins */
  bool swept;      /* the cursor has reached the end */
  bool take_pending;
  uint64_t take_bytes;

  struct question {
    uint64_t ticket, offset, length;
    int64_t asked_us;
  } question;             /* of the copier, to the filter */
  bool zeroes_distrusted; /* a sample of them was not zero */

  struct bitmap unverified; /* --verify: of any run, not yet read back */

  /* Ended parts, not yet reported to the filter. */
  struct extents skipped, done, failed, unknown, equal, different;
  unsigned reports_pending; /* reported, not yet answered */
  int64_t next_report_us;

  /* The flush beside the copying. */
  enum checkpoint {
    CHECKPOINT_NO,
    CHECKPOINT_BEGIN,
    CHECKPOINT_FLUSH,
    CHECKPOINT_END
  } checkpoint;
  int64_t next_checkpoint_us;

  struct renewal renewal, reader_renewal;

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
  uint64_t quarantined_bytes;
  uint64_t quarantine_ms;   /* until those may be read back */
  uint64_t old_connections; /* of earlier runs, with writes unanswered */
  uint64_t unanswered_ms;   /* for how long */
  uint64_t source_late_ms;  /* a write may land at the source; 0: none can */
  uint64_t dirty_rate;      /* bytes per second */

  /* A random choice of places that were copied as data; and what was found
   * there in the end.
   */
  struct kept {
    uint64_t hash, offset;
  } kept[EVIDENCE_KEPT];
  unsigned nr_kept;
  unsigned sampled_places; /* the last time */
  uint64_t sampled_bytes;
  const char *sampled_over; /* NULL: nothing was; static */

  char digest[DIGEST_TEXT_BYTES]; /* --digest; empty if not asked for */
  uint64_t digested_bytes;        /* how far it is */

  struct control_answer answer; /* to the last drive_ask_all */
};

enum phase {
  PHASE_CONNECT,
  PHASE_BULK,
  PHASE_DIRTY,
  PHASE_VERIFY,
  PHASE_READY, /* --wait: converged, kept in sync */
  PHASE_FINAL,
  PHASE_DIGEST, /* --digest: cut over, and our sessions have ended */
  PHASE_DONE,
};

struct migration {
  const struct options *options;
  uint64_t sample_seed;
  struct loop loop;
  struct bucket bucket;
  struct random random; /* begun with the seed */
  struct disk *disks;
  size_t nr_disks;

  struct watch signals; /* a signalfd */
  struct failure failure;
  int64_t stopped_us; /* when it was seen; 0: it was not */

  /* In force; wishes may change them. */
  enum finish finish;
  bool wait;
  bool finish_wished; /* 'nbdmigrate finish' came: finish_wish is the mode */
  enum finish finish_wish;
  uint64_t max_pause_ms;

  enum phase phase;
  size_t turn;     /* which disk is served first in the next round */
  unsigned passes; /* complete sweeps, the bulk pass included */
  struct meter meter;
  uint64_t behind_bytes;   /* dirty, but left to the next pass */
  int64_t outrun_since_us; /* the guest has been too fast since, or 0 */
  bool outrun_said;
  struct forecast forecast;
  uint64_t map_questions; /* that were asked (map.c) */
  uint64_t marked_bytes;  /* canary_check: written, besides what is copied */
  bool sampled;           /* evidence_copied, for the cut-over to come */
  bool verified;          /* --verify: the first reading back was done */
  unsigned missed_gates;  /* in a row */
  uint64_t flush_us;      /* the latest flush of all destinations */
  uint64_t predicted_ms;  /* the pause, FORECAST_NEVER if not known */
  int64_t started_us;     /* monotonic */
  int64_t next_heartbeat_us;
  unsigned publishing; /* heartbeats not yet answered */
  int64_t next_show_us;
  bool committing; /* asked for, on whichever disk */
  bool complete;   /* cut over: only a digest can be missing */
  bool forget;     /* cancelled by request: stop tracking, too */
  bool distrusted; /* --verify failed: what was copied must not count */
  double pause_ms; /* of the cut-over, as the guest saw it */
};

extern const char *phase_name (enum phase phase);

/* ---- disk-open.c ------------------------------------------------------- */

/* Connect to both sides and to the control socket, and check everything that
 * can be checked before a byte is written.  -1 after saying what is wrong.
 */
extern int disk_open (struct disk *d);

/* Once all are open: -1 after saying which disk was named twice. */
extern int disk_check_unique (struct migration *m);

/* ---- canary.c ---------------------------------------------------------- */

/* With the sessions begun and pivots prepared, and before anything is copied:
 * whether each destination is a disk of its own, no source, and one and the
 * same over all its connections.  -1 with m->failure.
 */
extern int canary_check (struct migration *m);

/* ---- evidence.c -------------------------------------------------------- */

/* The same, and before any mark is written: what is about to be left out must
 * be there.  -1 with m->failure.
 */
extern int evidence_before (struct migration *m);

/* This was written to the destination. */
extern void evidence_note (struct disk *d, uint64_t offset, uint64_t length);

/* Before the cut-over, over the connections that serve after it: a sample of
 * what was copied is there.  -1 with m->failure.
 */
extern int evidence_copied (struct migration *m);

/* ---- disk-open.c, again ------------------------------------------------ */

/* Second step, once all disks of the migration passed the first: the other
 * connections.  This may wait for long, and no heartbeat goes out meanwhile: no
 * disk may have a session yet.
 */
extern int disk_widen (struct disk *d);

/* What every connection to the destination asks for. */
extern struct connection_options
disk_destination_options (const struct disk *d);

/* What was kept by the destination is best seen over this: the reader, or the
 * connections that wrote if there is none, or none any more.
 */
extern struct endpoint *disk_reader (const struct disk *d);

/* When nothing will be written any more: the connections that wrote make room
 * for readers.  -1 with m->failure.
 */
extern int disk_widen_reader (struct disk *d);

/* Third step, once all disks passed the second: the session, tracking on (R1).
 */
extern int disk_begin (struct disk *d);
extern void disk_close (struct disk *d);

/* Whether its proxy can be asked. */
extern bool disk_is_connected (const struct disk *d);

/* ---- disk.c ------------------------------------------------------------ */

/* The copier's callback: a part of a leased range ended. */
extern copier_ended disk_part_ended;

/* disk-extents.c.  The copier's questions, and what a sample has found. */
extern copier_ask disk_ask_extents;
extern copier_distrusted disk_distrust;
/* And that data was written. */
extern copier_wrote disk_wrote;

/* Bytes copied or left out and not yet read back; 0 without --verify. */
extern uint64_t disk_unverified_bytes (const struct disk *d);

/* What the filter's status says of it. */
extern void disk_note_status (struct disk *d, const json_t *status);

/* Whether nothing can be said yet of what an earlier run has written (R17). */
extern bool disk_waits_for_late_writes (const struct disk *d);

/* Why the destination may hold something else than it should, and what to do
 * then; "": nothing that the options would tell.
 */
extern const char *disk_wrong_hint (const struct disk *d);

extern void disk_start_pass (struct disk *d, enum pass_kind kind);
extern bool disk_pass_running (const struct disk *d);

/* Take more if the copier runs low, report what ended. */
extern void disk_feed (struct disk *d);
extern void disk_report (struct disk *d);

/* ---- checkpoint.c ------------------------------------------------------ */

/* Begin or go on with a flush of the destination beside the copying, so that
 * what was copied so far survives an interruption.
 */
extern void checkpoint_run (struct disk *d, int64_t now_us);
extern bool checkpoint_running (const struct disk *d);

/* ---- drive.c ----------------------------------------------------------- */

/* One round: start, wait for at most timeout_ms, serve, heartbeat, show. */
extern void drive (struct migration *m, int timeout_ms);

/* Have the filters asked for what is wished by now. */
extern void drive_fetch_wishes (struct migration *m);

/* Bring the meter up to date. */
extern void drive_measure (struct migration *m);

/* The arguments of a command to one disk; may return NULL. */
typedef json_t *drive_arguments (struct disk *d);

/* Send a command to the filters of all disks, and drive until all have
 * answered (into d->answer).  Returns 0 if all said yes.  Errors are left to
 * the caller, who looks at the answers.
 */
extern int drive_ask_all (struct migration *m, const char *command,
                          drive_arguments *arguments);

/* The same with one disk; the arguments are stolen. */
extern int drive_ask (struct disk *d, const char *command, json_t *arguments);

/* The first answer that is an error, or NULL; and make an error of it. */
extern struct disk *drive_refused (struct migration *m);
extern void drive_fail_refused (struct migration *m, const char *doing);

/* ---- pass.c ------------------------------------------------------------ */

/* Sweep over all disks until it is done or the migration stops; deadline_us
 * (monotonic, 0: none) ends it early, too.  Returns true if it is complete.
 */
extern bool pass_run (struct migration *m, enum pass_kind kind,
                      int64_t deadline_us);

/* Before the end: give back what was not copied, wait (bounded) until nothing
 * is in flight any more and all is reported.  False if it took too long.
 */
extern bool pass_drain (struct migration *m);

/* Flush all destinations, told to the filters (R6).  0, or -1 with m->failure.
 */
extern int pass_flush (struct migration *m);

/* Bring remaining_bytes and so on up to date.  0, or -1 with m->failure. */
extern int pass_refresh (struct migration *m);

extern uint64_t pass_remaining (const struct migration *m);
extern uint64_t pass_dirty_rate (const struct migration *m);
extern uint64_t pass_quarantined (const struct migration *m);
extern uint64_t pass_unverified (const struct migration *m);

/* ---- cut-over.c -------------------------------------------------------- */

enum cut_over {
  CUT_DONE,
  CUT_MISSED, /* the deadline */
  CUT_WISHED, /* something else is wished: drive_fetch_wishes */
  CUT_FAILED,
  CUT_UNKNOWN
};

/* Close all gates, copy the rest, commit, open the gates. */
extern enum cut_over cut_over (struct migration *m);

/* Shut the gates of all disks, for --max-pause at most (R8): CUT_DONE, or
 * CUT_MISSED if a guest's requests did not end by then, or CUT_FAILED after
 * failure_note.  Whatever it returns, gates_open is to follow.
 */
extern enum cut_over gates_shut (struct migration *m);

/* Open all that we shut.  False if one had opened by itself before. */
extern bool gates_open (struct migration *m);

/* ---- outcome.c --------------------------------------------------------- */

/* Of the disks whose d->outcome is lost: reconnect and ask, for some seconds
 * (R11).  d->control may be NULL afterwards.
 */
extern void outcome_ask_lost (struct migration *m);

/* Ask every proxy once how its disk ended: sets outcome and owner of all. */
extern void outcome_ask_all (struct migration *m);

/* ---- converge.c -------------------------------------------------------- */

/* Passes and cut-overs until one succeeds, after the bulk pass.  Returns the
 * exit status; EXIT_FAILED also when m->failure says that it was
 * cancelled.
 */
extern int converge (struct migration *m);

/* For a pivot the filters connect to the destinations themselves, long before
 * the pause.  0, or -1 with the answers.
 */
extern int converge_prepare (struct migration *m);

/* ---- migrate.c --------------------------------------------------------- */

extern void migrate_enter (struct migration *m, enum phase phase);

/* Returns the exit status. */
extern int migrate (const struct options *options);

#endif /* NBDMIGRATE_MIGRATION_H */
