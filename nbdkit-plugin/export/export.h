/* SPDX-License-Identifier: BSD-3-Clause */
/* What the filter keeps for each export name, from the first time a client
 * opens it until nbdkit ends.  Exports are never removed, so a pointer to one
 * stays valid until exports_free.
 */

#ifndef NBDMIGRATE_EXPORT_H
#define NBDMIGRATE_EXPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "base/lane.h"
#include "relay/owed-error.h"
#include "latency.h"
#include "local.h"
#include "session-state.h"
#include "shared-reads.h"
#include "tracker/throttle.h"
#include "tracker/tracker.h"

/* Requests of all NBD clients that succeeded, the migrator's reads included, in
 * one lane.  Read and written without a lock.
 */
struct guest_counters {
  _Alignas(LANE_BYTES) uint64_t reads, read_bytes;
  uint64_t writes, written_bytes;
  uint64_t zeroes, zeroed_bytes;
  uint64_t trims, trimmed_bytes;
  uint64_t flushes;
};

#define ID_TEXT_SIZE 17 /* 16 hexadecimal digits and a 0 */

struct allocation;
struct durable_map;
struct mirror;
struct mirror_flush;
struct record_file;
struct relay;

/* A disk is in one place and moves to another: the local one, which is nbdkit's
 * plugin, or one of two remote ones.  The tracker knows them by their numbers.
 */
#define PLACE_LOCAL 0
#define PLACES 3

struct place {
  /* To a remote one: prepared for a pivot, or in use after one; written under
   * the session lock.  NULL: none, or this proxy was started after the pivot
   * and has not reached it yet.
   */
  struct relay *relay;
  unsigned users; /* atomic: requests there that passed without the gate */
};

struct export
{
  struct export *next; /* in the list */

  /* Constant. */
  char *name;
  char id[ID_TEXT_SIZE]; /* random */
  uint64_t disk_bytes;
  uint64_t chunk_bytes;
  struct tracker *tracker; /* has its own lock */

  struct local local; /* has its own locks */

  /* For further contexts; NULL: the plugin was not looked at.  Constant from
   * then on.
   */
  nbdkit_backend *backend;
  int readonly;
  struct allocation *allocation; /* has its own lock */

  /* The owner record; used under the session lock. */
  struct record_file *record;
  char *record_name;  /* of its file; constant */
  int64_t unclean_ms; /* directory_unclean_ms; constant */
  bool leaves_late;   /* at the end: something may land that no file tells of */
  uint64_t recorded_bytes; /* the disk's size there, 0 without a record */
  uint64_t record_us;      /* writing it took the last time; 0: it was not */
  char *history_path;      /* constant */

  struct durable_map *durable; /* has its own locks; constant */
  uint64_t recorded_map_id;    /* as the record was found, or 0 */

  /* Where it is and where it may go (place.h). */
  struct place places[PLACES];
  /* Protects the pointers to relays for those who have neither the session lock
   * nor a request there.  Held for short times only.
   */
  pthread_mutex_t places_lock;
  bool takes_over;             /* atomic: place_takes_over */
  int64_t local_late_until_ms; /* atomic: that is about the local place, and
                                  over then (of clock_ms); or 0 */

  /* Written under the session lock and the places lock (mirroring.h). */
  struct mirror *mirror;             /* or NULL */
  struct mirror_flush *mirror_flush; /* under way, or NULL; session lock */
  unsigned mirror_waiters;           /* for a flush; session lock */

  /* One client at a time tries to reach it, the others wait for the result. */
  pthread_mutex_t connect_lock;
  uint64_t connect_failures; /* under the session lock */
  char *connect_why;         /* of the latest; under the connect lock */

  int64_t quiet_from_ms; /* no session copies before (R17); session lock */
  bool must_settle;      /* nor the next one before such a time; session lock */
  bool cut_off; /* a run was under way when the process before ended; same */
  uint32_t recorded_delay_ms; /* under the session lock, once it is loaded */
  int64_t no_delay_until_ms;  /* is recorded, since that failed; session lock */

  struct owed_error owed; /* to the guests; has its own locks */
  char *owed_path;        /* where it is kept (owed.h); constant */
  char *kept_path;        /* of writes (kept.h); constant */
  bool kept_is_bad;       /* atomic: that is owed to the guests already */
  bool not_kept;          /* at the end: what is left could not be kept */

  uint64_t origin; /* of its records (lib/record.h); constant once loaded */
  char *mark_why;  /* what was said of its mark, or NULL; mark.c's lock */

  struct shared_reads shared_reads; /* of the session; has its own lock */
  struct throttle throttle;         /* of the session; has its own lock */

  struct guest_counters guest[LANES];
  struct latency latency; /* of guests, while there is a session; no lock */
  struct session session; /* has its own lock */
};

/* The export of this name, made if it is new, for a client that is being
 * served just now (.open); after a pivot with the destination connected.  NULL:
 * error (reported).
 */
extern struct export *export_open (nbdkit_backend *backend, int readonly,
                                   const char *name);

/* An export that has been opened before, or NULL.  The empty name also finds
 * what the plugin has named as its default (export_set_default).
 */
extern struct export *export_find (const char *name);

/* The same, or one that no client could open yet in this process, if its record
 * says that the destination owns it: the record is all that is needed then, so
 * that it can be settled where the destination is (command_reopen).
 */
extern struct export *export_find_or_load (const char *name);

/* What the plugin names as its default. */
extern void export_set_default (const char *name);

/* Call f for each of them, oldest last. */
extern void export_foreach (void (*f) (struct export *e, void *opaque),
                            void *opaque);

/* Close what is shared.  No client may be connected, on either side.  Then
 * export_is_late is right (for directory_release), and exports_free forgets
 * all.  False: the plugin does not answer, a thread is in it still, and neither
 * may be freed.
 */
extern bool exports_end (void);
extern bool export_is_late (const char *record_name);
extern void exports_free (void);

#endif /* NBDMIGRATE_EXPORT_H */
