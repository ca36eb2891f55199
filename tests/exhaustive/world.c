/* SPDX-License-Identifier: BSD-3-Clause */
/* The world at rest: how it begins, what must be true of it, and the sides. */

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "world.h"

#define GRACE_MS 100000000u /* longer than all holds together */

struct world world;
const char *violation;

const char *const beginning_names[BEGINNINGS] = {
  [FROM_NOTHING] = "before a session",
  [FROM_CLEAN] = "all is copied",
  [FROM_MIRROR] = "all is copied, and mirrored",
};

/* ---- The clock (the linker's --wrap) ------------------------------------ */

extern int __wrap_clock_gettime (clockid_t clock, struct timespec *ts);
extern int __wrap_pthread_cond_clockwait (pthread_cond_t *cond,
                                          pthread_mutex_t *mutex,
                                          clockid_t clock,
                                          const struct timespec *until);
extern int __wrap_pthread_cond_wait (pthread_cond_t *cond,
                                     pthread_mutex_t *mutex);

int
__wrap_clock_gettime (clockid_t clock, struct timespec *ts)
{
  assert (clock == CLOCK_MONOTONIC);
  ts->tv_sec = world.clock_us / 1000000;
  ts->tv_nsec = world.clock_us % 1000000 * 1000;
  return 0;
}

/* Whoever waits finds that nothing has happened until then; the step sets the
 * clock back.
 */
int
__wrap_pthread_cond_clockwait (pthread_cond_t *cond, pthread_mutex_t *mutex,
                               clockid_t clock, const struct timespec *until)
{
  (void)cond;
  (void)mutex;
  (void)clock;
  world.clock_us = until->tv_sec * INT64_C (1000000) + until->tv_nsec / 1000;
  return 0;
}

/* No step is taken that would wait without a limit. */
int
__wrap_pthread_cond_wait (pthread_cond_t *cond, pthread_mutex_t *mutex)
{
  (void)cond;
  (void)mutex;
  abort ();
}

/* ---- Sides -------------------------------------------------------------- */

struct side *
side_of (unsigned place)
{
  return place == 0 ? &world.local : &world.destination;
}

void
side_write (struct side *s, unsigned offset, unsigned length,
            const uint8_t *data)
{
  for (unsigned i = 0; i < length; i++) {
    s->now[offset + i] = data[i];
    s->after[offset + i] |= 1u << data[i];
  }
}

void
side_flush (struct side *s)
{
  for (unsigned i = 0; i < BLOCKS; i++) {
    s->hard[i] = s->now[i];
    s->after[i] = 1u << s->now[i];
  }
}

void
side_crash (struct side *s, bool lose)
{
  if (lose)
    memcpy (s->now, s->hard, sizeof s->now);
  side_flush (s);
}

static void
side_fill (struct side *s, uint8_t value)
{
  memset (s->now, value, sizeof s->now);
  side_flush (s);
}

bool
late_any (void)
{
  for (unsigned i = 0; i < LATE; i++)
    if (world.late[i].length > 0)
      return true;
  return false;
}

bool
late_add (unsigned offset, unsigned length, const uint8_t *data)
{
  for (unsigned i = 0; i < LATE; i++)
    if (world.late[i].length == 0) {
      world.late[i].offset = offset;
      world.late[i].length = length;
      memcpy (world.late[i].data, data, length);
      return true;
    }
  return false;
}

/* ---- Guests ------------------------------------------------------------- */

uint8_t
op_value (unsigned guest)
{
  switch (world.ops[guest].kind) {
  case OP_ZERO:
    return VALUE_ZERO;
  case OP_TRIM:
    return VALUE_TRIMMED;
  default:
    return VALUE_GUEST + guest;
  }
}

bool
op_touches (const struct op *op, unsigned chunk)
{
  return op->length > 0 && op->offset < (chunk + 1) * CHUNK_BLOCKS &&
         op->offset + op->length > chunk * CHUNK_BLOCKS;
}

bool
guest_is_in (const struct guest *g)
{
  return g->phase == GUEST_IN || g->phase == GUEST_APPLIED ||
         g->phase == GUEST_FAILED;
}

bool
chunk_has (const struct bitmap *b, unsigned chunk)
{
  return b->words[0] >> chunk & 1;
}

/* ---- The tracker -------------------------------------------------------- */

/* It is made as always and then moved into the world. */
void
world_restart (enum owner owner, bool doubt)
{
  struct tracker *t = tracker_new (BLOCKS, CHUNK_BLOCKS, owner);
  struct chunks *c = &world.tracker.chunks;
  struct bitmap *const maps[] = {
    &c->dirty,       &c->leased,  &c->unflushed, &c->flushing,
    &c->quarantined, &c->written, &c->guest,     &c->round,
    &c->last_round,  &c->hot,     &c->touched,
  };

  if (t == NULL)
    abort ();
  chunks_destroy (&t->chunks);
  world.tracker = *t;
  inflight_init (&world.tracker.in_flight);
  for (unsigned i = 0; i < sizeof maps / sizeof maps[0]; i++) {
    world.words[i] = 0;
    *maps[i] = (struct bitmap){ .words = &world.words[i], .bits = CHUNKS };
  }
  free (t);
  c->quiet = world.quiet;
  chunks_forget_quiet (c);
  tracker_set_grace (&world.tracker, GRACE_MS);
  tracker_set_quarantined (&world.tracker, doubt);
}

#define ALL_CHUNKS ((1u << CHUNKS) - 1)

void
map_begin (void)
{
  struct map *m = &world.map;

  m->live = m->recorded = m->used;
  m->durable = m->file = m->hard = ALL_CHUNKS;
}

void
map_void (void)
{
  world.map.live = world.map.recorded = false;
}

static void
copy_all (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct tracker *t = &world.tracker;
  uint64_t next, epoch;

  if (tracker_take (t, 0, BLOCKS, CHUNKS, &e, &next) == -1)
    abort ();
  side_write (&world.destination, 0, BLOCKS, world.local.now);
  tracker_done (t, &e, tracker_epoch (t));
  tracker_flush_begin (t, &epoch);
  side_flush (&world.destination);
  tracker_flush_end (t, true, epoch);
}

void
world_begin (enum beginning beginning, const struct op ops[GUESTS],
             const struct bounds *bounds)
{
  memset (&world, 0, sizeof world);
  violation = NULL;
  world.clock_us = 1000000;
  side_fill (&world.local, VALUE_OLD);
  side_fill (&world.destination, VALUE_FOREIGN);
  memcpy (world.truth, world.local.now, sizeof world.truth);
  memcpy (world.ops, ops, sizeof world.ops);
  for (unsigned i = 0; i < GUESTS; i++)
    if (ops[i].kind == OP_NONE)
      world.guests[i].phase = GUEST_DONE;
  world.record = OWNER_SOURCE;
  world.left = *bounds;
  world.map.used = bounds->clears > 0;
  world_restart (OWNER_SOURCE, false);
  if (beginning == FROM_NOTHING)
    return;
  tracker_begin (&world.tracker, false, true);
  tracker_wait_settled (&world.tracker, 0);
  world.session = SESSION_ON;
  map_begin ();
  copy_all ();
  world.map.durable = world.map.file = world.map.hard = 0; /* all is flushed */
  if (beginning == FROM_MIRROR) {
    tracker_mirror (&world.tracker, 1);
    world.mirror = world.mirror_used = true;
  }
}

/* ---- What must be true -------------------------------------------------- */

static bool
chunk_is_quiet (unsigned chunk)
{
  for (unsigned i = 0; i < GUESTS; i++)
    if (guest_is_in (&world.guests[i]) && op_touches (&world.ops[i], chunk))
      return false;
  return true;
}

static bool
chunk_is_clean (unsigned chunk)
{
  const struct chunks *c = &world.tracker.chunks;

  return !chunk_has (&c->dirty, chunk) && !chunk_has (&c->leased, chunk) &&
         !chunk_has (&c->unflushed, chunk) &&
         !chunk_has (&c->flushing, chunk) &&
         !chunk_has (&c->quarantined, chunk);
}

static bool
block_is_equal (unsigned i)
{
  return world.destination.now[i] == world.local.now[i] &&
         world.destination.after[i] == 1u << world.local.now[i];
}

void
world_check_equal (void)
{
  for (unsigned i = 0; i < BLOCKS; i++)
    if (!block_is_equal (i))
      violation = "a commit, and the sides differ";
  if (late_any ())
    violation = "a commit, and a write may still land";
}

static void
check_clean (void)
{
  for (unsigned c = 0; c < CHUNKS; c++) {
    if (!chunk_is_clean (c) || !chunk_is_quiet (c))
      continue;
    for (unsigned i = 0; i < CHUNK_BLOCKS; i++)
      if (!block_is_equal (c * CHUNK_BLOCKS + i))
        violation = "a clean chunk is not the same on both sides";
  }
}

static void
check_late (void)
{
  for (unsigned i = 0; i < LATE; i++) {
    const struct late *l = &world.late[i];
    const struct op range = { OP_WRITE, l->offset, l->length };

    for (unsigned c = 0; c < CHUNKS; c++)
      if (op_touches (&range, c) && chunk_is_quiet (c) &&
          !chunk_has (&world.tracker.chunks.quarantined, c))
        violation = "a write may land where there is no quarantine";
  }
}

void
world_check (void)
{
  const enum owner owner = tracker_owner (&world.tracker);

  if (is_served (owner) && memcmp (side_of (owner == OWNER_SOURCE ? 0 : 1)->now,
                                   world.truth, sizeof world.truth) != 0)
    violation = "what a guest wrote is lost";
  if (owner == OWNER_SOURCE && world.tracker.tracking)
    check_clean ();
  if (owner == OWNER_SOURCE)
    check_late ();
  if ((world.cut == CUT_COMMITTING || world.cut == CUT_RECORDED) &&
      world.tracker.gate.state == GATE_OPEN)
    violation = "the gate is open before the new owner is recorded";
}

/* ---- The state as a number ---------------------------------------------- */

static uint64_t
stir (uint64_t key, uint64_t word)
{
  key = (key ^ word) * UINT64_C (0x9e3779b97f4a7c15);
  key = (key ^ key >> 29) * UINT64_C (0xd6e8feb86659fd93);
  return key ^ key >> 32;
}

static uint64_t
stir_bytes (uint64_t key, const void *bytes, size_t n)
{
  const uint8_t *p = bytes;

  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;

    memcpy (&word, p, 8);
    key = stir (key, word);
  }
  for (; n > 0; n--)
    key = stir (key, *p++);
  return key;
}

static uint64_t
key_of_tracker (uint64_t key)
{
  const struct tracker *t = &world.tracker;
  const struct chunks *c = &t->chunks;
  const bool past = world.clock_us >= gate_deadline_us (&t->gate);
  const uint64_t bits[] = {
    c->dirty.words[0],
    c->leased.words[0],
    c->unflushed.words[0],
    c->flushing.words[0],
    c->quarantined.words[0],
    c->written.words[0],
    world.map.used ? c->touched.words[0] : 0,
    world.map.used ? c->quiet[0] : 0,
  };
  const uint8_t rest[] = {
    t->tracking,
    t->settled,
    get_route (&world.tracker).owner,
    t->flush_under_way,
    t->mirror_block,
    t->gate.state,
    t->gate.state != GATE_OPEN && past,
    t->owner_before,
    t->session_over,
    t->stop_wanted,
    tracker_quarantine_left_us (t) > 0,
    t->gate.state != GATE_OPEN && world.token == t->gate.token,
  };

  for (unsigned i = 0; i < sizeof bits / sizeof bits[0]; i++)
    key = stir (key, bits[i]);
  return stir_bytes (key, rest, sizeof rest);
}

static uint64_t
key_of_guest (uint64_t key, const struct guest *g)
{
  const uint8_t bytes[] = {
    g->phase,           g->mirror,
    g->acknowledged,    g->before,
    g->place,           g->req.listed,
    g->req.mirrored,    guest_is_in (g) && g->req.node.conflict,
    g->req.held_us > 0, g->req.route.owner,
    g->mark_written,    g->marked,
  };

  return stir_bytes (key, bytes, sizeof bytes);
}

static uint64_t
key_of_lease (uint64_t key, const struct lease *l)
{
  const uint8_t bytes[] = {
    l->phase,
    l->compare,
    l->quarantined,
    l->broken,
    l->first,
    l->count,
    l->phase != LEASE_NONE && l->epoch == world.tracker.epoch,
  };

  key = stir_bytes (key, bytes, sizeof bytes);
  key = stir_bytes (key, l->data, sizeof l->data);
  return stir_bytes (key, l->there, sizeof l->there);
}

uint64_t
world_key (void)
{
  const uint8_t rest[] = {
    world.session,
    world.mirror,
    world.mirror_used,
    world.mirror_broken,
    world.session_broken,
    world.flush,
    world.flush != FLUSH_NONE && world.flush_epoch == world.tracker.epoch,
    world.cut,
    world.new_owner,
    world.record,
    world.detached,
    world.map.live,
    world.map.recorded,
    world.map.durable,
    world.map.file,
    world.map.hard,
    world.map.keeper,
  };
  uint64_t key = 1;

  key = key_of_tracker (key);
  for (unsigned i = 0; i < GUESTS; i++)
    key = key_of_guest (key, &world.guests[i]);
  for (unsigned i = 0; i < LEASES; i++)
    key = key_of_lease (key, &world.leases[i]);
  key = stir_bytes (key, world.late, sizeof world.late);
  key = stir_bytes (key, &world.local, sizeof world.local);
  key = stir_bytes (key, &world.destination, sizeof world.destination);
  key = stir_bytes (key, world.truth, sizeof world.truth);
  key = stir_bytes (key, rest, sizeof rest);
  return stir_bytes (key, &world.left, sizeof world.left);
}

/* ---- Copies ------------------------------------------------------------- */

void *
world_keep (void)
{
  struct world *copy = malloc (sizeof *copy);

  if (copy == NULL)
    abort ();
  *copy = world;
  return copy;
}

void
world_restore (const void *copy)
{
  world = *(const struct world *)copy;
}

void
world_drop (void *copy)
{
  free (copy);
}
