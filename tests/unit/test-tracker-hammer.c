/* SPDX-License-Identifier: BSD-3-Clause */
/* The tracker between threads that do to it, at random, all they may do.
 *
 * - Guests write an array in memory, the source; after a pivot, the other one;
 *   and both, in any order, where they are told to.
 * - The migrator, the main thread, copies the source to the destination and
 *   commits now and then.  Everything fails on it at times.  The destination
 *   has a cache that survives no crash and a durable part which a flush brings
 *   up to date, as of the moment it was asked for.  Writes of unknown outcome
 *   land later, as late as R17 allows.
 * - An operator ends sessions and stops tracking behind the migrator's back,
 *   also between the two steps of a commit.
 *
 * At each commit, the source, the cache and the durable part must be equal in
 * every byte, no guest may be writing, and no write be still to land; after a
 * commit that takes the disk away, the source must not change.  And a chunk
 * that counts as clean must be found equal whenever it is compared.
 *
 * SEED=N in the environment repeats the random choices (not the scheduling),
 * ITERATIONS=N sets the number of the migrator's steps.  Compiled with one of
 * the planted bugs it must fail.
 *
 * timeout: 120
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/tracker.h"
#include "unit.h"

#define CHUNK 32
#define CHUNKS 200
#define DISK ((CHUNKS - 1) * CHUNK + 13)
#define GUESTS 3
#define LEASES 6
#define LATE_MAX 64
#ifdef __SANITIZE_THREAD__
#define ITERATIONS 60000 /* some twenty times as slow */
#else
#define ITERATIONS 600000
#endif
#define HOLD_MS 20000 /* of a commit: not to be missed on a busy machine */

typedef _Atomic uint8_t byte; /* each by itself, as on a real disk */

static struct tracker *t;
static byte source[DISK], cache[DISK];
static uint8_t durable[DISK]; /* of the migrator's thread */
static uint64_t rnd;          /* likewise */
static atomic_bool quit;
static atomic_uint writing;         /* guests between enter and leave */
static atomic_ulong writes, fenced; /* by guests */
static atomic_ulong mirrored;       /* of them */
static atomic_uint failures;

/* The session.  Whoever ends it, and each command of the migrator, holds this
 * lock, as in the filter.
 */
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;
static bool session_alive;
static sem_t operator_work;

static struct {
  unsigned detached, pivoted, handed_over, rolled_back, unrecorded, ended;
  unsigned quarantined, lost, compared, sessions, not_drained;
} count;

static void
fail (const char *what)
{
  if (failures++ < 10)
    printf ("\n    %s ", what);
}

static void
yield (uint64_t *r, unsigned most)
{
  for (uint64_t i = unit_random (r, most + 1); i > 0; i--)
    sched_yield ();
}

static uint8_t
get (byte *array, uint64_t i)
{
  return atomic_load_explicit (&array[i], memory_order_relaxed);
}

static void
put (byte *array, uint64_t i, uint8_t value)
{
  atomic_store_explicit (&array[i], value, memory_order_relaxed);
}

/* ---- Guests ------------------------------------------------------------ */

static void write_late_range (uint64_t offset, uint64_t length,
                              const uint8_t *data);
static _Atomic bool copied[CHUNKS]; /* ever written, or tried to (R18) */

#define LONGEST 70

static void
put_all (byte *array, uint64_t offset, uint64_t length, const uint8_t *data,
         uint64_t *r)
{
  for (uint64_t i = 0; i < length; i++) {
    put (array, offset + i, data[i]);
    if (unit_random (r, 64) == 0)
      sched_yield ();
  }
}

/* On both sides, one after the other; what happens there may be anything. */
static enum tracker_both
guest_write_both (uint64_t offset, uint64_t length, uint64_t *r)
{
  const unsigned fate = unit_random (r, 12);
  const uint64_t at_source = fate == 0 ? unit_random (r, length + 1) : length;
  const uint64_t at_destination = fate == 1   ? unit_random (r, length + 1)
                                  : fate == 2 ? 0
                                              : length;
  const bool source_first = unit_random (r, 2);
  uint8_t data[LONGEST];

  for (uint64_t i = 0; i < length; i++)
    data[i] = unit_random (r, 256);
  writing++;
  if (source_first)
    put_all (source, offset, at_source, data, r);
  yield (r, 3);
  put_all (cache, offset, at_destination, data, r);
  if (!source_first)
    put_all (source, offset, at_source, data, r);
  if (fate == 2)
    write_late_range (offset, length, data);
  writing--;
  writes++;
  mirrored++;
  return fate == 2 ? BOTH_UNKNOWN : fate < 2 ? BOTH_FAILED : BOTH_WRITTEN;
}

static void
write_and_leave (struct tracker_request *req, uint64_t offset, uint64_t length,
                 uint64_t *r)
{
  tracker_leave_both (t, req, guest_write_both (offset, length, r));
  for (uint64_t i = offset / CHUNK; i <= (offset + length - 1) / CHUNK; i++)
    copied[i] = true;
}

static void
guest_write (byte *array, uint64_t offset, uint64_t length, uint64_t *r)
{
  /* Some end badly, half done. */
  const uint64_t n = unit_random (r, 8) ? length : unit_random (r, length + 1);

  writing++;
  if (unit_random (r, 2))
    yield (r, 3);
  for (uint64_t i = 0; i < n; i++) {
    put (array, offset + i, unit_random (r, 256));
    if (unit_random (r, 64) == 0)
      sched_yield ();
  }
  writing--;
  writes++;
}

static void *
guest (void *opaque)
{
  uint64_t r = *(uint64_t *)opaque;

  while (!quit) {
    struct tracker_request req = { .may_be_mirrored = true };
    const uint64_t offset = unit_random (&r, DISK);
    const uint64_t most = DISK - offset < LONGEST ? DISK - offset : LONGEST;
    const uint64_t length = 1 + unit_random (&r, most);
    enum tracker_verdict verdict;

    do
      verdict = tracker_enter (t, &req, offset, length);
    while (verdict == TRACKER_WAIT && !quit);
    if (verdict == TRACKER_WAIT)
      tracker_give_up (t, &req);
    if (verdict == TRACKER_PASS && req.mirrored)
      write_and_leave (&req, offset, length, &r);
    else if (verdict == TRACKER_PASS) {
      guest_write (req.route.owner == OWNER_SOURCE ? source : cache, offset,
                   length, &r);
      tracker_leave (t, &req);
    }
    if (verdict == TRACKER_FENCED)
      fenced++;
    yield (&r, 4);
  }
  return NULL;
}

/* ---- Operator ---------------------------------------------------------- */

static void
look (void)
{
  struct tracker_status s;

  tracker_get_status (t, &s);
  const uint64_t sum = s.dirty_bytes + s.leased_bytes + s.in_flight_bytes;

  if (s.remaining_bytes != (sum < DISK ? sum : DISK))
    fail ("remaining is not dirty + leased + in flight");
  if (s.dirty_bytes > DISK || s.leased_bytes > DISK ||
      s.quarantined_bytes > DISK)
    fail ("more than the disk has");
}

static void
end_session_as_operator (bool stop)
{
  pthread_mutex_lock (&session_lock);
  if (session_alive)
    tracker_end_session (t);
  session_alive = false;
  if (stop)
    tracker_stop (t);
  pthread_mutex_unlock (&session_lock);
}

/* Acts when the migrator says so, but beside it. */
static void *
operator(void *opaque)
{
  uint64_t r = *(uint64_t *)opaque;

  while (sem_wait (&operator_work) == 0 && !quit) {
    yield (&r, 30);
    switch (unit_random (&r, 12)) {
    case 0:
      end_session_as_operator (true);
      break;
    case 1:
    case 2:
      end_session_as_operator (false);
      break;
    case 3:
      tracker_wake (t);
      break;
    default:
      look ();
    }
  }
  return NULL;
}

/* ---- The destination ---------------------------------------------------- */

/* Writes of unknown outcome that have not landed yet. */
static struct late {
  uint64_t offset, length;
  uint8_t data[DISK];
} late[LATE_MAX];
static unsigned nr_late;
static pthread_mutex_t late_lock = PTHREAD_MUTEX_INITIALIZER;

static uint8_t flushing[DISK]; /* what the flush under way makes durable */

/* The lock must be held. */
static void
land_one (unsigned k)
{
  struct late *l = &late[k];

  for (uint64_t i = 0; i < l->length; i++)
    put (cache, l->offset + i, l->data[i]);
  *l = late[--nr_late];
}

/* One of them, in no order. */
static void
land_late_write (void)
{
  pthread_mutex_lock (&late_lock);
  if (nr_late > 0)
    land_one (unit_random (&rnd, nr_late));
  pthread_mutex_unlock (&late_lock);
}

static void
land_late_writes (void)
{
  pthread_mutex_lock (&late_lock);
  while (nr_late > 0)
    land_one (unit_random (&rnd, nr_late));
  pthread_mutex_unlock (&late_lock);
}

static void
write_late_range (uint64_t offset, uint64_t length, const uint8_t *data)
{
  struct late *l;

  pthread_mutex_lock (&late_lock);
  if (nr_late == LATE_MAX)
    land_one (0);
  l = &late[nr_late++];
  l->offset = offset;
  l->length = length;
  memcpy (l->data, data, length);
  pthread_mutex_unlock (&late_lock);
}

static void
write_late (const struct extents *e, const uint8_t *data)
{
  for (size_t k = 0; k < e->n; k++)
    write_late_range (e->v[k].offset, e->v[k].length, data + e->v[k].offset);
}

static bool
is_any_late (void)
{
  bool any;

  pthread_mutex_lock (&late_lock);
  any = nr_late > 0;
  pthread_mutex_unlock (&late_lock);
  return any;
}

/* What was not flushed may be gone. */
static void
crash (void)
{
  for (uint64_t i = 0; i < DISK; i += CHUNK)
    if (unit_random (&rnd, 2))
      for (uint64_t k = i; k < i + CHUNK && k < DISK; k++)
        put (cache, k, durable[k]);
}

/* ---- Leases of the migrator --------------------------------------------- */

static struct lease {
  enum { FREE, TAKEN, READ, WRITTEN, COMPARING, COMPARED } state;
  struct extents e;
  uint64_t epoch;
  bool quarantined; /* of a comparison: a difference is no wonder */
  struct extents equal, different;
  uint8_t data[DISK];
} leases[LEASES];

static bool flush_under_way;
static uint64_t epoch, flush_epoch;

static void
drop_lease (struct lease *l)
{
  extents_clear (&l->e);
  extents_clear (&l->equal);
  extents_clear (&l->different);
  l->state = FREE;
}

/* Its writes were on their way when the session broke. */
static void
forget_session (void)
{
  for (unsigned i = 0; i < LEASES; i++) {
    if (leases[i].state == READ && unit_random (&rnd, 2))
      write_late (&leases[i].e, leases[i].data);
    drop_lease (&leases[i]);
  }
  flush_under_way = false;
}

/* Take the session lock.  False, without it, if there is no session. */
static bool
lock_session (void)
{
  pthread_mutex_lock (&session_lock);
  if (session_alive)
    return true;
  pthread_mutex_unlock (&session_lock);
  return false;
}

/* The answer to a command, which must have been this. */
static void
expect (const char *what, bool as_expected)
{
  if (!as_expected)
    fail (what);
  pthread_mutex_unlock (&session_lock);
}

/* All bytes of a lease, one after the other, into or out of an array. */
static void
transfer (struct lease *l, byte *from, byte *to)
{
  for (size_t k = 0; k < l->e.n; k++) {
    const uint64_t end = l->e.v[k].offset + l->e.v[k].length;

    for (uint64_t i = l->e.v[k].offset; i < end; i++) {
      if (from)
        l->data[i] = get (from, i);
      else {
        put (to, i, l->data[i]);
        copied[i / CHUNK] = true;
      }
    }
    yield (&rnd, 1);
  }
}

/* Compare what was read with the destination, chunk by chunk. */
static void
sort_chunks (struct lease *l)
{
  for (size_t k = 0; k < l->e.n; k++) {
    const uint64_t end = l->e.v[k].offset + l->e.v[k].length;
    uint64_t next;

    for (uint64_t i = l->e.v[k].offset; i < end; i = next) {
      bool equal = true;

      next = i + CHUNK < end ? i + CHUNK : end;
      for (uint64_t b = i; b < next; b++)
        equal &= l->data[b] == get (cache, b);
      if (extents_append (equal ? &l->equal : &l->different, i, next - i,
                          true) == -1)
        fail ("no memory");
    }
  }
}

static void
check_touched (const struct extents *e)
{
  for (size_t k = 0; k < e->n; k++)
    for (uint64_t i = 0; i < e->v[k].length; i++)
      if (copied[(e->v[k].offset + i) / CHUNK] && !e->v[k].touched)
        fail ("a chunk that was written counts as untouched (R18)");
}

static void
take (struct lease *l, uint64_t cursor, uint64_t max_bytes)
{
  uint64_t next;

  if (!lock_session ())
    return;
  l->epoch = epoch;
  expect ("take", tracker_take (t, cursor, max_bytes, 8, &l->e, &next) == 0);
  check_touched (&l->e);
  if (l->e.n > 0)
    l->state = TAKEN;
}

static void
take_to_compare (struct lease *l, uint64_t cursor, uint64_t max_bytes,
                 bool quarantined)
{
  uint64_t next;

  if (!lock_session ())
    return;
  l->quarantined = quarantined;
  expect ("compare", tracker_compare (t, quarantined, cursor, max_bytes, 8,
                                      &l->e, &next) == 0);
  /* The grace period, which is 0 here, is over for what is quarantined; guests
   * quarantine, too, so it must be so now, not only before.
   */
  if (quarantined)
    land_late_writes ();
  if (l->e.n > 0)
    l->state = COMPARING;
}

static void
done (struct lease *l)
{
  if (lock_session ())
    expect ("done", tracker_done (t, &l->e, l->epoch) == 0);
  drop_lease (l);
}

static void
compared (struct lease *l)
{
  struct extents wrong = EXTENTS_EMPTY;

  if (lock_session ()) {
    expect ("compared",
            tracker_compared (t, &l->equal, true, NULL) == 0 &&
              tracker_compared (t, &l->different, false, &wrong) == 0);
    if (wrong.n > 0 && !l->quarantined)
      fail ("a chunk differs that counted as clean");
    count.compared++;
  }
  extents_free (&wrong);
  drop_lease (l);
}

/* The write failed, half done; or nobody knows. */
static void
give_up (struct lease *l, bool unknown)
{
  if (l->state == TAKEN && unknown)
    unknown = false; /* it was never sent */
  if (l->state == READ && unknown)
    write_late (&l->e, l->data);
  else if (l->state == READ && l->e.n > 0)
    for (uint64_t i = 0; i < l->e.v[0].length / 2; i++)
      put (cache, l->e.v[0].offset + i, l->data[l->e.v[0].offset + i]);
  if (l->state == READ)
    for (size_t k = 0; k < l->e.n; k++)
      for (uint64_t i = 0; i < l->e.v[k].length; i++)
        copied[(l->e.v[k].offset + i) / CHUNK] = true;
  if (lock_session ())
    expect ("failed", tracker_failed (t, &l->e, unknown) == 0);
  count.quarantined += unknown;
  drop_lease (l);
}

/* One step of its life. */
static void
advance (struct lease *l)
{
  switch (l->state) {
  case TAKEN:
    transfer (l, source, NULL);
    l->state = READ;
    break;
  case READ:
    transfer (l, NULL, cache);
    l->state = WRITTEN;
    break;
  case WRITTEN:
    done (l);
    break;
  case COMPARING:
    transfer (l, source, NULL);
    yield (&rnd, 2);
    sort_chunks (l);
    l->state = COMPARED;
    break;
  case COMPARED:
    compared (l);
    break;
  case FREE:
    break;
  }
}

static void
finish_leases (void)
{
  for (unsigned i = 0; i < LEASES; i++)
    while (leases[i].state != FREE)
      advance (&leases[i]);
}

/* ---- Flushes and losses ------------------------------------------------- */

static void
flush_begin (void)
{
  if (flush_under_way || !lock_session ())
    return;
  expect ("flush-begin", tracker_flush_begin (t, &flush_epoch) == 0);
  flush_under_way = true;
  for (uint64_t i = 0; i < DISK; i++)
    flushing[i] = get (cache, i);
}

static void
flush_end (bool success)
{
  if (!flush_under_way)
    return;
  flush_under_way = false;
  /* One that was asked for before a crash has flushed nothing. */
  if (success && flush_epoch == epoch)
    memcpy (durable, flushing, DISK);
  if (lock_session ())
    expect ("flush-end", tracker_flush_end (t, success, flush_epoch) == 0);
}

static void
lost (void)
{
  crash ();
  if (!lock_session ())
    return;
  epoch = tracker_lost (t, NULL);
  pthread_mutex_unlock (&session_lock);
  count.lost++;
}

/* On, off, or a connection of the mirror's has gone with nothing lost. */
static void
mirror (void)
{
  const unsigned kind = unit_random (&rnd, 4);

  if (!lock_session ())
    return;
  if (kind == 3)
    tracker_mirror_lost (t);
  if (kind != 2)
    tracker_mirror (t, kind == 0 ? 0 : 1 + unit_random (&rnd, 2));
  pthread_mutex_unlock (&session_lock);
}

/* ---- Commit ------------------------------------------------------------- */

static void
check_equal (void)
{
  for (unsigned k = 0; k < 3; k++) {
    if (writing != 0)
      fail ("a guest writes in the pause (R9)");
    sched_yield ();
  }
  if (is_any_late ())
    fail ("a write is still to land at the commit (R17)");
  for (uint64_t i = 0; i < DISK; i++) {
    if (get (source, i) != get (cache, i)) {
      fail ("source and destination differ at the commit");
      return;
    }
    if (get (source, i) != durable[i]) {
      fail ("what is committed is not durable");
      return;
    }
  }
}

/* Copy, flush and compare until the destination has everything. */
static bool
final_pass (void)
{
  struct tracker_status s;

  for (unsigned i = 0; i < 100; i++) {
    finish_leases ();
    flush_end (true);
    tracker_get_status (t, &s);
    if (s.remaining_bytes + s.unflushed_bytes + s.quarantined_bytes == 0)
      return true;
    take (&leases[0], 0, DISK);
    finish_leases ();
    flush_begin ();
    flush_end (true);
    take_to_compare (&leases[0], 0, DISK, true);
  }
  return false;
}

/* What is found after a hold has drained, unless the operator has opened the
 * gate.
 */
static bool
is_drained (void)
{
  struct tracker_status s;

  tracker_get_status (t, &s);
  if (s.in_flight_bytes == 0 || s.gate == GATE_OPEN)
    return true;
  fail ("drained, but requests are in flight (R9)");
  return false;
}

static uint8_t at_commit[DISK];

static void
remember_source (void)
{
  for (uint64_t i = 0; i < DISK; i++)
    at_commit[i] = get (source, i);
}

static void
check_source_untouched (void)
{
  for (uint64_t i = 0; i < DISK; i++)
    if (get (source, i) != at_commit[i]) {
      fail ("the source was written after the disk was taken away");
      return;
    }
}

static void
begin_session (bool resume)
{
  pthread_mutex_lock (&session_lock);

  const bool tracking = tracker_is_tracking (t);
  const bool resumed = tracker_begin (t, resume, true);

  if (resumed && !tracking)
    fail ("resumed without tracking");
  epoch = tracker_epoch (t);
  session_alive = true;
  pthread_mutex_unlock (&session_lock);
  while (!tracker_wait_settled (t, 100) && tracker_is_tracking (t))
    ;
  count.sessions++;
}

/* The disk comes back as an operator would bring it: the guests stand still,
 * everything is copied, the source is the owner again.  The other operator
 * waits.
 */
static void
return_to_source (void)
{
  uint64_t token, pause_us;

  if (tracker_owner (t) == OWNER_DESTINATION) {
    const unsigned long enough = writes + 20;

    while (writes < enough)
      sched_yield ();
  }
  end_session_as_operator (false);
  forget_session ();
  check_source_untouched ();
  pthread_mutex_lock (&session_lock);
  tracker_begin (t, false, true);
  while (!tracker_wait_settled (t, 100))
    ;
  while ((token = tracker_hold (t, HOLD_MS)) == 0)
    ;
  while (tracker_wait_drained (t, token, 100) == DRAIN_WAIT)
    ;
  check_source_untouched ();
  for (uint64_t i = 0; i < DISK; i++) {
    put (source, i, get (cache, i));
    durable[i] = get (cache, i);
  }
  if (is_drained ()) /* else it would be asserted */
    tracker_set_owner (t, OWNER_SOURCE, true);
  if (tracker_release (t, token, &pause_us) == -1)
    fail ("release of the hold for the way back");
  pthread_mutex_unlock (&session_lock);
}

/* The record with the gate shut, and what may go wrong with it (R10). */
static void
record (uint64_t token)
{
  static const enum owner owners[] = { OWNER_SOURCE, OWNER_SOURCE,
                                       OWNER_DESTINATION, OWNER_FENCED };
  const enum owner owner = owners[unit_random (&rnd, 4)];
  const bool recorded = unit_random (&rnd, 5) > 0;
  uint64_t pause_us;

  if (unit_random (&rnd, 3) == 0)
    sem_post (&operator_work);
  check_equal ();
  remember_source ();
  yield (&rnd, 30);
  check_equal ();
  tracker_commit_end (t, recorded, owner);
  count.unrecorded += !recorded;
  if (recorded && unit_random (&rnd, 5) == 0 &&
      tracker_rollback_begin (t, token) == 0) {
    check_equal ();
    check_source_untouched ();
    tracker_commit_end (t, false, OWNER_SOURCE);
    count.rolled_back++;
    if (tracker_owner (t) != OWNER_SOURCE)
      fail ("rolled back, but not to the source");
  }
  else if (recorded) {
    count.detached += owner == OWNER_SOURCE;
    count.pivoted += owner == OWNER_DESTINATION;
    count.handed_over += owner == OWNER_FENCED;
    if (tracker_owner (t) != owner)
      fail ("recorded, but the owner is another");
  }
  if (tracker_release (t, token, &pause_us) == -1)
    count.ended++;
}

static void
commit (void)
{
  uint64_t token, pause_us;
  enum tracker_drain drain;

  finish_leases ();
  flush_end (true);
  token = tracker_hold (t, HOLD_MS);
  if (token == 0)
    return;
  do
    drain = tracker_wait_drained (t, token, 10);
  while (drain == DRAIN_WAIT);
  if (drain == DRAIN_EXPIRED)
    return; /* the session was ended */
  if (is_drained () && final_pass () &&
      tracker_commit_begin (t, token, unit_random (&rnd, 2) * HOLD_MS) == 0)
    record (token);
  else
    tracker_release (t, token, &pause_us);
  if (failures == 0 && tracker_owner (t) != OWNER_SOURCE)
    return_to_source ();
}

/* A hold that is likely to be missed. */
static void
short_hold (void)
{
  uint64_t pause_us;
  const uint64_t token = tracker_hold (t, unit_random (&rnd, 3));

  if (token == 0)
    return;
  if (tracker_wait_drained (t, token, unit_random (&rnd, 3)) != DRAIN_DONE)
    count.not_drained++;
  if (unit_random (&rnd, 2))
    tracker_release (t, token, &pause_us);
}

/* ---- The migrator ------------------------------------------------------- */

static void
new_session (void)
{
  /* Let the guests run without tracking, if it is off. */
  yield (&rnd, 40);
  forget_session ();
  begin_session (unit_random (&rnd, 4) > 0);
}

static void
step_of_lease (struct lease *l)
{
  const uint64_t cursor = unit_random (&rnd, DISK);
  const uint64_t most = unit_random (&rnd, 20 * CHUNK);
  const unsigned kind = unit_random (&rnd, 20);

  if (l->state != FREE) {
    const bool copies = l->state != COMPARING && l->state != COMPARED;

    if (kind == 0 && copies)
      give_up (l, unit_random (&rnd, 4) == 0);
    else
      advance (l);
  }
  else if (kind < 14)
    take (l, cursor, most);
  else
    take_to_compare (l, cursor, most, kind > 17);
}

static void
rare_step (void)
{
  const unsigned kind = unit_random (&rnd, 100);

  if (kind < 40)
    flush_begin ();
  else if (kind < 80)
    flush_end (unit_random (&rnd, 6) > 0);
  else if (kind < 82)
    mirror ();
  else if (kind < 84)
    lost ();
  else if (kind < 88)
    land_late_write ();
  else if (kind < 91)
    commit ();
  else if (kind < 94)
    short_hold ();
  else if (kind < 99)
    sem_post (&operator_work);
  else
    end_session_as_operator (false);
}

static void
migrate (unsigned long iterations)
{
  for (unsigned long i = 0; i < iterations && failures == 0; i++) {
    bool alive;

    pthread_mutex_lock (&session_lock);
    alive = session_alive;
    pthread_mutex_unlock (&session_lock);
    if (!alive)
      new_session ();
    else if (unit_random (&rnd, 5) > 0)
      step_of_lease (&leases[unit_random (&rnd, LEASES)]);
    else
      rare_step ();
  }
}

static unsigned long
nr_iterations (void)
{
  const char *text = getenv ("ITERATIONS");

  return text ? strtoul (text, NULL, 0) : ITERATIONS;
}

static void
report (void)
{
  printf (
    "\n    sessions %u, lost %u, unknown outcomes %u, compared %u, missed "
    "drains %u"
    "\n    detached %u, pivoted %u, handed over %u, rolled back %u, not "
    "recorded %u, gate found open %u"
    "\n    guest writes %lu, to both sides %lu, fenced %lu ",
    count.sessions, count.lost, count.quarantined, count.compared,
    count.not_drained, count.detached, count.pivoted, count.handed_over,
    count.rolled_back, count.unrecorded, count.ended, writes, mirrored, fenced);
}

static void
test_hammer (void)
{
  pthread_t guests[GUESTS], op;
  uint64_t seeds[GUESTS + 1];

  rnd = unit_seed ();
  for (unsigned i = 0; i <= GUESTS; i++)
    seeds[i] = unit_random (&rnd, UINT64_MAX);
  for (uint64_t i = 0; i < DISK; i++) {
    put (source, i, unit_random (&rnd, 256));
    durable[i] = unit_random (&rnd, 256);
    put (cache, i, durable[i]);
  }
  t = tracker_new (DISK, CHUNK, OWNER_SOURCE);
  CU_ASSERT_PTR_NOT_NULL_FATAL (t);
  tracker_set_grace (t, 0);
  sem_init (&operator_work, 0, 0);
  for (unsigned i = 0; i < GUESTS; i++)
    CU_ASSERT_EQUAL_FATAL (pthread_create (&guests[i], NULL, guest, &seeds[i]),
                           0);
  CU_ASSERT_EQUAL_FATAL (pthread_create (&op, NULL, operator, & seeds[GUESTS]),
                         0);

  migrate (nr_iterations ());

  quit = true;
  sem_post (&operator_work);
  pthread_join (op, NULL);
  for (unsigned i = 0; i < GUESTS; i++)
    pthread_join (guests[i], NULL);
  for (unsigned i = 0; i < LEASES; i++) {
    extents_free (&leases[i].e);
    extents_free (&leases[i].equal);
    extents_free (&leases[i].different);
  }
  tracker_stop (t);
  tracker_free (t);
  report ();
  CU_ASSERT_EQUAL (failures, 0);
  /* Or it proves nothing. */
  if (failures == 0 && nr_iterations () >= ITERATIONS) {
    CU_ASSERT (count.detached > 0);
    CU_ASSERT (count.pivoted > 0);
    CU_ASSERT (count.handed_over > 0);
    CU_ASSERT (mirrored > 0);
  }
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "guests, migrator and operator", test_hammer },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("tracker-hammer", tests);
}
