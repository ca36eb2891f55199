/* SPDX-License-Identifier: BSD-3-Clause */
/* What to do next: another round of copying, the pause, or giving up; and which
 * measures help against a guest that writes faster than is copied.
 *
 * A pure function of what was measured and of what was decided before: no
 * clock, no file descriptor, no disk.  Who asks it carries the decision out,
 * measures and asks again.
 *
 *   a round   flush, ask what remains, predict the pause
 *   it fits           settle, read back what must be, pause (or stay ready)
 *   it does not       another round; mirror late, throttle last; or give up
 *                     when nothing helps
 *
 * policy_step is asked at the end of each round, policy_beat at each heartbeat
 * between.  Why the numbers are what they are: docs/policy.md.
 */

#ifndef NBDMIGRATE_POLICY_H
#define NBDMIGRATE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/forecast.h"
#include "policy/mirror.h"
#include "policy/throttle.h"

/* Rounds to shorten the pause further although it would fit already; and how
 * often what was copied is read back before the pause has to.
 */
#define POLICY_SETTLE_ROUNDS 3

/* The pause is tried at a local minimum: when it is no longer than the shortest
 * of the last rounds by more than so many hundredths, or by this much; but once
 * it fits, no more rounds than these are spent on finding one.
 */
#define POLICY_WINDOW 5
#define POLICY_NEAR_PERCENT 4
#define POLICY_NEAR_MS 1

/* What is copied in a pause that fits may take so long.  Otherwise guests'
 * writes are mirrored, if a write costs less than that part of it; and so many
 * rounds copy what was dirty before.  What guests make dirty in this time until
 * the gate is shut counts.
 */
#define POLICY_SHORT_US 3000
#define POLICY_SHORT_DIVISOR 2
#define POLICY_SHORT_ROUNDS 2
#define POLICY_SHORT_AHEAD_MS 10

/* Each pause that missed its deadline makes the next prediction longer by this
 * part of it.
 */
#define POLICY_MISSED_DIVISOR 8

/* So many in a row are the end, whatever there is left to try. */
#define POLICY_MISSES_MAX 40

/* A guest has to be too fast for so long, which is longer than a burst. */
#define POLICY_OUTRUN_US (INT64_C (3) * 1000000)

/* --max-pause-late is allowed so long after the bulk unless the user says
 * otherwise (--patience).
 */
#define POLICY_PATIENCE_DEFAULT_MS 60000

/* What may be done about a guest that is too fast (--converge). */
enum policy_converge {
  CONVERGE_OFF, /* nothing: give up */
  CONVERGE_AUTO,
  CONVERGE_MIRROR,
  CONVERGE_THROTTLE,
};

extern const char *policy_converge_name (enum policy_converge converge);
/* -1 if the text is no such name. */
extern int policy_converge_parse (const char *text,
                                  enum policy_converge *converge);

/* What was measured, when a decision was carried out (policy_step) or now
 * (policy_beat), of all disks together.  What is not known is 0.  Bytes a
 * second are of late.
 */
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

  /* What is allowed; all of it may change at any time ('nbdmigrate set'). */
  enum policy_converge converge;
  bool explain;               /* --policy=explain: say what would be done */
  unsigned background;        /* --background, 0 to 100 */
  uint64_t max_pause_late_ms; /* allowed after patience_ms; 0: no such limit */
  uint64_t patience_ms;       /* counted from the end of the bulk */
  uint64_t throttle_floor;    /* bytes per second */

  int64_t now_us;       /* monotonic */
  int64_t bulk_end_us;  /* when the first round had ended; 0: it has not */
  uint64_t disk_bytes;  /* of all disks */
  uint64_t overhead_us; /* of the pause: flush and round trips */
  uint64_t flush_us;    /* the flush of it, and recording the owner */

  /* The guests, as the filters' status has it, sums over the disks. */
  uint64_t write_rate;   /* changed_bytes_per_second */
  uint64_t touch_rate;   /* touched_bytes_per_second: whole chunks */
  uint64_t dirty_rate;   /* dirty_bytes_per_second */
  uint64_t redirty_rate; /* redirtied_bytes_per_second */
  uint64_t guest_bytes;  /* chunks that they touched in this session */
  uint64_t hot_bytes;    /* dirty, and touched in each of the last two rounds */

  /* How fast the copy could go: of the time in which something was copied and
   * 'rate' did not hold it up (meter_bandwidth).
   */
  uint64_t copy_rate;
  uint64_t pace;           /* by the clock, zeroes and all (meter_pace) */
  uint64_t destination_us; /* the fastest write of the copy, of late */

  /* In force, as the filters say. */
  enum mirror_state mirror; /* MIRROR_ON: on all disks */
  unsigned demotions;       /* of this session, the sum over the disks */
  bool mirror_refused;      /* 'mirror' cannot be had */
  /* Of guests, while it was on, in this session. */
  uint64_t mirrored_writes, not_mirrored_writes;
  bool quiet_known;       /* what guests do while nothing is copied */
  unsigned kept_beside;   /* of that beside the copy, in hundredths */
  unsigned kept_mirrored; /* of that with it on; 0, of either: not known */
  uint64_t throttle;      /* bytes per second, 0: none */
};

enum policy_action {
  POLICY_ROUND,   /* copy what became dirty */
  POLICY_LATE,    /* wait for late writes, and read back where they may be */
  POLICY_VERIFY,  /* read back what was copied, then a round */
  POLICY_READY,   /* stay in sync for a moment */
  POLICY_PREPARE, /* for the end that is wished */
  POLICY_PAUSE,   /* try to cut over, within measures.max_pause_ms */
  POLICY_GIVE_UP,
};

extern const char *policy_action_name (enum policy_action action);

/* What is to be in force from now on.  Who asked brings it about: whatever
 * differs from what was asked of the filters before is asked anew.
 */
struct policy_measures {
  bool mirror;
  uint64_t mirror_wait_ms; /* max_ms of the filter's 'mirror' */
  uint64_t throttle;       /* bytes per second of all disks together, 0: none */
  bool hot_last;           /* 'take' with "not_hot": true */
  uint64_t max_pause_ms;   /* --max-pause, or --max-pause-late */
};

#define POLICY_REASON_MAX 256

/* For an event, each with its figures. */
struct policy_change {
  const char *what; /* static: "mirror", "throttle", "hot-last", "max-pause" */
  bool would;       /* --policy=explain: it is not in the measures */
  char reason[POLICY_REASON_MAX];
};

#define POLICY_CHANGES_MAX 6

struct policy_decision {
  enum policy_action action; /* of policy_beat: it says nothing */
  char reason[POLICY_REASON_MAX];
  struct policy_measures measures;
  unsigned nr_changes; /* of the measures, in this decision */
  struct policy_change changes[POLICY_CHANGES_MAX];
};

/* How rounds went since the measures were last changed. */
struct policy_course {
  uint64_t best_bytes; /* that one of them left; 0: none yet */
  unsigned stale;      /* rounds in a row that did not make it less */
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
  unsigned missed;                /* pauses in a row */
  bool late_awaited;              /* before the pause to come */
  uint64_t window[POLICY_WINDOW]; /* the pauses of the last rounds */
  unsigned nr_measured;

  int64_t outrun_since_us; /* the guest has been too fast since, or 0 */
  bool outrun_said;

  /* measures.c */
  struct policy_measures measures; /* since the last decision */
  struct policy_course course;
  struct mirror mirror;
  bool mirror_was_on;      /* since it was begun */
  unsigned slow_rounds;    /* in a row it was not begun for that */
  uint64_t left_bytes;     /* by the round before; 0: that was the bulk */
  unsigned shorten_rounds; /* with it on, for a shorter pause */
  struct policy_share {    /* of guests' writes that are mirrored */
    uint64_t mirrored, not_mirrored; /* when it was last looked at */
    unsigned small_rounds;           /* in a row it was next to nothing */
    unsigned failures;               /* by that, whatever time it was on */
  } share;
  struct policy_growth {        /* of what guests have touched */
    uint64_t guest_bytes, rate; /* when it was last looked at; per second */
    int64_t at_us;
    bool known; /* it was looked at twice */
  } growth;
  uint64_t touched_alone; /* bytes a second, by guests, when it was begun */
  bool was_dear;          /* in the bulk, so that it was ended */
  int64_t calm_since_us;  /* --wait: it was not needed since, or 0 */
  struct throttle throttle;
  bool throttle_needed;
  uint64_t throttle_said;
  uint64_t hot_said; /* bytes, or 0 */
  int64_t hot_said_us;
  int64_t diverges_since_us; /* the outlook is bad since, or 0 */
  bool late_said;
  int64_t asked_since_us; /* the bulk is over and nobody waits, or 0 */
};

extern void policy_init (struct policy *p);

/* Somebody has changed what the pause or the copy may cost. */
extern void policy_forget_misses (struct policy *p);
extern void policy_forget_forecast (struct policy *p);

/* What is dirty was not made so by guests: what rounds have left says nothing
 * of those to come.
 */
extern void policy_forget_rounds (struct policy *p);

/* A destination was away for so long, in which nothing could be tried: it does
 * not count towards patience_ms.
 */
extern void policy_was_away (struct policy *p, int64_t us);

/* Somebody has said anew what may be done: what failed is tried again. */
extern void policy_forget_failures (struct policy *p);

/* At the end of a round, and once the last decision was carried out. */
extern struct policy_decision policy_step (struct policy *p,
                                           const struct policy_snapshot *s);

/* At each heartbeat while a round is under way: only the measures and what is
 * said of them.  A mirror is begun in a round only if the outlook was bad for
 * POLICY_OUTRUN_US: a bulk may take hours.
 */
extern struct policy_decision policy_beat (struct policy *p,
                                           const struct policy_snapshot *s);

/* How long the pause may be now, by --max-pause or --max-pause-late. */
extern uint64_t policy_max_pause_ms (const struct policy *p,
                                     const struct policy_snapshot *s);

/* What the load of late comes to, for progress, status and events. */
extern struct forecast_outlook policy_outlook (const struct policy_snapshot *s);

/* What giving up would have needed, with figures: a longer pause, a faster
 * copy, a slower guest.  Returns 'text'.
 */
extern const char *policy_needed (const struct policy *p,
                                  const struct policy_snapshot *s,
                                  char text[POLICY_REASON_MAX]);

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
