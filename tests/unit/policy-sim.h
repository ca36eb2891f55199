/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration in virtual time, for the policy: a disk of chunks, a guest, a
 * copy that goes round, a mirror, a throttle and the pause, a step a
 * millisecond.
 *
 * What is modelled is what the policy sees and what it decides on: chunks that
 * become dirty while they are copied, rates over the last second as the filter
 * has them, hot chunks, a destination that stalls, predictions that are a
 * little wrong.  What happens inside of a millisecond is not.
 */

#ifndef NBDMIGRATE_POLICY_SIM_H
#define NBDMIGRATE_POLICY_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "unit.h"

#include "policy/policy.h"

#define SIM_MiB (UINT64_C (1024) * 1024)
#define SIM_CHUNK (UINT64_C (64) * 1024)
#define SIM_CHUNKS_MAX 32768 /* 2 GiB */
#define SIM_IN_FLIGHT 64
#define SIM_SLOTS 10 /* of 100 ms: the filter's rates */
#define SIM_BEAT_MS 500
#define SIM_MIRROR_START_MS 20
#define SIM_READY_MS 200

/* ---- what is simulated ------------------------------------------------- */

enum sim_pattern { SIM_RANDOM, SIM_SEQUENTIAL };

struct sim_setup {
  const char *name;
  uint64_t disk_mib;
  /* The guest: what it would write, MiB a second, in requests of so many KiB,
   * in the first 'span' per mille of the disk.
   */
  double write_mib;
  unsigned request_kib;
  enum sim_pattern pattern;
  unsigned span;
  double growth_mib;      /* MiB a second more, each second */
  unsigned on_ms, off_ms; /* bursts; 0: always */
  unsigned quiet_ms[2];   /* a pause in the load: from, to */
  /* The way. */
  double copy_mib;
  unsigned latency_ms;     /* until the destination answers */
  unsigned overhead_ms;    /* of the pause */
  unsigned jitter_percent; /* of the pause, and of what is predicted */
  unsigned stall_ms[2];    /* the destination does not answer: from, to */
  bool no_mirror;          /* it is refused */
  unsigned kept_percent;   /* by a guest that is mirrored; 0: not known */
  /* What the user says. */
  struct policy_snapshot user;
  unsigned finish_ms; /* with 'wait': when it is asked to end */
};

struct sim_result {
  enum policy_action end; /* POLICY_PAUSE, POLICY_GIVE_UP; POLICY_ROUND: none */
  uint64_t ms;            /* it took, virtual */
  uint64_t bulk_ms;
  uint64_t pause_ms, limit_ms; /* of the last pause, and what was allowed */
  uint64_t longest_hold_ms;    /* of a guest, by pauses */
  unsigned pauses, rounds;
  uint64_t sent;    /* bytes copied */
  uint64_t written; /* bytes, by the guest */
  unsigned mirror_begins, demotions;
  uint64_t mirrored_ms, mirrored_bulk_ms;
  uint64_t throttle_min; /* UINT64_MAX: there was none */
  uint64_t throttled_ms;
  uint64_t hot_ms;
  uint64_t ready_ms;    /* when it was in sync first; 0: never */
  unsigned told, would; /* changes of measures */
  char last[POLICY_REASON_MAX];
};

struct sim_rates {
  uint64_t write, touch, dirty, redirty;
};

struct sim {
  const struct sim_setup *setup;
  uint64_t *seed;
  uint64_t now_ms;
  unsigned n;
  unsigned char chunk[SIM_CHUNKS_MAX];
  unsigned nr_dirty, nr_hot_dirty, nr_guest;
  struct {
    unsigned chunk;
    uint64_t end_ms;
  } flight[SIM_IN_FLIGHT];
  unsigned first, nr_flight;
  unsigned cursor;
  double way, rate; /* bytes that may be sent now, by what limits it */
  double write_budget;
  uint64_t sequential;
  struct sim_rates slot[SIM_SLOTS];
  enum mirror_state mirror;
  uint64_t mirror_at_ms; /* when it is on */
  uint64_t silent_since_ms;
  struct policy policy;
  struct policy_measures measures;
  struct policy_snapshot user;
  uint64_t bulk_end_ms;
  bool ready, missed;
  struct sim_result r;
};

enum {
  SIM_D = 1,     /* dirty */
  SIM_L = 2,     /* leased */
  SIM_G = 4,     /* the guest was here */
  SIM_NOW = 8,   /* in this round */
  SIM_LAST = 16, /* in the last one */
  SIM_HOT = 32,
};

/* ---- chunks ------------------------------------------------------------ */

static inline void
sim_set (struct sim *s, unsigned i, unsigned char bits)
{
  const unsigned char before = s->chunk[i], hot = SIM_HOT | SIM_D;

  s->nr_dirty += !!(bits & SIM_D) - !!(before & SIM_D);
  s->nr_guest += !!(bits & SIM_G) - !!(before & SIM_G);
  s->nr_hot_dirty += ((bits & hot) == hot) - ((before & hot) == hot);
  s->chunk[i] = bits;
}

static inline uint64_t
sim_remaining (const struct sim *s)
{
  return (s->nr_dirty + s->nr_flight) * SIM_CHUNK;
}

static inline struct sim_rates *
sim_slot (struct sim *s)
{
  return &s->slot[s->now_ms / 100 % SIM_SLOTS];
}

/* R12: mirrored if nothing there is dirty or leased; otherwise it marks. */
static inline bool
sim_write_chunk (struct sim *s, unsigned i)
{
  const unsigned char before = s->chunk[i];
  const bool mirrored =
    s->mirror == MIRROR_ON && (before & (SIM_D | SIM_L)) == 0;
  struct sim_rates *slot = sim_slot (s);
  unsigned char bits = before | SIM_G | SIM_NOW;

  slot->touch += SIM_CHUNK;
  if (!mirrored && !(before & SIM_D)) {
    bits |= SIM_D;
    slot->dirty += SIM_CHUNK;
    if (before & SIM_G)
      slot->redirty += SIM_CHUNK;
  }
  sim_set (s, i, bits);
  return mirrored;
}

static inline void
sim_begin_round (struct sim *s)
{
  unsigned i;

  for (i = 0; i < s->n; ++i) {
    unsigned char bits = s->chunk[i] & ~(SIM_HOT | SIM_LAST | SIM_NOW);
    const unsigned char both = SIM_NOW | SIM_LAST;

    if (s->chunk[i] & SIM_NOW)
      bits |= SIM_LAST;
    if ((s->chunk[i] & both) == both)
      bits |= SIM_HOT;
    sim_set (s, i, bits);
  }
  s->cursor = 0;
  s->r.rounds++;
}

/* ---- the way ----------------------------------------------------------- */

/* What fits into the way there, in bytes a millisecond. */
static inline double
sim_bandwidth (const struct sim_setup *u)
{
  const double speed = u->copy_mib * (double)SIM_MiB / 1000;
  const double most = (double)(SIM_IN_FLIGHT * SIM_CHUNK) / u->latency_ms;

  return most < speed ? most : speed;
}

/* ---- the guest --------------------------------------------------------- */

static inline bool
sim_within (const unsigned ms[2], uint64_t now_ms)
{
  return now_ms >= ms[0] && now_ms < ms[1];
}

static inline bool
sim_stalled (const struct sim *s)
{
  return sim_within (s->setup->stall_ms, s->now_ms);
}

static inline double
sim_wish (const struct sim *s) /* bytes in this millisecond */
{
  const struct sim_setup *u = s->setup;
  const double mib = u->write_mib + u->growth_mib * (double)s->now_ms / 1000;

  if (u->on_ms > 0 && s->now_ms % (u->on_ms + u->off_ms) >= u->on_ms)
    return 0;
  if (sim_within (u->quiet_ms, s->now_ms))
    return 0;
  return mib * (double)SIM_MiB / 1000;
}

/* While its writes go to both sides the guest is no faster than three quarters
 * of the way there; and one that is not answered holds up all others.
 */
static inline double
sim_allowed (const struct sim *s)
{
  double bytes = sim_wish (s);
  const double way = sim_bandwidth (s->setup) * 0.75;
  const double limit = (double)s->measures.throttle / 1000;

  if (s->mirror == MIRROR_ON && bytes > way)
    bytes = way;
  if (s->mirror == MIRROR_ON && s->setup->kept_percent > 0)
    bytes *= s->setup->kept_percent / 100.0;
  if (s->mirror == MIRROR_ON && sim_stalled (s))
    bytes = 0;
  if (s->measures.throttle > 0 && bytes > limit)
    bytes = limit;
  return bytes;
}

static inline unsigned
sim_place (struct sim *s)
{
  const uint64_t request = s->setup->request_kib * UINT64_C (1024);
  uint64_t span = (uint64_t)s->n * s->setup->span / 1000 * SIM_CHUNK;

  if (span < SIM_CHUNK)
    span = SIM_CHUNK;
  if (s->setup->pattern == SIM_RANDOM)
    return (unsigned)unit_random (s->seed, span / SIM_CHUNK);
  s->sequential = (s->sequential + request) % span;
  return (unsigned)(s->sequential / SIM_CHUNK);
}

static inline void
sim_guest (struct sim *s)
{
  const double request = s->setup->request_kib * 1024.0;

  s->write_budget += sim_allowed (s);
  for (; s->write_budget >= request; s->write_budget -= request) {
    unsigned chunk = sim_place (s), left = s->setup->request_kib;
    bool mirrored = true;

    for (;; left -= 64, chunk = (chunk + 1) % s->n) {
      mirrored &= sim_write_chunk (s, chunk);
      if (left <= 64)
        break;
    }
    sim_slot (s)->write += (uint64_t)request;
    s->r.written += (uint64_t)request;
    if (mirrored)
      s->way -= request;
  }
}

/* ---- the copy ---------------------------------------------------------- */

static inline void
sim_answers (struct sim *s)
{
  while (s->nr_flight > 0 && !sim_stalled (s) &&
         s->flight[s->first].end_ms <= s->now_ms) {
    const unsigned i = s->flight[s->first].chunk;

    sim_set (s, i, s->chunk[i] & ~SIM_L);
    s->first = (s->first + 1) % SIM_IN_FLIGHT;
    s->nr_flight--;
  }
}

static inline void
sim_lease (struct sim *s, unsigned i)
{
  const unsigned slot = (s->first + s->nr_flight++) % SIM_IN_FLIGHT;

  sim_set (s, i, (s->chunk[i] & ~SIM_D) | SIM_L);
  s->flight[slot].chunk = i;
  s->flight[slot].end_ms = s->now_ms + s->setup->latency_ms;
  s->r.sent += SIM_CHUNK;
  s->way -= (double)SIM_CHUNK;
  s->rate -= (double)SIM_CHUNK;
}

/* No more is saved up than for a few milliseconds. */
static inline void
sim_earn (double *budget, double bytes)
{
  const double most = bytes * 4 + (double)SIM_CHUNK;

  *budget = *budget + bytes < most ? *budget + bytes : most;
}

static inline void
sim_copy (struct sim *s)
{
  const bool limited = s->user.rate > 0;

  sim_earn (&s->way, sim_bandwidth (s->setup));
  if (limited)
    sim_earn (&s->rate, (double)s->user.rate / 1000);
  for (; s->cursor < s->n && s->way > 0 && (!limited || s->rate > 0) &&
         s->nr_flight < SIM_IN_FLIGHT;
       s->cursor++) {
    const unsigned char c = s->chunk[s->cursor];

    if ((c & SIM_D) && !(c & SIM_L) && !(s->measures.hot_last && (c & SIM_HOT)))
      sim_lease (s, s->cursor);
  }
}

/* ---- the mirror -------------------------------------------------------- */

static inline void
sim_demote (struct sim *s)
{
  s->mirror = MIRROR_OFF;
  s->measures.mirror = false; /* what was asked for is over */
  s->r.demotions++;
  s->silent_since_ms = 0;
}

static inline void
sim_mirror (struct sim *s)
{
  if (s->mirror == MIRROR_STARTING && !sim_stalled (s) &&
      s->now_ms >= s->mirror_at_ms)
    s->mirror = MIRROR_ON;
  s->r.mirrored_ms += s->mirror == MIRROR_ON;
  s->r.mirrored_bulk_ms += s->mirror == MIRROR_ON && s->bulk_end_ms == 0;
  if (s->mirror != MIRROR_ON || sim_wish (s) <= 0)
    return;
  if (s->setup->latency_ms > s->measures.mirror_wait_ms)
    sim_demote (s);
  else if (!sim_stalled (s))
    s->silent_since_ms = 0;
  else if (s->silent_since_ms == 0)
    s->silent_since_ms = s->now_ms;
  else if (s->now_ms - s->silent_since_ms >= s->measures.mirror_wait_ms)
    sim_demote (s);
}

/* ---- the policy -------------------------------------------------------- */

static inline uint64_t
sim_jitter (struct sim *s, uint64_t value)
{
  const unsigned p = s->setup->jitter_percent;

  return value * (100 - p + unit_random (s->seed, 2 * p + 1)) / 100;
}

static inline struct sim_rates
sim_rates (const struct sim *s)
{
  struct sim_rates sum = { 0 };
  unsigned i;

  for (i = 0; i < SIM_SLOTS; ++i) {
    sum.write += s->slot[i].write;
    sum.touch += s->slot[i].touch;
    sum.dirty += s->slot[i].dirty;
    sum.redirty += s->slot[i].redirty;
  }
  return sum;
}

static inline uint64_t
sim_pause_ms (const struct sim *s)
{
  return (uint64_t)((double)sim_remaining (s) / sim_bandwidth (s->setup)) +
         s->setup->overhead_ms;
}

static inline struct policy_snapshot
sim_snapshot (struct sim *s)
{
  const struct sim_rates rates = sim_rates (s);
  struct policy_snapshot v = s->user;

  v.predicted_ms = sim_jitter (s, sim_pause_ms (s));
  v.remaining_bytes = sim_remaining (s);
  v.ready = s->ready;
  v.missed = s->missed;
  v.now_us = (int64_t)s->now_ms * 1000 + 1;
  v.bulk_end_us = s->bulk_end_ms > 0 ? (int64_t)s->bulk_end_ms * 1000 : 0;
  v.disk_bytes = s->n * SIM_CHUNK;
  v.overhead_us = s->setup->overhead_ms * UINT64_C (1000);
  v.flush_us = v.overhead_us / 2;
  v.write_rate = rates.write;
  v.touch_rate = rates.touch;
  v.dirty_rate = rates.dirty;
  v.redirty_rate = rates.redirty;
  v.guest_bytes = s->nr_guest * SIM_CHUNK;
  v.hot_bytes = s->nr_hot_dirty * SIM_CHUNK;
  v.copy_rate = (uint64_t)(sim_bandwidth (s->setup) * 1000);
  v.destination_us = s->setup->latency_ms > 1
                       ? s->setup->latency_ms * UINT64_C (1000)
                       : 50; /* on the same host */
  v.mirror = s->mirror;
  v.demotions = s->r.demotions;
  v.mirror_refused = s->setup->no_mirror && s->r.mirror_begins > 0;
  v.throttle = s->measures.throttle;
  v.quiet_known = true;
  v.kept_mirrored = s->mirror == MIRROR_ON ? s->setup->kept_percent : 0;
  return v;
}

static inline void
sim_obey (struct sim *s, const struct policy_decision *d)
{
  const struct policy_measures *m = &d->measures;
  unsigned i;

  if (m->mirror && !s->measures.mirror) {
    s->r.mirror_begins++;
    s->mirror = s->setup->no_mirror ? MIRROR_OFF : MIRROR_STARTING;
    s->mirror_at_ms = s->now_ms + SIM_MIRROR_START_MS;
  }
  else if (!m->mirror)
    s->mirror = MIRROR_OFF;
  s->measures = *m;
  if (m->throttle > 0 && m->throttle < s->r.throttle_min)
    s->r.throttle_min = m->throttle;
  for (i = 0; i < d->nr_changes; ++i) {
    if (d->changes[i].would)
      s->r.would++;
    else
      s->r.told++;
    CU_ASSERT_TRUE (strlen (d->changes[i].reason) > 10);
    if (getenv ("TRACE"))
      printf ("%8.3f %s%s: %s\n", (double)s->now_ms / 1000,
              d->changes[i].would ? "would: " : "", d->changes[i].what,
              d->changes[i].reason);
  }
}

static inline void
sim_beat (struct sim *s)
{
  const struct policy_snapshot v = sim_snapshot (s);
  const struct policy_decision d = policy_beat (&s->policy, &v);

  sim_obey (s, &d);
}

/* ---- time -------------------------------------------------------------- */

static inline void
sim_ms (struct sim *s, bool copies)
{
  s->now_ms++;
  if (s->now_ms % 100 == 0)
    *sim_slot (s) = (struct sim_rates){ 0 };
  if (s->user.wait && s->now_ms >= s->setup->finish_ms)
    s->user.finish_wished = true;
  sim_answers (s);
  sim_mirror (s);
  sim_guest (s);
  if (copies && !sim_stalled (s))
    sim_copy (s);
  s->r.throttled_ms += s->measures.throttle > 0;
  s->r.hot_ms += s->measures.hot_last;
  if (s->now_ms % SIM_BEAT_MS == 0)
    sim_beat (s);
}

static inline void
sim_round (struct sim *s, uint64_t end_ms)
{
  const uint64_t flush_ms = s->now_ms + s->setup->overhead_ms / 2 + 1;

  sim_begin_round (s);
  while (s->now_ms < end_ms && (s->cursor < s->n || s->nr_flight > 0))
    sim_ms (s, true);
  while (s->now_ms < flush_ms)
    sim_ms (s, false);
}

/* Nobody writes meanwhile. */
static inline bool
sim_pause (struct sim *s)
{
  const uint64_t limit = s->measures.max_pause_ms;
  const uint64_t needed = sim_jitter (s, sim_pause_ms (s));
  const uint64_t held = needed < limit ? needed : limit;

  s->r.pauses++;
  s->r.pause_ms = needed;
  s->r.limit_ms = limit;
  if (held > s->r.longest_hold_ms)
    s->r.longest_hold_ms = held;
  s->missed = needed > limit || sim_stalled (s);
  s->now_ms += held;
  return !s->missed;
}

/* Returns whether it is over. */
static inline bool
sim_decide (struct sim *s, uint64_t end_ms)
{
  const struct policy_snapshot v = sim_snapshot (s);
  const struct policy_decision d = policy_step (&s->policy, &v);

  if (getenv ("TRACE"))
    printf ("%8.3f %s: %s; %" PRIu64 " ms, %" PRIu64 " MiB\n",
            (double)s->now_ms / 1000, policy_action_name (d.action), d.reason,
            v.predicted_ms, v.remaining_bytes / SIM_MiB);
  sim_obey (s, &d);
  s->missed = s->ready = false;
  CU_ASSERT_TRUE (strlen (d.reason) > 0);
  switch (d.action) {
  case POLICY_PREPARE:
    s->user.wait = s->user.finish_wished = false;
    return false;
  case POLICY_PAUSE:
    CU_ASSERT_TRUE (v.predicted_ms <= d.measures.max_pause_ms);
    s->r.end = POLICY_PAUSE;
    return sim_pause (s);
  case POLICY_GIVE_UP:
    s->r.end = POLICY_GIVE_UP;
    policy_needed (&s->policy, &v, s->r.last);
    return true;
  case POLICY_READY:
    s->ready = true;
    if (s->r.ready_ms == 0)
      s->r.ready_ms = s->now_ms;
    sim_round (s, end_ms);
    while (s->now_ms % SIM_READY_MS != 0 && !s->user.finish_wished)
      sim_ms (s, false);
    return false;
  default:
    sim_round (s, end_ms);
    return false;
  }
}

/* Runs it, for at most 'end_ms' of virtual time. */
static inline struct sim_result
sim_run (const struct sim_setup *setup, uint64_t *seed, uint64_t end_ms)
{
  static struct sim s;
  unsigned i;

  memset (&s, 0, sizeof s);
  s.setup = setup;
  s.seed = seed;
  s.user = setup->user;
  s.n = (unsigned)(setup->disk_mib * SIM_MiB / SIM_CHUNK);
  s.r.throttle_min = UINT64_MAX;
  policy_init (&s.policy);
  for (i = 0; i < s.n; ++i)
    sim_set (&s, i, SIM_D);
  sim_round (&s, end_ms);
  s.bulk_end_ms = s.r.bulk_ms = s.now_ms;
  while (s.now_ms < end_ms && !sim_decide (&s, end_ms))
    ;
  if (s.now_ms >= end_ms)
    s.r.end = POLICY_ROUND;
  s.r.ms = s.now_ms;
  return s.r;
}

#endif /* NBDMIGRATE_POLICY_SIM_H */
