/* SPDX-License-Identifier: BSD-3-Clause */
/* The steps: when each is possible, and what it does.
 *
 * They are what the filter and the migrator do around the tracker (filter/
 * request.c, control/, migrator/): an order that those keep to is kept to here,
 * and whatever they may do at the same time may be done here in any order.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

#define HOLD_MS 5000u /* longer than a request waits at the gate at once */
#define GRACE_US INT64_C (100000000000)

static struct tracker *const t = &world.tracker;

static void
must (bool right, const char *what)
{
  if (!right && violation == NULL)
    violation = what;
}

/* ---- Guests ------------------------------------------------------------- */

static bool
is_flush (unsigned g)
{
  return world.ops[g].kind == OP_FLUSH;
}

static uint8_t
acknowledged (void)
{
  uint8_t bits = 0;

  for (unsigned i = 0; i < GUESTS; i++)
    bits |= (uint8_t)world.guests[i].acknowledged << i;
  return bits;
}

static void
end_guest (struct guest *g, bool success)
{
  const uint8_t before = g->before;

  *g = (struct guest){ .phase = GUEST_DONE,
                       .acknowledged = success,
                       .before = before };
}

/* One that waits at the gate comes back when it is open. */
static bool
can_enter (unsigned g)
{
  const struct guest *guest = &world.guests[g];

  return !is_flush (g) &&
         (guest->phase == GUEST_IDLE ||
          (guest->phase == GUEST_HELD && t->gate.state == GATE_OPEN));
}

/* The mirror sends it, or does not: it is off by now, or broken. */
static void
send_mirrored (struct guest *guest)
{
  if (guest->req.mirrored)
    guest->mirror =
      world.mirror && !world.mirror_broken ? MIRROR_SENT : MIRROR_BAD;
}

static void
do_enter (unsigned g)
{
  struct guest *guest = &world.guests[g];
  const struct op *op = &world.ops[g];
  const int64_t clock_us = world.clock_us;
  enum tracker_verdict v;

  guest->req.may_be_mirrored = op->kind != OP_TRIM;
  v = tracker_enter (t, &guest->req, op->offset, op->length);
  world.clock_us = clock_us;
  switch (v) {
  case TRACKER_PASS:
    must (world.cut != CUT_COMMITTING && world.cut != CUT_RECORDED,
          "a request passes before the new owner is recorded");
    guest->phase = GUEST_IN;
    guest->before = acknowledged ();
    send_mirrored (guest);
    break;
  case TRACKER_WAIT:
    must (guest->phase == GUEST_IDLE, "it is held at an open gate");
    guest->phase = GUEST_HELD;
    break;
  case TRACKER_FENCED:
    end_guest (guest, false);
    break;
  }
}

/* ---- The dirty map ------------------------------------------------------ */

static uint8_t
chunks_of (unsigned g)
{
  uint8_t bits = 0;

  for (unsigned c = 0; c < CHUNKS; c++)
    bits |= (uint8_t)op_touches (&world.ops[g], c) << c;
  return bits;
}

/* R14: its mark comes before it is done anywhere. */
static bool
needs_mark (unsigned g)
{
  const struct guest *guest = &world.guests[g];

  return world.map.live && !is_flush (g) && guest->phase == GUEST_IN &&
         guest->req.listed && guest->req.route.owner == OWNER_SOURCE &&
         !guest->marked;
}

static bool
can_mark (unsigned g)
{
  return needs_mark (g) && !world.guests[g].mark_written;
}

static void
do_mark (unsigned g)
{
  struct guest *guest = &world.guests[g];
  const uint8_t bits = chunks_of (g);

  guest->marked = (world.map.durable & bits) == bits;
  guest->mark_written = !guest->marked;
  world.map.file |= bits;
}

static bool
can_sync_mark (unsigned g)
{
  return needs_mark (g) && world.guests[g].mark_written;
}

/* Of all that were written by then. */
static void
do_sync_mark (unsigned g)
{
  world.map.hard = world.map.file;
  world.map.durable |= chunks_of (g);
  world.guests[g].marked = true;
}

/* After a flush of the destination, or any time else. */
static bool
can_note (unsigned who)
{
  (void)who;
  return world.map.live && world.map.keeper == KEEPER_IDLE &&
         world.left.clears > 0;
}

static void
do_note (unsigned who)
{
  (void)who;
  world.left.clears--;
  if (tracker_note_quiet (t, true))
    world.map.keeper = KEEPER_NOTED;
}

static bool
can_keeper_flush (unsigned who)
{
  (void)who;
  return world.map.keeper == KEEPER_NOTED;
}

static void
do_keeper_flush (unsigned who)
{
  (void)who;
  side_flush (&world.local);
  world.map.keeper = KEEPER_FLUSHED;
}

static bool
can_clear (unsigned who)
{
  (void)who;
  return world.map.keeper == KEEPER_FLUSHED;
}

static void
clear (void *opaque, uint64_t word, const uint64_t *bits, size_t n)
{
  (void)opaque;
  if (word == 0 && n > 0) {
    world.map.durable &= ~bits[0];
    world.map.file &= ~bits[0];
  }
}

static void
do_clear (unsigned who)
{
  (void)who;
  if (world.map.live)
    tracker_give_quiet (t, CHUNK_BLOCKS, clear, NULL);
  world.map.keeper = KEEPER_IDLE;
}

/* What a new process finds.  What was not synced is lost with the power where
 * that is worse.
 */
static void
load_map (bool power)
{
  struct map *m = &world.map;
  const bool holds = m->recorded && world.record == OWNER_SOURCE;

  if (power)
    m->file &= m->hard;
  m->hard = m->durable = m->file;
  m->keeper = KEEPER_IDLE;
  if (holds)
    tracker_restore (t, &(const uint64_t){ m->file }, true);
  else
    map_void ();
  m->live = holds;
}

/* ---- Guests' requests, gone on with ------------------------------------- */

static bool
can_apply (unsigned g)
{
  return !is_flush (g) && world.guests[g].phase == GUEST_IN && !needs_mark (g);
}

/* The blocks of a request are written, or some of them. */
static void
apply (unsigned g, unsigned length)
{
  struct guest *guest = &world.guests[g];
  const struct op *op = &world.ops[g];
  uint8_t data[BLOCKS];

  must (guest->req.route.owner == tracker_owner (t),
        "a write goes to a side that does not own the disk");
  memset (data, op_value (g), sizeof data);
  side_write (side_of (guest->req.route.place), op->offset, length, data);
  memcpy (&world.truth[op->offset], data, length);
}

static void
do_apply (unsigned g)
{
  apply (g, world.ops[g].length);
  world.guests[g].phase = GUEST_APPLIED;
}

/* A failed write may have changed something (R2). */
static bool
can_apply_half (unsigned g)
{
  return can_apply (g) && world.left.faults > 0;
}

static void
do_apply_half (unsigned g)
{
  world.left.faults--;
  apply (g, 1);
  world.guests[g].phase = GUEST_FAILED;
}

static bool
can_mirror_land (unsigned g)
{
  return world.guests[g].mirror == MIRROR_SENT && !needs_mark (g);
}

static void
do_mirror_land (unsigned g)
{
  const struct op *op = &world.ops[g];
  uint8_t data[BLOCKS];

  memset (data, op_value (g), sizeof data);
  side_write (&world.destination, op->offset, op->length, data);
  world.guests[g].mirror = MIRROR_OK;
}

/* It takes too long: the mirror is given up. */
static bool
can_mirror_late (unsigned g)
{
  return can_mirror_land (g) && world.left.faults > 0;
}

static bool
leave_late (unsigned g)
{
  uint8_t data[BLOCKS];

  memset (data, op_value (g), sizeof data);
  return late_add (world.ops[g].offset, world.ops[g].length, data);
}

static void
do_mirror_late (unsigned g)
{
  world.left.faults--;
  if (leave_late (g))
    world.guests[g].mirror = MIRROR_LATE;
  else
    world.guests[g].mirror = MIRROR_BAD;
  tracker_mirror (t, 0);
  world.mirror = false;
}

static bool
can_leave (unsigned g)
{
  const struct guest *guest = &world.guests[g];

  return !is_flush (g) && guest->mirror != MIRROR_SENT &&
         (guest->phase == GUEST_APPLIED || guest->phase == GUEST_FAILED);
}

static void
do_leave (unsigned g)
{
  struct guest *guest = &world.guests[g];
  const bool success = guest->phase == GUEST_APPLIED;

  if (guest->req.mirrored)
    tracker_leave_both (t, &guest->req,
                        guest->mirror == MIRROR_LATE            ? BOTH_UNKNOWN
                        : guest->mirror == MIRROR_OK && success ? BOTH_WRITTEN
                                                                : BOTH_FAILED);
  else
    tracker_leave (t, &guest->req);
  end_guest (guest, success);
}

/* ---- Guests' flushes ---------------------------------------------------- */

static bool
can_flush_enter (unsigned g)
{
  const struct guest *guest = &world.guests[g];

  return is_flush (g) &&
         (guest->phase == GUEST_IDLE ||
          (guest->phase == GUEST_HELD && t->gate.state == GATE_OPEN));
}

static void
do_flush_enter (unsigned g)
{
  struct guest *guest = &world.guests[g];
  const int64_t clock_us = world.clock_us;
  enum tracker_verdict v = tracker_enter_read (t, &guest->read);

  world.clock_us = clock_us;
  if (guest->phase == GUEST_IDLE)
    guest->before = acknowledged ();
  if (v == TRACKER_FENCED) {
    end_guest (guest, false);
    return;
  }
  guest->phase = v == TRACKER_PASS ? GUEST_IN : GUEST_HELD;
  guest->place = v == TRACKER_PASS ? guest->read.route.place : 0;
}

static bool
can_flush_apply (unsigned g)
{
  return is_flush (g) && world.guests[g].phase == GUEST_IN;
}

static void
do_flush_apply (unsigned g)
{
  side_flush (side_of (world.guests[g].place));
  world.guests[g].phase = GUEST_APPLIED;
}

/* What was acknowledged before a flush began is older than what a crash may
 * bring back (R13).
 */
static void
check_durable (unsigned flush, const struct side *s)
{
  for (unsigned g = 0; g < GUESTS; g++) {
    const struct op *op = &world.ops[g];
    uint8_t older = 1u << VALUE_OLD | 1u << VALUE_FOREIGN;

    if (is_flush (g) || !(world.guests[flush].before >> g & 1))
      continue;
    for (unsigned i = 0; i < op->length; i++)
      must ((s->after[op->offset + i] & older) == 0,
            "a flush was answered, and what was flushed can be lost");
  }
}

static bool
can_flush_end (unsigned g)
{
  return is_flush (g) && world.guests[g].phase == GUEST_APPLIED;
}

/* As long as a commit can be taken back, the other side is flushed as well; and
 * if the disk has moved, the whole goes once more.
 */
static void
do_flush_end (unsigned g)
{
  struct guest *guest = &world.guests[g];
  struct route back, now;

  if (tracker_fallback (t, &back) && back.place != guest->place)
    side_flush (side_of (back.place));
  if (tracker_route (t, &now) && now.place != guest->place) {
    guest->phase = GUEST_IN;
    guest->place = now.place;
    return;
  }
  if (tracker_route (t, &now))
    check_durable (g, side_of (now.place));
  end_guest (guest, true);
}

/* ---- The session -------------------------------------------------------- */

static bool
can_begin (unsigned resume)
{
  (void)resume;
  return world.session == SESSION_NONE && world.left.begins > 0 &&
         tracker_owner (t) == OWNER_SOURCE && t->gate.state != GATE_COMMITTING;
}

static void
do_begin (unsigned resume)
{
  world.left.begins--;
  if (!tracker_begin (t, resume, true) || !world.map.live)
    map_begin ();
  world.session = SESSION_BEGUN;
  world.detached = false;
}

static bool
can_settle (unsigned who)
{
  (void)who;
  const bool settled = t->settled;
  bool is;

  if (world.session != SESSION_BEGUN)
    return false;
  is = tracker_wait_settled (t, 0);
  t->settled = settled;
  return is;
}

/* R1: not before all that began before the tracking have ended. */
static void
do_settle (unsigned who)
{
  (void)who;
  must (tracker_wait_settled (t, 0), "it does not settle");
  world.session = SESSION_ON;
}

/* What the migrator had sent, and was not answered, may still be done. */
static void
leave_leases (void)
{
  for (unsigned i = 0; i < LEASES; i++) {
    const struct lease *l = &world.leases[i];

    if (l->phase == LEASE_READ && !l->compare && !l->broken)
      late_add (l->first, l->count, l->data);
    world.leases[i] = (struct lease){ .phase = LEASE_NONE };
  }
}

static void
forget_session (void)
{
  leave_leases ();
  world.session = SESSION_NONE;
  world.mirror = world.mirror_used = false;
  world.mirror_broken = world.session_broken = false;
  world.flush = FLUSH_NONE;
  if (world.cut != CUT_COMMITTING && world.cut != CUT_RECORDED)
    world.cut = CUT_NONE;
}

/* Of mirrored writes on their way nobody waits for an answer any more. */
static void
end_mirror (void)
{
  for (unsigned g = 0; g < GUESTS; g++)
    if (world.guests[g].mirror == MIRROR_SENT)
      world.guests[g].mirror =
        !needs_mark (g) && leave_late (g) ? MIRROR_LATE : MIRROR_BAD;
}

static bool
is_over (void)
{
  return world.cut == CUT_COMMITTED || world.detached;
}

/* A commit was answered, and the migrator goes; or it dies before. */
static bool
can_end (unsigned who)
{
  (void)who;
  return world.session != SESSION_NONE && (world.left.faults > 0 || is_over ());
}

static void
do_end (unsigned who)
{
  (void)who;
  world.left.faults -= !is_over ();
  end_mirror ();
  tracker_end_session (t);
  forget_session ();
  if (tracker_owner (t) == OWNER_DESTINATION) {
    map_void ();
    tracker_stop (t);
  }
}

/* 'abort': somebody ends it, and the tracking. */
static bool
can_stop (unsigned who)
{
  (void)who;
  return world.left.faults > 0 && t->tracking && !t->stop_wanted &&
         tracker_owner (t) == OWNER_SOURCE;
}

static void
do_stop (unsigned who)
{
  (void)who;
  world.left.faults--;
  end_mirror ();
  map_void (); /* R14: before a write goes untracked */
  tracker_stop (t);
  forget_session ();
}

/* ---- Leases ------------------------------------------------------------- */

static struct lease *
free_lease (void)
{
  for (unsigned i = 0; i < LEASES; i++)
    if (world.leases[i].phase == LEASE_NONE)
      return &world.leases[i];
  return NULL;
}

static bool
is_at_work (void)
{
  return world.session == SESSION_ON && world.cut != CUT_COMMITTING &&
         world.cut != CUT_RECORDED && world.cut != CUT_COMMITTED;
}

static void
keep_lease (const struct extents *e, bool compare, bool quarantined)
{
  struct lease *l = free_lease ();

  if (e->n == 0) /* it is leased already */
    return;
  for (unsigned i = 0; i < LEASES; i++)
    must (world.leases[i].phase == LEASE_NONE ||
            e->v[0].offset >= world.leases[i].first + world.leases[i].count ||
            world.leases[i].first >= e->v[0].offset + e->v[0].length,
          "a chunk is leased twice");
  *l = (struct lease){
    .phase = LEASE_TAKEN,
    .compare = compare,
    .quarantined = quarantined,
    .first = e->v[0].offset,
    .count = e->v[0].length,
    .epoch = t->epoch,
  };
}

static bool
can_take (unsigned chunk)
{
  return is_at_work () && world.left.takes > 0 && free_lease () != NULL &&
         chunk_has (&t->chunks.dirty, chunk);
}

/* From the first chunk on, as much as there is. */
static void
do_take (unsigned chunk)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  uint64_t next;

  world.left.takes--;
  if (tracker_take (t, chunk * CHUNK_BLOCKS, BLOCKS, 1, &e, &next) == -1)
    violation = "take fails";
  keep_lease (&e, false, false);
}

static bool
can_compare (unsigned chunk)
{
  const struct chunks *c = &t->chunks;

  return is_at_work () && world.left.compares > 0 && free_lease () != NULL &&
         !chunk_has (&c->dirty, chunk) && !chunk_has (&c->leased, chunk) &&
         !chunk_has (&c->unflushed, chunk) &&
         !chunk_has (&c->flushing, chunk) &&
         (!chunk_has (&c->quarantined, chunk) ||
          tracker_quarantine_left_us (t) == 0);
}

static void
do_compare (unsigned chunk)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  const bool quarantined = chunk_has (&t->chunks.quarantined, chunk);
  uint64_t next;

  world.left.compares--;
  if (tracker_compare (t, quarantined, chunk * CHUNK_BLOCKS, CHUNK_BLOCKS, 1,
                       &e, &next) == -1)
    violation = "compare fails";
  keep_lease (&e, true, quarantined);
}

static bool
can_read (unsigned i)
{
  return world.leases[i].phase == LEASE_TAKEN;
}

/* And a copy is sent, as soon as there is a connection. */
static void
do_read (unsigned i)
{
  struct lease *l = &world.leases[i];

  memcpy (l->data, &world.local.now[l->first], l->count);
  l->phase = LEASE_READ;
}

static bool
can_land (unsigned i)
{
  const struct lease *l = &world.leases[i];

  return l->phase == LEASE_READ && !world.session_broken && !l->broken;
}

/* It is answered in the epoch that the migrator knows of then. */
static void
do_land (unsigned i)
{
  struct lease *l = &world.leases[i];

  if (l->compare)
    memcpy (l->there, &world.destination.now[l->first], l->count);
  else
    side_write (&world.destination, l->first, l->count, l->data);
  l->epoch = t->epoch;
  l->phase = LEASE_LANDED;
}

static struct extent
extent_of (const struct lease *l)
{
  return (struct extent){ l->first, l->count, false };
}

static bool
can_done (unsigned i)
{
  return world.leases[i].phase == LEASE_LANDED && !world.leases[i].compare;
}

static void
do_done (unsigned i)
{
  struct lease *l = &world.leases[i];
  struct extent x = extent_of (l);
  const struct extents e = { &x, 1, 1 };

  must (tracker_done (t, &e, l->epoch) == 0, "done is refused");
  *l = (struct lease){ .phase = LEASE_NONE };
}

static bool
can_compared (unsigned i)
{
  return world.leases[i].phase == LEASE_LANDED && world.leases[i].compare;
}

static void
do_compared (unsigned i)
{
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  struct lease *l = &world.leases[i];
  struct extent x = extent_of (l);
  const struct extents e = { &x, 1, 1 };
  const bool equal = memcmp (l->data, l->there, l->count) == 0;

  must (tracker_compared (t, &e, equal, &wrong) == 0, "compared is refused");
  must (wrong.n == 0 || l->quarantined || world.session_broken,
        "a clean chunk that nobody wrote to was found different");
  *l = (struct lease){ .phase = LEASE_NONE };
}

/* What was taken is not copied after all; or its connection is gone. */
static bool
can_fail (unsigned i)
{
  const struct lease *l = &world.leases[i];

  return l->phase == LEASE_READ &&
         (l->broken || world.session_broken || world.left.faults > 0);
}

static void
do_fail (unsigned i)
{
  struct lease *l = &world.leases[i];
  struct extent x = extent_of (l);
  const struct extents e = { &x, 1, 1 };

  if (!l->broken && !world.session_broken)
    world.left.faults--;
  must (tracker_failed (t, &e, false) == 0, "failed is refused");
  *l = (struct lease){ .phase = LEASE_NONE };
}

/* It was sent and not answered: it may be done at any time (R17). */
static bool
can_fail_late (unsigned i)
{
  const struct lease *l = &world.leases[i];

  return l->phase == LEASE_READ && !l->compare && !l->broken &&
         !world.session_broken && world.left.faults > 0;
}

static void
do_fail_late (unsigned i)
{
  struct lease *l = &world.leases[i];
  struct extent x = extent_of (l);
  const struct extents e = { &x, 1, 1 };

  world.left.faults--;
  late_add (l->first, l->count, l->data);
  must (tracker_failed (t, &e, true) == 0, "failed is refused");
  *l = (struct lease){ .phase = LEASE_NONE };
}

static bool
can_put_back (unsigned i)
{
  return world.leases[i].phase == LEASE_TAKEN && !world.leases[i].compare &&
         world.left.faults > 0;
}

static void
do_put_back (unsigned i)
{
  struct lease *l = &world.leases[i];
  struct extent x = extent_of (l);
  const struct extents e = { &x, 1, 1 };

  world.left.faults--;
  must (tracker_put_back (t, &e) == 0, "failed is refused");
  *l = (struct lease){ .phase = LEASE_NONE };
}

/* ---- The destination's flushes ------------------------------------------ */

static bool
can_flush_begin (unsigned who)
{
  (void)who;
  return is_at_work () && world.flush == FLUSH_NONE && world.left.flushes > 0 &&
         t->chunks.unflushed.set > 0;
}

static void
do_flush_begin (unsigned who)
{
  (void)who;
  world.left.flushes--;
  must (tracker_flush_begin (t, &world.flush_epoch) == 0,
        "flush-begin is refused");
  world.flush = FLUSH_BEGUN;
}

static bool
can_flush_do (unsigned who)
{
  (void)who;
  return world.flush == FLUSH_BEGUN;
}

/* Every connection that has written is flushed (R6): one that is broken is
 * found so, and the mirror says it at once.
 */
static void
do_flush_do (unsigned who)
{
  (void)who;
  world.flush =
    world.session_broken || world.mirror_broken ? FLUSH_FAILED : FLUSH_DONE;
  if (world.mirror_broken) {
    tracker_mirror_lost (t);
    tracker_mirror (t, 0);
    world.mirror = world.mirror_broken = false;
  }
  if (world.flush == FLUSH_DONE)
    side_flush (&world.destination);
}

static bool
can_flush_answer (unsigned who)
{
  (void)who;
  return world.flush == FLUSH_DONE || world.flush == FLUSH_FAILED;
}

static void
do_flush_answer (unsigned who)
{
  (void)who;
  must (tracker_flush_end (t, world.flush == FLUSH_DONE, world.flush_epoch) ==
          0,
        "flush-end is refused");
  world.flush = FLUSH_NONE;
}

/* ---- Mirroring ---------------------------------------------------------- */

static bool
can_mirror (unsigned who)
{
  (void)who;
  return is_at_work () && world.cut == CUT_NONE && !world.mirror &&
         !world.mirror_broken && !world.session_broken &&
         world.left.mirrors > 0;
}

static void
do_mirror (unsigned who)
{
  (void)who;
  world.left.mirrors--;
  tracker_mirror (t, 1);
  world.mirror = world.mirror_used = true;
}

static bool
can_mirror_off (unsigned who)
{
  (void)who;
  return is_at_work () && world.mirror && world.left.mirrors > 0;
}

static void
do_mirror_off (unsigned who)
{
  (void)who;
  world.left.mirrors--;
  tracker_mirror (t, 0);
  world.mirror = false;
}

/* The filter notices that its connections are gone. */
static bool
can_mirror_notice (unsigned who)
{
  (void)who;
  return world.mirror_broken;
}

static void
do_mirror_notice (unsigned who)
{
  (void)who;
  tracker_mirror_lost (t);
  tracker_mirror (t, 0);
  world.mirror = world.mirror_broken = false;
}

/* ---- The destination's crash -------------------------------------------- */

static bool
can_crash (unsigned lose)
{
  (void)lose;
  return world.left.faults > 0 && tracker_owner (t) == OWNER_SOURCE &&
         world.cut != CUT_COMMITTED;
}

/* Its process is gone, and with it all that it was sent and has not done. */
static void
do_crash (unsigned lose)
{
  world.left.faults--;
  side_crash (&world.destination, lose);
  memset (world.late, 0, sizeof world.late);
  for (unsigned g = 0; g < GUESTS; g++)
    if (world.guests[g].mirror == MIRROR_SENT)
      world.guests[g].mirror = MIRROR_BAD;
  for (unsigned i = 0; i < LEASES; i++)
    world.leases[i].broken |= world.leases[i].phase == LEASE_READ;
  world.session_broken = world.session != SESSION_NONE;
  world.mirror_broken = world.mirror_used;
}

static bool
can_lost (unsigned who)
{
  (void)who;
  return world.session == SESSION_ON && world.session_broken &&
         world.cut != CUT_COMMITTING && world.cut != CUT_RECORDED;
}

/* R6a: the new connection is up.  The mirror is left with the old ones. */
static void
do_lost (unsigned who)
{
  (void)who;
  tracker_lost (t, NULL);
  tracker_mirror (t, 0);
  world.mirror = world.mirror_used = false;
  world.mirror_broken = world.session_broken = false;
}

/* ---- What comes late ---------------------------------------------------- */

static bool
can_late (unsigned i)
{
  return world.late[i].length > 0;
}

static void
do_late (unsigned i)
{
  const struct late *l = &world.late[i];

  must (tracker_owner (t) != OWNER_DESTINATION,
        "a late write lands on what the guest uses");
  side_write (&world.destination, l->offset, l->length, l->data);
  world.late[i] = (struct late){ .length = 0 };
}

static void
do_never (unsigned i)
{
  world.late[i] = (struct late){ .length = 0 };
}

static bool
can_grace (unsigned who)
{
  (void)who;
  return !late_any () && tracker_quarantine_left_us (t) > 0 &&
         t->gate.state == GATE_OPEN;
}

static void
do_grace (unsigned who)
{
  (void)who;
  world.clock_us += GRACE_US;
}

/* ---- The pause ---------------------------------------------------------- */

static bool
any_held (void)
{
  for (unsigned g = 0; g < GUESTS; g++)
    if (world.guests[g].phase == GUEST_HELD)
      return true;
  return false;
}

static bool
can_hold (unsigned who)
{
  (void)who;
  return is_at_work () && world.cut == CUT_NONE && world.left.holds > 0 &&
         !any_held () && !world.detached;
}

static void
do_hold (unsigned who)
{
  (void)who;
  world.left.holds--;
  world.token = tracker_hold (t, HOLD_MS);
  must (world.token != 0, "hold is refused");
  world.cut = CUT_HELD;
}

static bool
is_valid (void)
{
  return gate_valid (&t->gate, world.token);
}

static bool
can_drain (unsigned who)
{
  (void)who;
  return world.cut == CUT_HELD && is_valid () && tracker_is_drained (t);
}

static void
do_drain (unsigned who)
{
  (void)who;
  must (tracker_wait_drained (t, world.token, 0) == DRAIN_DONE,
        "hold is not answered");
  for (unsigned g = 0; g < GUESTS; g++)
    must (is_flush (g) || !guest_is_in (&world.guests[g]),
          "hold was answered with a request in flight");
  world.cut = CUT_DRAINED;
}

/* The deadline passes; the next call opens the gate, or does not (R10). */
static bool
can_expire (unsigned who)
{
  (void)who;
  return t->gate.state != GATE_OPEN && world.left.faults > 0 &&
         world.clock_us < gate_deadline_us (&t->gate);
}

static void
do_expire (unsigned who)
{
  (void)who;
  world.left.faults--;
  world.clock_us = gate_deadline_us (&t->gate);
  tracker_epoch (t);
  if (t->gate.state == GATE_OPEN &&
      (world.cut == CUT_HELD || world.cut == CUT_DRAINED))
    world.cut = CUT_NONE;
}

static const enum owner owners[] = { OWNER_DESTINATION, OWNER_FENCED,
                                     OWNER_SOURCE };

static bool
can_commit (unsigned finish)
{
  (void)finish;
  return world.cut == CUT_DRAINED && is_valid () && !t->flush_under_way &&
         world.session == SESSION_ON && chunks_clean (&t->chunks);
}

static void
do_commit (unsigned finish)
{
  must (tracker_commit_begin (t, world.token, 0) == 0, "commit is refused");
  world_check_equal ();
  world.mirror = false;
  world.new_owner = owners[finish];
  world.cut = CUT_COMMITTING;
}

static bool
can_record (unsigned who)
{
  (void)who;
  return world.cut == CUT_COMMITTING && world.record != world.new_owner;
}

static void
do_record (unsigned who)
{
  (void)who;
  world.record = world.new_owner;
  world.map.recorded &= world.new_owner == OWNER_SOURCE;
  world.cut = CUT_RECORDED;
}

static bool
can_commit_end (unsigned recorded)
{
  if (recorded)
    return world.cut == CUT_RECORDED ||
           (world.cut == CUT_COMMITTING && world.record == world.new_owner);
  return world.cut == CUT_COMMITTING && world.record != world.new_owner &&
         world.left.faults > 0;
}

static void
do_commit_end (unsigned recorded)
{
  world.left.faults -= !recorded;
  tracker_commit_end (t, recorded, world.new_owner);
  world.detached = recorded && world.new_owner == OWNER_SOURCE;
  world.cut = recorded && world.session != SESSION_NONE ? CUT_COMMITTED
              : t->gate.state == GATE_OPEN              ? CUT_NONE
                                                        : CUT_DRAINED;
}

static bool
can_release (unsigned who)
{
  (void)who;
  return is_valid () && (world.cut == CUT_DRAINED || world.cut == CUT_HELD ||
                         (world.cut == CUT_COMMITTED));
}

static void
do_release (unsigned who)
{
  uint64_t us;

  (void)who;
  must (tracker_release (t, world.token, &us) == 0, "release is refused");
  if (world.cut != CUT_COMMITTED)
    world.cut = CUT_NONE;
}

static bool
can_rollback (unsigned who)
{
  (void)who;
  return world.cut == CUT_COMMITTED && is_valid () && world.left.faults > 0 &&
         t->gate.state == GATE_COMMITTED;
}

/* The old record is there again before it counts. */
static void
do_rollback (unsigned who)
{
  (void)who;
  world.left.faults--;
  must (tracker_rollback_begin (t, world.token) == 0, "rollback is refused");
  world.record = OWNER_SOURCE;
  world.map.recorded = world.map.live;
  tracker_commit_end (t, false, OWNER_SOURCE);
  world.detached = false;
  world.cut = t->gate.state == GATE_OPEN ? CUT_NONE : CUT_DRAINED;
}

/* ---- The proxy's end ---------------------------------------------------- */

static bool
can_die (unsigned power)
{
  (void)power;
  return world.left.faults > 0;
}

/* Requests under way are lost, done or not; a guest that connects again goes on
 * where the record says.
 */
static void
lose_guests (void)
{
  for (unsigned g = 0; g < GUESTS; g++) {
    struct guest *guest = &world.guests[g];

    if (guest->mirror == MIRROR_SENT && !needs_mark (g))
      leave_late (g);
    if (guest->phase != GUEST_IDLE)
      end_guest (guest, guest->acknowledged);
    guest->acknowledged = false;
    guest->before = 0;
  }
}

static void
do_die (unsigned power)
{
  world.left.faults--;
  lose_guests ();
  forget_session ();
  world.cut = CUT_NONE;
  world.detached = false;
  if (power)
    side_crash (&world.local, true);
  world_restart (world.record, true);
  load_map (power);
  if (world.record == OWNER_SOURCE)
    memcpy (world.truth, world.local.now, sizeof world.truth);
}

/* ------------------------------------------------------------------------- */

static const struct {
  const char *name;
  unsigned count;
  bool (*can) (unsigned who);
  void (*take) (unsigned who);
} kinds[] = {
  { "guest %u enters", GUESTS, can_enter, do_enter },
  { "guest %u: its mark is written", GUESTS, can_mark, do_mark },
  { "guest %u: its mark is durable", GUESTS, can_sync_mark, do_sync_mark },
  { "what is quiet is noted%.0u", 1, can_note, do_note },
  { "the source is flushed for it%.0u", 1, can_keeper_flush, do_keeper_flush },
  { "marks are cleared%.0u", 1, can_clear, do_clear },
  { "guest %u is served", GUESTS, can_apply, do_apply },
  { "guest %u fails halfway", GUESTS, can_apply_half, do_apply_half },
  { "guest %u is done at the destination, too", GUESTS, can_mirror_land,
    do_mirror_land },
  { "guest %u is not answered by the destination", GUESTS, can_mirror_late,
    do_mirror_late },
  { "guest %u leaves", GUESTS, can_leave, do_leave },
  { "guest %u begins to flush", GUESTS, can_flush_enter, do_flush_enter },
  { "guest %u flushes", GUESTS, can_flush_apply, do_flush_apply },
  { "guest %u has flushed", GUESTS, can_flush_end, do_flush_end },
  { "begin (resume %u)", 2, can_begin, do_begin },
  { "begin is answered%.0u", 1, can_settle, do_settle },
  { "the session ends%.0u", 1, can_end, do_end },
  { "abort%.0u", 1, can_stop, do_stop },
  { "take from chunk %u on", CHUNKS, can_take, do_take },
  { "compare chunk %u", CHUNKS, can_compare, do_compare },
  { "lease %u: read", LEASES, can_read, do_read },
  { "lease %u: at the destination", LEASES, can_land, do_land },
  { "lease %u: done", LEASES, can_done, do_done },
  { "lease %u: compared", LEASES, can_compared, do_compared },
  { "lease %u: failed", LEASES, can_fail, do_fail },
  { "lease %u: failed, unknown", LEASES, can_fail_late, do_fail_late },
  { "lease %u: put back", LEASES, can_put_back, do_put_back },
  { "flush-begin%.0u", 1, can_flush_begin, do_flush_begin },
  { "the destination flushes%.0u", 1, can_flush_do, do_flush_do },
  { "flush-end%.0u", 1, can_flush_answer, do_flush_answer },
  { "mirror on%.0u", 1, can_mirror, do_mirror },
  { "mirror off%.0u", 1, can_mirror_off, do_mirror_off },
  { "the mirror is lost%.0u", 1, can_mirror_notice, do_mirror_notice },
  { "the destination crashes (loses its cache %u)", 2, can_crash, do_crash },
  { "lost%.0u", 1, can_lost, do_lost },
  { "late write %u lands", LATE, can_late, do_late },
  { "late write %u never lands", LATE, can_late, do_never },
  { "the grace is over%.0u", 1, can_grace, do_grace },
  { "hold%.0u", 1, can_hold, do_hold },
  { "hold is answered%.0u", 1, can_drain, do_drain },
  { "the deadline passes%.0u", 1, can_expire, do_expire },
  { "commit (pivot, handover, detach: %u)", 3, can_commit, do_commit },
  { "the new owner is recorded%.0u", 1, can_record, do_record },
  { "commit ends (recorded %u)", 2, can_commit_end, do_commit_end },
  { "release%.0u", 1, can_release, do_release },
  { "rollback%.0u", 1, can_rollback, do_rollback },
  { "the proxy is killed (with the power %u)", 2, can_die, do_die },
};

#define KINDS (sizeof kinds / sizeof kinds[0])

size_t
steps_list (struct step steps[STEPS_MAX])
{
  size_t n = 0;

  for (unsigned k = 0; k < KINDS; k++)
    for (unsigned who = 0; who < kinds[k].count; who++)
      if (kinds[k].can (who)) {
        assert (n < STEPS_MAX);
        steps[n++] = (struct step){ k, who };
      }
  return n;
}

/* R10: what is not clean must be refused, whenever it is asked for. */
static void
check_early_commit (void)
{
  const bool clean =
    !t->flush_under_way && chunks_clean (&t->chunks) && tracker_is_drained (t);

  if (world.cut == CUT_DRAINED && is_valid () && !clean)
    must (tracker_commit_begin (t, world.token, 0) == -1 && errno == EBUSY,
          "a commit was accepted too early");
}

void
step_take (struct step step)
{
  kinds[step.what].take (step.who);
  if (violation == NULL)
    check_early_commit ();
}

void
step_print (struct step step)
{
  printf (kinds[step.what].name, step.who);
  putchar ('\n');
}
