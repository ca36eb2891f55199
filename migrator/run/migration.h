/* SPDX-License-Identifier: BSD-3-Clause */
/* What a running migration is made of, besides its disks.
 *
 *   migrate.c              start and end, and what is said then
 *   converge.c             what the policy decides, carried out
 *   guests.c               the measures against guests that are too fast
 *   rounds.c               copying, round after round
 *   pass.c                 what stops it: a pass of another kind, a flush
 *   liveness.c             whether the destinations answer
 *   approach.c             the last rounds before the pause
 *   cut-over.c, outcome.c  hold, final pass, commit, and what became of it
 *   recover.c              what is done when a destination is lost
 *   heartbeat.c            what is told to the proxies, and wished there
 *   measure.c              how fast it goes
 *   background.c           how fast it may go, for the guest's sake
 *   paused.c               'nbdmigrate pause' and 'resume'
 *   check.c                --check
 *   tell.c                 how far it is, in words
 *   schedule.c             --finish-at and --window
 *   hook.c                 --hook
 */

#ifndef NBDMIGRATE_MIGRATION_H
#define NBDMIGRATE_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "disks/drive.h"
#include "policy/background.h"
#include "policy/meter.h"
#include "policy/policy.h"
#include "run/rounds.h"
#include "show/events.h"

enum phase {
  PHASE_CONNECT,
  PHASE_BULK,
  PHASE_DIRTY,
  PHASE_VERIFY,
  PHASE_LATE, /* what an earlier run has sent is waited for, and read back */
  PHASE_RECONNECT, /* a destination was lost, and is waited for */
  PHASE_READY,     /* --wait: converged, kept in sync */
  PHASE_FINAL,
  PHASE_DIGEST, /* --digest: cut over, and our sessions have ended */
  PHASE_DONE,
};

extern const char *phase_name (enum phase phase);

struct migration {
  struct disks disks;

  /* In force; wishes may change them. */
  bool wait;
  bool finish_wished; /* 'nbdmigrate finish' came: finish_wish is the mode */
  enum finish finish_wish;
  bool hook_owed;   /* it was run before the pause, and not yet after it */
  bool hook_failed; /* before the pause, the last time */
  unsigned hook_failures; /* the same, in a row */
  bool hook_late;         /* run after it early: no pause after this attempt */
  pid_t hook_pid;         /* while it runs, or 0 */
  int64_t hook_until_us;  /* when it is run after it at last, or 0 */
  bool finish_by_hand; /* it was obeyed: the schedule does not count any more */
  bool schedule_told, schedule_open; /* as it was looked at last */
  time_t schedule_opens;             /* next; 0: it is, or never */
  bool paused;           /* nothing is copied, until 'nbdmigrate resume' */
  uint64_t max_pause_ms; /* disks.max_pause_ms may be --max-pause-late */
  enum policy_converge converge;

  enum phase phase;
  unsigned passes; /* that copied something, the bulk pass included */
  struct meter meter;
  struct rounds rounds;
  uint64_t behind_bytes; /* dirty, but left to the next pass */
  struct policy policy;
  struct policy_measures measures; /* that were decided last */
  bool sampled;         /* evidence_copied, for the cut-over to come */
  unsigned losses;      /* of destinations, by now */
  bool missed;          /* the pause was tried just now, in vain */
  bool narrow;          /* rounds are written over few connections (copier.h) */
  uint64_t flush_us;    /* the latest flush of all destinations */
  bool long_flush_said; /* since it was ready last */
  struct forecast_trips trips;
  uint64_t predicted_ms; /* the pause, FORECAST_NEVER if not known */
  uint64_t overhead_us;  /* of it: the flush, and round trips */
  int64_t started_us;    /* monotonic */
  int64_t bulk_end_us;   /* the same; 0: it has not ended */
  int64_t next_heartbeat_us;
  unsigned publishing; /* heartbeats not yet answered */
  int64_t next_show_us;
  int64_t next_log_us; /* --progress=log */
  bool interrupted;    /* by a signal */
  bool timed_out;      /* --timeout has passed */
  bool may_be_done;    /* a commit was asked for, and not refused */
  bool committing;     /* asked for, on whichever disk */
  bool complete;       /* cut over: only a digest can be missing */
  bool forget;         /* cancelled by request: stop tracking, too */
  struct pause pause;  /* the latest */
  int64_t pause_begun_us, step_begun_us; /* of it */

  struct background background;
  struct background_sample sample; /* as far as it has come */
  size_t sampling;                 /* disks that have not answered yet */
  bool sample_lacks;               /* one is gone: the heartbeat says so */
  bool background_said;            /* that there is a limit */
  int64_t background_said_us;      /* when that was; 0: never */
};

static inline struct migration *
migration_of (struct disks *disks)
{
  return (struct migration *)((char *)disks -
                              offsetof (struct migration, disks));
}

extern void migrate_enter (struct migration *m, enum phase phase);

#endif /* NBDMIGRATE_MIGRATION_H */
