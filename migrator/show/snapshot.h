/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration as people and programs see it: plain values of one moment.
 *
 * Whoever runs the migration fills it in; what shows it knows no more.  Strings
 * are not owned and live as long as the snapshot is looked at.
 */

#ifndef NBDMIGRATE_SNAPSHOT_H
#define NBDMIGRATE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "Nobody knows", of a time. */
#define SNAPSHOT_UNKNOWN UINT64_MAX

/* What a copy keeps to, as far as it was found by now; 0 connections: nothing
 * was copied.
 */
struct snapshot_limits {
  unsigned connections, depth;
  uint64_t request_bytes;
};

/* How long guests' requests took of late: the mean, and what 99 of 100 keep to.
 */
struct snapshot_latency {
  uint64_t requests, mean_us, most_us;
};

/* A destination that was lost. */
struct loss {
  const char *source, *destination; /* URIs */
  const char *why;                  /* or NULL */
  const char *attempt_why; /* what became of the latest attempt, or NULL */
  uint64_t again_bytes;    /* that were not flushed, and are dirty again */
  uint64_t away_ms, limit_ms;
  unsigned attempts;
};

struct snapshot {
  const char *source; /* URI, of the first disk; not NULL */
  const char *phase;
  bool shown;            /* there is something to show on a terminal */
  unsigned pass;         /* the present one, from 1 */
  unsigned pass_percent; /* of it */
  unsigned percent;      /* the same, but all where it only waits */
  uint64_t pass_bytes, pass_total_bytes;
  uint64_t copied_bytes;
  uint64_t bytes_per_second, dirty_bytes_per_second;
  uint64_t remaining_bytes;
  uint64_t predicted_pause_ms, eta_ms; /* or SNAPSHOT_UNKNOWN */
  uint64_t elapsed_ms;                 /* since the program began */
  uint64_t total_eta_ms; /* until the pause, or SNAPSHOT_UNKNOWN */
  const char *finish;
  bool wait;
  int64_t finish_at; /* seconds since the epoch, not before; 0: no such time */
  bool paused;       /* nothing is copied, as somebody wished */
  uint64_t max_pause_ms;
  uint64_t most_pause_ms; /* that all proxies allow it to be */
  uint64_t rate;          /* bytes per second, 0: unlimited */
  size_t nr_disks;
  /* Of all disks together; depth and bytes are the largest. */
  struct snapshot_limits reads, writes;

  bool shared_memory;            /* the source is read through it */
  const char *not_shared_memory; /* if not: why, or NULL: not known yet */

  unsigned background; /* 0 to 100: how much guests come first */
  /* Bytes per second of the bulk for that now, 0: no limit below the rate. */
  uint64_t background_rate;
  /* Against guests that write faster than is copied: what may be done, and what
   * is: "off", "starting" or "on"; bytes per second of all disks, 0: no limit.
   * And what the load of late comes to: "unknown", "converges" or "diverges".
   */
  const char *converge, *mirror, *outlook;
  uint64_t throttle;
  bool explained_only; /* --policy=explain: nothing is done */

  struct snapshot_latency guest_reads, guest_writes; /* of all disks */

  const char *silent; /* which side does not answer, or NULL */
  uint64_t silent_ms;

  /* R17: what may still land, by how many connections of earlier runs, and how
   * long to wait for it at least.
   */
  uint64_t late_bytes, late_connections, late_ms;

  /* Destinations that were lost and are not back: how many, and the one that
   * has been away the longest.
   */
  unsigned nr_away;
  struct loss away;
};

/* What was sent to both sides of a disk and received from them, in bytes of the
 * NBD protocol.
 */
struct snapshot_wire {
  bool known; /* libnbd counts since 1.16 */
  uint64_t source_sent, source_received;
  uint64_t destination_sent, destination_received;
};

/* What is told of a migration as a whole, at its start and its end. */
struct account_disk {
  const char *source, *destination; /* URIs */
  uint64_t disk_bytes, chunk_bytes;
  bool resumed;
  bool shared_memory; /* as above */
  const char *not_shared_memory;
  const char *owner;        /* NULL: nobody was asked */
  const char *sampled_over; /* NULL: no sample was read */
  unsigned sampled_places;
  uint64_t sampled_bytes;
  const char *digest; /* NULL: there is none */
  struct snapshot_limits reads, writes;
  struct snapshot_wire wire;
};

struct account {
  struct account_disk *disks; /* owned by who fills it in */
  size_t nr_disks;
  uint64_t disk_bytes;
  uint64_t copied_bytes, zeroed_bytes, skipped_bytes;
  uint64_t compared_bytes, sampled_bytes, marked_bytes;
  uint64_t sample_seed;
  unsigned passes;
  unsigned losses, reconnects;
  double pause_ms;
  uint64_t duration_ms;
  const char *finish;
  uint64_t max_pause_ms, rate;
  bool resumed;
};

/* --check: what a run would do. */
struct plan_disk {
  const char *source, *destination; /* URIs */
  uint64_t disk_bytes, copy_bytes;
  const char *goes_on; /* from a run "interrupted" or "detached"; NULL: none */
};

struct plan {
  struct plan_disk *disks; /* owned by who fills it in */
  size_t nr_disks;
  uint64_t copy_bytes;
  uint64_t rate, guest_rate; /* bytes per second, 0: not known; nothing */
  uint64_t expected_ms;      /* or SNAPSHOT_UNKNOWN */
  uint64_t pause_us;
};

#endif /* NBDMIGRATE_SNAPSHOT_H */
