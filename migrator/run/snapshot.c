/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>

#include "run/converge.h"
#include "run/liveness.h"
#include "run/migration.h"
#include "run/pass.h"
#include "run/snapshot.h"

_Static_assert(SNAPSHOT_UNKNOWN == FORECAST_NEVER, "both are times");

/* ---- a server that does not answer ------------------------------------- */

struct silence {
  const char *side; /* NULL: all servers answer */
  int64_t us;
};

static void
note_silence (struct silence *s, const char *side, int64_t us)
{
  if (us >= ENDPOINT_SILENT_US && us > s->us)
    *s = (struct silence){ .side = side, .us = us };
}

static void
listen_to (struct silence *s, const char *side, const struct endpoint *e)
{
  if (e != NULL)
    note_silence (s, side, endpoint_silent_us (e, loop_now_us ()));
}

static struct silence
find_silence (const struct migration *m)
{
  struct silence s = { .side = NULL };
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    listen_to (&s, "source", m->disks.v[i].source);
    listen_to (&s, "destination", m->disks.v[i].destination);
    listen_to (&s, "base", m->disks.v[i].base);
  }
  /* The same server, most likely: only if it answers to us. */
  for (i = 0; i < m->disks.n && s.side == NULL; ++i)
    note_silence (&s, "relay",
                  liveness_relay_silent_us (&m->disks.v[i], loop_now_us ()));
  return s;
}

/* ---- what may still land (R17) ----------------------------------------- */

static void
note_late (struct snapshot *s, const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    if (m->phase == PHASE_LATE && d->source_late_ms > s->late_ms)
      s->late_ms = d->source_late_ms;
    if (!disk_waits_for_late_writes (d))
      continue;
    s->late_bytes += d->quarantined_bytes;
    s->late_connections += d->old_connections;
    if (d->quarantine_ms > s->late_ms)
      s->late_ms = d->quarantine_ms;
  }
}

/* ---- a destination that is away ---------------------------------------- */

struct loss
snapshot_loss (const struct disk *d)
{
  const struct reconnect *r = &d->reconnect;

  return (struct loss){
    .source = d->pair->source,
    .destination = d->pair->destination,
    .why = r->why,
    .attempt_why = r->attempt_why,
    .again_bytes = r->again_bytes,
    .away_ms = (uint64_t)reconnect_away_us (d, loop_now_us ()) / 1000,
    .limit_ms = d->settings->options->reconnect_ms,
    .attempts = r->backoff.attempts,
  };
}

static void
note_away (struct snapshot *s, const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    const struct disk *d = &m->disks.v[i];

    if (!reconnect_is_away (d))
      continue;
    if (s->nr_away++ == 0 ||
        reconnect_away_us (d, loop_now_us ()) / 1000 > (int64_t)s->away.away_ms)
      s->away = snapshot_loss (d);
  }
}

/* ---- how far it is ----------------------------------------------------- */

/* What the present pass has still to do, should it be more than expected. */
static uint64_t
left_of_pass (const struct migration *m)
{
  switch (m->phase) {
  case PHASE_VERIFY:
    return pass_unverified (m);
  case PHASE_DIGEST:
    return 0;
  default:
    return pass_remaining (m);
  }
}

/* Not if the guest has added to the pass: it may go on doing so. */
static uint64_t
eta_ms (const struct migration *m)
{
  const uint64_t pace = meter_pace (&m->meter);
  double ms;

  if (pace == 0 || meter_overran (&m->meter))
    return FORECAST_NEVER;
  ms = (double)(m->meter.pass_total_bytes - meter_pass_bytes (&m->meter));
  ms = ms * 1000 / (double)pace;
  return ms < 1e15 ? (uint64_t)ms : FORECAST_NEVER;
}

/* Until the pause: each round copies what became dirty in the one before.  If
 * that does not become less it has no end.
 */
static uint64_t
total_eta_ms (const struct migration *m)
{
  const double pace = (double)meter_bandwidth (&m->meter);
  const double dirty = (double)pass_dirty_rate (m);
  const uint64_t eta = eta_ms (m);
  double ms;

  if (m->paused || (m->phase != PHASE_BULK && m->phase != PHASE_DIRTY) ||
      eta == FORECAST_NEVER || pace <= 0 || dirty >= pace)
    return FORECAST_NEVER;
  ms = (double)eta / (1 - dirty / pace);
  return ms < 1e15 ? (uint64_t)ms : FORECAST_NEVER;
}

/* While a pass copies: of what it will leave behind, or, if that cannot be
 * known, of what is left now.
 */
static uint64_t
predicted_ms (const struct migration *m)
{
  const uint64_t eta = eta_ms (m), dirty_rate = pass_dirty_rate (m);
  struct forecast_input in = {
    .remaining_bytes = pass_remaining (m),
    .bytes_per_second = meter_bandwidth (&m->meter),
    .flush_us = m->flush_us,
  };

  if (m->phase != PHASE_BULK && m->phase != PHASE_DIRTY)
    return m->predicted_ms;
  if (in.bytes_per_second == 0)
    return FORECAST_NEVER;
  if (eta != FORECAST_NEVER)
    in.remaining_bytes =
      m->behind_bytes + (uint64_t)((double)dirty_rate * (double)eta / 1000);
  if (m->disks.options->verify)
    in.remaining_bytes *= 2;
  return forecast_pause_ms (&in);
}

/* Reading back sends no data. */
static uint64_t
bytes_per_second (const struct migration *m)
{
  return m->phase == PHASE_VERIFY || m->phase == PHASE_DIGEST
           ? meter_pace (&m->meter)
           : meter_throughput (&m->meter);
}

/* In all passes. */
static uint64_t
moved_bytes (const struct migration *m)
{
  uint64_t bytes = m->meter.moved_bytes;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    bytes -= m->disks.v[i].digested_bytes;
  return bytes;
}

static struct snapshot_limits
limits_of (const struct pace_limits *l)
{
  return (struct snapshot_limits){ l->connections, l->depth, l->request_bytes };
}

static void
add_limits (struct snapshot_limits *sum, const struct pace_limits *l)
{
  sum->connections += l->connections;
  if (sum->depth < l->depth)
    sum->depth = l->depth;
  if (sum->request_bytes < l->request_bytes)
    sum->request_bytes = l->request_bytes;
}

static void
note_limits (struct snapshot *s, const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    struct pace_limits from, to;

    if (m->disks.v[i].copier == NULL)
      continue;
    copier_get_limits (m->disks.v[i].copier, &from, &to);
    add_limits (&s->reads, &from);
    add_limits (&s->writes, &to);
  }
}

/* What holds, or was wished and will be tried next. */
static enum finish
finish_in_force (const struct migration *m)
{
  return m->finish_wished ? m->finish_wish : m->disks.finish;
}

static uint64_t
most_pause_ms (const struct migration *m)
{
  uint64_t ms = UINT64_MAX;
  size_t i;

  for (i = 0; i < m->disks.n; ++i)
    if (m->disks.v[i].max_gate_ms < ms)
      ms = m->disks.v[i].max_gate_ms;
  return m->disks.n > 0 ? ms : 0;
}

/* All of the disks, or why one is not. */
static void
note_shared_memory (struct snapshot *s, const struct migration *m)
{
  size_t i;

  s->shared_memory = m->disks.n > 0;
  for (i = m->disks.n; i > 0; --i) {
    const struct disk *d = &m->disks.v[i - 1];
    const char *why;

    if (disk_is_shared (d, &why))
      continue;
    s->shared_memory = false;
    s->not_shared_memory = why;
  }
}

/* It counts where it is lower than the rate. */
static uint64_t
background_rate (const struct bucket *b)
{
  return b->ceiling != 0 && bucket_limit (b) == b->ceiling ? b->ceiling : 0;
}

static void
note_guests (struct snapshot *s, const struct migration *m)
{
  static const char *const states[] = {
    [MIRROR_OFF] = "off",
    [MIRROR_STARTING] = "starting",
    [MIRROR_ON] = "on",
  };
  static const char *const verdicts[] = {
    [FORECAST_UNKNOWN] = "unknown",
    [FORECAST_CONVERGES] = "converges",
    [FORECAST_DIVERGES] = "diverges",
  };
  const struct policy_snapshot p = converge_measured (m);

  s->background = m->background.wished;
  s->background_rate = background_rate (&m->disks.bucket);
  s->explained_only = p.explain;
  s->converge = policy_converge_name (p.converge);
  s->mirror = states[p.mirror];
  s->throttle = p.throttle;
  s->outlook = verdicts[policy_outlook (&p).verdict];
}

/* Their mean is that of all requests; the rest is that of the slowest disk. */
static void
add_latency (struct snapshot_latency *sum, const struct disk_latency *l)
{
  const uint64_t all = sum->requests + l->requests;

  if (all > 0)
    sum->mean_us = (uint64_t)(((double)sum->mean_us * (double)sum->requests +
                               (double)l->mean_us * (double)l->requests) /
                              (double)all);
  sum->requests = all;
  if (sum->most_us < l->most_us)
    sum->most_us = l->most_us;
}

static void
note_latency (struct snapshot *s, const struct migration *m)
{
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    add_latency (&s->guest_reads, &m->disks.v[i].guest_reads);
    add_latency (&s->guest_writes, &m->disks.v[i].guest_writes);
  }
}

struct snapshot
snapshot_of (struct migration *m)
{
  const bool done = m->phase == PHASE_DONE;
  const bool cut_over = done || m->phase == PHASE_DIGEST;
  /* While it only waits, there is as little left to do as at the end. */
  const bool late = m->phase == PHASE_LATE;
  const bool over = done || late || m->phase == PHASE_READY;
  const uint64_t bytes = done ? moved_bytes (m) : meter_pass_bytes (&m->meter);
  const struct silence silence = find_silence (m);
  struct snapshot s = {
    .source = m->disks.options->pairs[0].source,
    .phase = phase_name (m->phase),
    .shown = m->phase != PHASE_CONNECT && !done,
    .pass = cut_over ? m->passes : m->passes + 1,
    .pass_percent = meter_percent (&m->meter, left_of_pass (m)),
    .pass_bytes = bytes,
    .pass_total_bytes =
      done ? bytes : meter_pass_total (&m->meter, left_of_pass (m)),
    .copied_bytes = m->meter.copied_bytes,
    .bytes_per_second = bytes_per_second (m),
    .dirty_bytes_per_second = pass_dirty_rate (m),
    .remaining_bytes = cut_over ? 0 : pass_remaining (m),
    .predicted_pause_ms =
      cut_over ? (uint64_t)m->pause.ms + 1 : predicted_ms (m),
    .eta_ms = late || m->paused || m->phase == PHASE_RECONNECT ? FORECAST_NEVER
              : over                                           ? 0
                                                               : eta_ms (m),
    .elapsed_ms = (uint64_t)(loop_now_us () - m->started_us) / 1000,
    .total_eta_ms = total_eta_ms (m),
    .finish_at = m->schedule_opens,
    .finish = finish_name (finish_in_force (m)),
    .wait = m->wait && !m->finish_wished,
    .paused = m->paused,
    .max_pause_ms = m->disks.max_pause_ms,
    .most_pause_ms = most_pause_ms (m),
    .rate = m->disks.bucket.rate,
    .nr_disks = m->disks.n,
    .silent = silence.side,
    .silent_ms = (uint64_t)silence.us / 1000,
  };

  s.percent = over ? 100 : s.pass_percent;
  note_late (&s, m);
  note_away (&s, m);
  note_shared_memory (&s, m);
  note_limits (&s, m);
  note_guests (&s, m);
  note_latency (&s, m);
  return s;
}

/* ---- as a whole -------------------------------------------------------- */

static struct snapshot_wire
wire_of (const struct disk *d)
{
  const struct wire from = wire_so_far (&d->from_wire, d->source);
  const struct wire opened = wire_so_far (&d->to_wire, d->destination);
  const struct wire to = wire_so_far (&opened, d->reader);

  return (struct snapshot_wire){ .known = wire_is_known (),
                                 .source_sent = from.sent,
                                 .source_received = from.received,
                                 .destination_sent = to.sent,
                                 .destination_received = to.received };
}

static void
add_disk (struct account *a, const struct disk *d)
{
  struct account_disk *told = &a->disks[a->nr_disks++];
  struct copier_stats s = { 0 };
  struct pace_limits from, to;

  *told = (struct account_disk){
    .source = d->pair->source,
    .destination = d->pair->destination,
    .disk_bytes = d->disk_bytes,
    .chunk_bytes = d->chunk_bytes,
    .resumed = d->resumed,
    .owner = d->owner,
    .sampled_over = d->sampled_over,
    .sampled_places = d->sampled_places,
    .sampled_bytes = d->sampled_bytes,
    .digest = d->digest[0] ? d->digest : NULL,
    .wire = wire_of (d),
  };
  a->disks[a->nr_disks - 1].shared_memory =
    disk_is_shared (d, &a->disks[a->nr_disks - 1].not_shared_memory);
  a->reconnects += d->reconnect.times;
  a->resumed |= d->resumed;
  a->disk_bytes += d->disk_bytes;
  a->marked_bytes += d->marked_bytes;
  if (d->copier != NULL) {
    copier_get_stats (d->copier, &s);
    copier_get_limits (d->copier, &from, &to);
    told->reads = limits_of (&from);
    told->writes = limits_of (&to);
  }
  a->copied_bytes += s.copied_bytes;
  a->zeroed_bytes += s.zeroed_bytes;
  a->skipped_bytes += s.skipped_bytes;
  a->compared_bytes += s.compared_bytes;
  a->sampled_bytes += s.sampled_bytes;
}

struct account
account_of (const struct migration *m)
{
  struct account a = {
    .disks = calloc (m->disks.n + 1, sizeof *a.disks),
    .sample_seed = m->disks.sample_seed,
    .passes = m->passes,
    .losses = m->losses,
    .pause_ms = m->pause.ms,
    .duration_ms = (uint64_t)(loop_now_us () - m->started_us) / 1000,
    .finish = finish_name (m->disks.finish),
    .max_pause_ms = m->disks.max_pause_ms,
    .rate = m->disks.bucket.rate,
  };
  size_t i;

  /* Without them it is told less. */
  for (i = 0; i < m->disks.n && a.disks != NULL; ++i)
    add_disk (&a, &m->disks.v[i]);
  return a;
}

void
account_free (struct account *a)
{
  free (a->disks);
}
