/* SPDX-License-Identifier: BSD-3-Clause */
/* The durable dirty map of a disk (R14): a mark for each chunk that the
 * destination may lack, made durable before a guest's write begins.
 *
 * It knows no tracker, no session and no nbdkit: who uses it tells what is
 * written to and what may be cleared.
 *
 * A guest's write looks at one word, without a lock.  Who finds its mark
 * missing sets it, and waits for a sync that one of those who wait does for
 * all (a round).  It marks the DIRTY_MAP_SPAN bytes around as well, so that
 * what is written side by side costs one sync, and a restart after a crash
 * copies a little more.
 *
 * Nothing of it is needed after dirty_map_void or an error: then every mark
 * counts as set, and nobody waits any more (R11).
 */

#ifndef NBDMIGRATE_DIRTY_MAP_H
#define NBDMIGRATE_DIRTY_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/dirty-map-file.h"

#define DIRTY_MAP_SPAN (UINT64_C (256) << 10)

struct dirty_map;

enum dirty_map_life {
  DIRTY_MAP_NONE,  /* none that would be believed */
  DIRTY_MAP_LIVE,  /* the file has all marks */
  DIRTY_MAP_STUCK, /* none here, but the file could not be made void */
};

struct dirty_map_status {
  enum dirty_map_life life;
  uint64_t marked_bytes; /* while it is live; whole chunks */
  uint64_t first_touches;
  uint64_t syncs;   /* that first touches have waited for */
  uint64_t cleared; /* chunks, all told */
};

/* Called when a mark could not be made durable, in the thread of a guest's
 * write, with no lock held: 'error' is errno; 'voided': the file says so now.
 * It must not block for long.
 */
typedef void dirty_map_failed (void *opaque, int error, bool voided);

/* Without marks or life.  The file stays the caller's, and must not be used by
 * others until dirty_map_free.  NULL: no memory.
 */
extern struct dirty_map *dirty_map_new (struct dirty_map_file *file,
                                        uint64_t disk_bytes,
                                        uint64_t chunk_bytes,
                                        dirty_map_failed *failed, void *opaque);
extern void dirty_map_free (struct dirty_map *m);

extern bool dirty_map_fits (const struct dirty_map *m, uint64_t chunk_bytes);

/* ---- Guests' writes ----------------------------------------------------- */

/* When it returns, what the write touches is marked durably, or the map is live
 * no more.  Before the write begins, and while it is in the tracker's list.
 */
extern void dirty_map_mark (struct dirty_map *m, uint64_t offset,
                            uint64_t length);

/* ---- Its life; one thread at a time ------------------------------------- */

/* Make the file anew, with all marks.  -1 with errno, and *why may say more
 * (the caller frees it): it is not live.
 */
extern int dirty_map_begin (struct dirty_map *m,
                            const struct dirty_map_header *header, char **why);

/* Go on with the file, which is open.  A block that is damaged is marked all
 * over; *damaged is how many.  Nothing that was read counts before it was
 * synced: the process before may not have come to that.  'header' is written
 * then.  -1 with errno: it is not live, and the file as it was.
 */
extern int dirty_map_load (struct dirty_map *m,
                           const struct dirty_map_header *header,
                           uint64_t *damaged);

/* The marks, in dirty_map_words words; bits past the last chunk are 0.  As long
 * as no other thread uses it.
 */
extern const uint64_t *dirty_map_marks (const struct dirty_map *m);

/* The same of n words, while it is in use.  Of a write that is under way its
 * mark may be missing.
 */
extern void dirty_map_copy_marks (struct dirty_map *m, uint64_t word, size_t n,
                                  uint64_t *marks);

/* Another state, or promise, of a live one; nothing happens to another.  -1
 * with errno: it had to be made void, or is stuck.
 */
extern int dirty_map_set (struct dirty_map *m,
                          const struct dirty_map_header *header);

/* It counts no more, durably, from before this returns.  Until the file says
 * so newcomers wait.  -1 with errno: it is DIRTY_MAP_STUCK.
 */
extern int dirty_map_void (struct dirty_map *m);

/* ---- Clearing ----------------------------------------------------------- */

/* Between begin and end no mark becomes durable; false: it is not live, and
 * there is no end.  'exact': clear chunks by themselves; otherwise a span only
 * as a whole.
 */
extern bool dirty_map_clear_begin (struct dirty_map *m, bool exact);

/* Clear the marks of these n words' chunks, with the lock held that a guest's
 * write takes to enter the tracker's list: none of those chunks may be in it,
 * and each must be the same on both sides durably.  Bits past the last chunk
 * are 1.  It takes no lock that is held for long.
 */
extern void dirty_map_clear (struct dirty_map *m, uint64_t word,
                             const uint64_t *bits, size_t n);

/* Write what was cleared.  It need not be durable: a mark too many costs time
 * only.
 */
extern void dirty_map_clear_end (struct dirty_map *m);

/* ---- Looking ------------------------------------------------------------ */

extern enum dirty_map_life dirty_map_life (struct dirty_map *m);
extern void dirty_map_get_status (struct dirty_map *m,
                                  struct dirty_map_status *s);

#endif /* NBDMIGRATE_DIRTY_MAP_H */
