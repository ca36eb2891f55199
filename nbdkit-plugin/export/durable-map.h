/* SPDX-License-Identifier: BSD-3-Clause */
/* The durable dirty map of an export (R14): what the tracker knows is kept in
 * migrate-dir (state/dirty-map.h), so that a proxy that is started again goes
 * on with an interrupted migration, or with a detached copy.
 *
 * While no migration has ever begun there is none, and it costs nothing.  Where
 * it cannot be had, or kept, that is said, and a restart means a full copy.
 */

#ifndef NBDMIGRATE_DURABLE_MAP_H
#define NBDMIGRATE_DURABLE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "state/dirty-map.h"

struct durable_map;
struct export;

/* For e->durable.  NULL: no memory. */
extern struct durable_map *durable_map_new (struct export *e);

/* No request may be under way, and no session be there. */
extern void durable_map_free (struct durable_map *d);

/* Before the first request, with e->tracker there: go on with the map that the
 * record names, if there is one.
 */
extern void durable_map_load (struct export *e);

/* A guest's write that is in the tracker's list, on its way to the source:
 * returns when what it touches is marked.  Needs no lock, and may block.
 */
extern void durable_map_mark (struct export *e, uint64_t offset,
                              uint64_t length);

/* Around a guest's flush of the source: its number.  Needs no lock. */
extern uint64_t durable_map_flush_begins (struct export *e);
extern void durable_map_flush_succeeds (struct export *e, uint64_t number);

/* The id of the map that holds, for the record; 0: none does.  Any lock may be
 * held.
 */
extern uint64_t durable_map_id (const struct export *e);

/* What can be cleared is, some time later: the destination was flushed.
 * 'soon': nobody will come back to it.
 */
extern void durable_map_flushed (struct export *e, bool soon);

/* See whether the source has lost what was copied of it (source-flush.c): what
 * may be lost is dirty then.  It is asked for here, and any lock may be held;
 * wait_looked waits, with none held, until all that was asked for by now has
 * been done, or is being done by a flush, and at most so long.  The first is
 * also how a connection that is needed no more is let go.
 */
extern void durable_map_look (struct export *e);

/* The same of a remote source, whose relay knows by itself: at once, in any
 * thread.
 */
extern void durable_map_look_remote (struct export *e);

extern void durable_map_wait_looked (struct export *e, unsigned ms);

/* The source may have lost what guests had not flushed, as somebody else has
 * found.  Any lock may be held but those of the tracker and of this.
 */
extern void durable_map_source_lost (struct export *e);

/* The same of the plugin, which has failed a flush, or a write with FUA.  A
 * guest's is said.
 */
extern void durable_map_flush_failed (struct export *e, bool of_guest);

/* What a user may see of it. */
extern void durable_map_get_status (const struct export *e,
                                    struct dirty_map_status *s);

/* ---- Under the session lock --------------------------------------------- */

/* A session has begun: tracking is on, nothing is leased yet.  'resumed': the
 * marks that are there stay.
 */
extern void durable_map_begin (struct export *e, bool resumed);

/* Before a detach is committed: whoever finds the map after a crash asks before
 * it goes on (R20).
 */
extern void durable_map_detach (struct export *e);

/* The session has ended, and the tracking goes on. */
extern void durable_map_note_end (struct export *e);

/* It holds no more: call it before the tracking stops, before another owner
 * takes over, and before all becomes dirty for another reason.
 */
extern void durable_map_void (struct export *e);

/* ---- At the end --------------------------------------------------------- */

/* No client is connected any more: make it exact; that is begun here, and the
 * other function waits for it until then (of clock_ms), and closes the map.
 * False: the plugin has not answered (reported), and a thread is in it still.
 */
extern void durable_map_finish (struct export *e);
extern bool durable_map_end (struct export *e, int64_t until_ms);

#endif /* NBDMIGRATE_DURABLE_MAP_H */
