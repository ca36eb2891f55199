/* SPDX-License-Identifier: BSD-3-Clause */
/* What to do next: another round of copying, the pause, or giving up.
 *
 * A pure function of what was measured and of what was decided before: no
 * clock, no file descriptor, no disk.  Who asks it carries the decision out,
 * measures and asks again.
 *
 *   a round   flush, ask what remains, predict the pause
 *   it fits           settle, read back what must be, pause (or stay ready)
 *   it does not       another round, or give up when none helps
 */

#ifndef NBDMIGRATE_POLICY_H
#define NBDMIGRATE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/forecast.h"

/* Rounds to shorten the pause further although it would fit already; and how
 * often what was copied is read back before the pause has to.
 */
#define POLICY_SETTLE_ROUNDS 3

/* A guest has to be too fast for so long, which is longer than a burst. */
#define POLICY_OUTRUN_US (INT64_C (3) * 1000000)

/* What was measured when a decision was carried out. */
struct policy_snapshot {
  uint64_t predicted_ms; /* the pause, now; FORECAST_NEVER: not known */
  uint64_t max_pause_ms;
  uint64_t remaining_bytes;   /* D + L + in flight */
  uint64_t unverified_bytes;  /* --verify: copied, not yet read back */
  uint64_t quarantined_bytes; /* R17 */
  uint64_t rate;              /* bytes per second, 0: unlimited */
  bool late;                  /* a write may still land: to be waited for */
  bool wait;                  /* stay in sync until somebody wishes an end */
  bool finish_wished;         /* somebody does: another end may be chosen */
  bool ready;                 /* it was in sync until now */
  bool verify;                /* --verify */
  bool missed;                /* the pause was tried, and was too short */
};

enum policy_action {
  POLICY_ROUND,   /* copy what became dirty */
  POLICY_LATE,    /* wait for late writes, and read back where they may be */
  POLICY_VERIFY,  /* read back what was copied, then a round */
  POLICY_READY,   /* stay in sync for a moment */
  POLICY_PREPARE, /* for the end that is wished */
  POLICY_PAUSE,   /* try to cut over */
  POLICY_GIVE_UP,
};

extern const char *policy_action_name (enum policy_action action);

struct policy_decision {
  enum policy_action action;
  const char *reason; /* static */
};

/* What was decided so far. */
struct policy {
  enum policy_stage {
    POLICY_MEASURED, /* a round has ended */
    POLICY_SETTLES,
    POLICY_READS_BACK, /* what may have been written late */
    POLICY_VERIFIES,
    POLICY_VERIFIES_AGAIN, /* before anything else */
    POLICY_DECIDES,
    POLICY_TRIED, /* the pause, and nothing was cut over */
  } stage;
  unsigned rounds; /* of the present stage */
  uint64_t remaining_before;
  bool verified; /* --verify: the first reading back was begun */
  struct forecast forecast;
  unsigned missed; /* pauses in a row */

  int64_t outrun_since_us; /* the guest has been too fast since, or 0 */
  bool outrun_said;
};

extern void policy_init (struct policy *p);

/* Somebody has changed what the pause or the copy may cost. */
extern void policy_forget_misses (struct policy *p);
extern void policy_forget_forecast (struct policy *p);

extern struct policy_decision policy_step (struct policy *p,
                                           const struct policy_snapshot *s);

/* At each heartbeat while it copies: whether it has to be said, now and only
 * once, that the guest makes more dirty than is copied, long before that is a
 * reason to give up.  A small set that is written again and again does no harm:
 * the pause copies it.
 */
struct policy_speed {
  uint64_t dirty_rate, copy_rate;  /* bytes per second */
  uint64_t pause_ms, max_pause_ms; /* for what remains now */
};
extern bool policy_is_outrun (struct policy *p, const struct policy_speed *s,
                              int64_t now_us);

#endif /* NBDMIGRATE_POLICY_H */
