/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The rules (docs/rules.md) as a model that Spin can search: one chunk of one
 * disk, the guests that write it, the filter in front of it, the migrator, and
 * two places, each with a cache that a restart empties.  Place 0 is behind the
 * filter itself, place 1 behind a server and a network: its connections break,
 * it is started again, and what was sent and not answered may land later.
 *
 * Checked is, in every schedule:
 *   - a read returns no value that an acknowledged or seen write has replaced,
 *   - an acknowledged flush outlasts every crash,
 *   - a write is acknowledged by the place that the record names,
 *   - a commit finds both places equal, and durably so,
 *   - nobody who waits waits for ever (Spin's invalid end states).
 *
 * What is taken for granted: a flush and a record are durable when they end; a
 * write lands before the grace is over or never (R17), so the end of the grace is
 * "nothing is late"; requests that began before a crash of the proxy do not go
 * on at its own disk.  What is left out: several disks, parts of a chunk, zeroes,
 * trims, FUA, the kept log of a clean stop, handover and detach.
 *
 * -DBUG_R1 and so on plant a bug each; check.sh runs all of it.
 */

#ifndef WRITES
#define WRITES 3     /* of all guests; a write's value is its number */
#endif
#ifndef GUESTS
#define GUESTS 1     /* 1 or 2, with a request each at a time */
#endif
#ifndef WORKERS
#define WORKERS 1    /* 1 or 2 requests of the migrator at a time */
#endif
#ifndef SESSIONS
#define SESSIONS 2   /* the migrator can die, and is then run again */
#endif
#ifndef LOSSES
#define LOSSES 1     /* of the connections to place 1, with or without a restart */
#endif
#ifndef CRASHES
#define CRASHES 0    /* of the proxy, with or without the loss of its cache */
#endif
#ifndef MOVES
#define MOVES 1      /* there, back, there again */
#endif

#define BIT(v) (1 << (v))
#define HAS(mask, v) (((mask) >> (v)) & 1)

/* ---- places ------------------------------------------------------------ */

typedef place {
  byte cache; /* what a read returns */
  byte disk;  /* what is left after a restart */
};
place at[2];

/* ---- what was promised ------------------------------------------------- */

byte next = 1;         /* value of the next write */
byte ended = BIT(0);   /* answered, well or not; these are sets of values */
byte needed;           /* acknowledged or seen: must not be undone any more */
byte durable;          /* a flush was acknowledged */
byte before[WRITES + 1]; /* what had ended when that write began */

#define REPLACED_BY(v, x) (HAS(needed, v) && HAS(before[v], x))
#if WRITES == 2
#define STALE(x) (REPLACED_BY(1, x) || REPLACED_BY(2, x))
#elif WRITES == 3
#define STALE(x) (REPLACED_BY(1, x) || REPLACED_BY(2, x) || REPLACED_BY(3, x))
#endif

/* ---- requests to the other place --------------------------------------- */

mtype = { sent, answered, broken };
#define none 0 /* what it is at first */
typedef request {
  mtype state;
  byte value;
};
request copy[2];  /* of the migrator's workers */
request guest_[2]; /* of guests: mirrored, or relayed */
byte late[2];     /* what may still land at place 1: value + 1; 0: nothing */
#define NOTHING_IS_LATE (late[0] == 0 && late[1] == 0)

bool migrator_down; /* its connections have broken, and it has not seen to it */
bool filter_down;   /* the filter's own, the same */
byte losses;

/* More than two: one of them never lands. */
inline may_land (r)
{
  if
  :: late[0] == 0 -> late[0] = r.value + 1
  :: late[0] != 0 && late[1] == 0 -> late[1] = r.value + 1
  :: late[0] != 0 && late[1] != 0 -> skip
  fi
}

inline cut (r)
{
  if
  :: r.state == sent -> may_land (r); r.state = broken
  :: r.state == answered -> r.state = broken
  :: r.state == answered -> skip /* the answer was there already */
  :: r.state == none || r.state == broken -> skip
  fi
}

/* ---- the filter -------------------------------------------------------- */

bool up = true;
byte crashes;
byte record; /* the owner, on disk */
byte owner;  /* who serves */
byte moves;
#define TARGET (1 - owner)

bool D, L, U, F, Q;
byte epoch;
bool tracking;
byte untracked; /* in flight, and began before tracking did */
byte in_flight;
bool gate;      /* shut */
byte committing; /* 1: checked, 2: recorded */
bool session;
byte sessions;   /* the number of the one of now */
bool copying;    /* what began before tracking has ended */
bool mirror;
bool conflict[2]; /* of a guest's mirrored request */
bool both[2];     /* a guest's request is mirrored */
byte logged;      /* the relay's: acknowledged and not flushed; 0: nothing */
bool grace;       /* what was sent again may be followed by what is late */
bool old;         /* what an earlier process sent may still land */

inline all_conflict ()
{
  conflict[0] = both[0];
  conflict[1] = both[1];
}

/* R6a */
inline nothing_is_flushed ()
{
  D = D || U || F;
  U = false;
  F = false
}

inline end_lease_dirty ()
{
  L = false;
  D = true
}

inline leave_copy (r)
{
  if
  :: r.state == sent && TARGET == 1 -> may_land (r)
  :: else
  fi;
  r.state = none;
  r.value = 0
}

/* R7: the session's end, however it comes about. */
inline end_session ()
{
  session = false;
  copying = false;
  migrator_down = false;
  leave_copy (copy[0]);
  leave_copy (copy[1]);
#ifdef BUG_R7
  U = false;
  F = false;
  D = D || L;
  L = false;
#else
  nothing_is_flushed ();
  Q = Q || L;
  D = D || L;
  L = false;
#endif
  mirror = false;
  all_conflict ();
  if
  :: committing == 0 -> gate = false
  :: else
  fi
}

/* An answer that came over the connection that is lost is worth nothing if it
 * was not in the log by then: the replay has not seen that write.
 */
inline again (r)
{
  if
#ifdef BUG_R13_OLD_ANSWER
  :: r.state == broken -> at[1].cache = r.value; r.state = answered
  :: r.state != broken -> skip
#else
  :: r.state == none -> skip
  :: r.state != none -> at[1].cache = r.value; r.state = answered
#endif
  fi
}

active proctype filter ()
{
end:
  do
  /* R8: the deadline of the gate */
#ifdef BUG_R10
  :: atomic { gate -> gate = false }
#else
  :: atomic { gate && committing == 0 -> gate = false }
#endif

  /* R10: first the record, then the first request */
  :: atomic { committing == 1 -> record = TARGET; committing = 2 }
  :: atomic {
       committing == 2 ->
       owner = record;
       committing = 0;
       moves++;
       tracking = false;
       end_session ();
       Q = false;
       D = false;
       logged = 0;
       grace = false;
       if
       :: owner == 1 && losses < LOSSES -> filter_down = false
       :: else
       fi;
       gate = false
     }

  /* A lost connection of the mirror's: R6a */
  :: atomic {
       filter_down && owner == 0 && mirror ->
       mirror = false;
       D = D || L;
       nothing_is_flushed ();
       all_conflict ()
     }

  /* R13, R17: the relay connects again; what is in the log is sent again, and
   * after it what was not answered, and flushed, before anything else passes. */
  :: atomic {
       up && owner == 1 && filter_down && !old ->
       if
       :: logged != 0 -> at[1].cache = logged
       :: else
       fi;
       again (guest_[0]);
       again (guest_[1]);
       at[1].disk = at[1].cache;
       logged = 0;
       filter_down = false;
       grace = true
     }
#ifdef BUG_R17_RELAY
  :: atomic { grace -> grace = false }
#else
  :: atomic { grace && NOTHING_IS_LATE -> grace = false }
#endif
#ifdef BUG_R17_RESTART
  :: atomic { old -> old = false }
#else
  :: atomic { old && NOTHING_IS_LATE -> old = false }
#endif
  od
}

/* ---- the server of place 1, and the network ---------------------------- */

inline serve (r)
{
  at[1].cache = r.value;
  r.state = answered
}

active proctype server ()
{
end:
  do
  :: atomic { copy[0].state == sent && TARGET == 1 -> serve (copy[0]) }
#if WORKERS == 2
  :: atomic { copy[1].state == sent && TARGET == 1 -> serve (copy[1]) }
#endif
  :: atomic { guest_[0].state == sent -> serve (guest_[0]) }
#if GUESTS == 2
  :: atomic { guest_[1].state == sent -> serve (guest_[1]) }
#endif
  :: atomic { late[0] != 0 -> at[1].cache = late[0] - 1; late[0] = 0 }
  :: atomic { late[1] != 0 -> at[1].cache = late[1] - 1; late[1] = 0 }
  :: atomic { late[0] != 0 -> late[0] = 0 }
  :: atomic { late[1] != 0 -> late[1] = 0 }
  /* It writes out what it likes, when it likes. */
  :: atomic { at[1].disk != at[1].cache -> at[1].disk = at[1].cache }
  :: atomic {
       losses < LOSSES ->
       losses++;
       if
       :: at[1].cache = at[1].disk
       :: skip
       fi;
       if
       :: TARGET == 1 -> cut (copy[0]); cut (copy[1])
       :: else
       fi;
       cut (guest_[0]);
       cut (guest_[1]);
       migrator_down = session && TARGET == 1;
       filter_down = true
     }
  od
}

/* ---- the proxy's end --------------------------------------------------- */

#if CRASHES > 0
active proctype crash ()
{
end:
  do
  :: atomic {
       crashes < CRASHES ->
       crashes++;
       ended = ended | (BIT (next) - 1);
       committing = 0;
       end_session ();
       cut (guest_[0]);
       cut (guest_[1]);
       guest_[0].state = none; guest_[0].value = 0;
       guest_[1].state = none; guest_[1].value = 0;
       both[0] = false; both[1] = false;
       conflict[0] = false; conflict[1] = false;
       in_flight = 0;
       untracked = 0;
       tracking = false;
       gate = false;
       logged = 0;
       grace = false;
       if
       :: at[0].cache = at[0].disk
       :: skip
       fi;
       /* R14 */
       owner = record;
       /* R13: it begins as if place 1 had been lost, and flushes it first */
#ifdef BUG_R13_KILL
       filter_down = false;
#else
       filter_down = owner == 1;
#endif
#ifdef BUG_R14
       owner = 0;
       record = 0;
#endif
       U = false; F = false; L = false; Q = false;
       D = false;
       old = true;
       needed = durable; /* a kill may lose what a power cut would */
       assert (owner == 1 || !STALE (at[owner].cache))
     }
  od
}
#endif

/* ---- the migrator ------------------------------------------------------ */

#define MINE (session && sessions == mine)
#define CAN_READ (owner == 0 || !filter_down)

inline send_copy (r, v)
{
  r.value = v;
  if
  :: TARGET == 0 -> at[0].cache = v; r.state = answered
  :: TARGET == 1 && !migrator_down -> r.state = sent
  :: TARGET == 1 && migrator_down -> r.state = broken
  fi
}

/* R3: first the lease, then the reading.  R4: not what is leased.  R17: not what
 * may still be written. */
#ifdef BUG_R4
#define MAY_LEASE (D && !Q)
#else
#define MAY_LEASE (D && !L && !Q)
#endif

proctype worker (byte i)
{
  byte mine, value, then;

end:
  do
  :: d_step {
       session && copying && !migrator_down && MAY_LEASE ->
       mine = sessions;
       then = epoch;
#ifndef BUG_R3
       D = false;
#endif
       L = true;
#ifndef BUG_R12_FLAG
       all_conflict ();
#endif
     }
     if
     :: atomic { MINE && CAN_READ -> value = at[owner].cache }
     :: atomic { !MINE -> goto gone }
     fi;
     if
     :: atomic {
          MINE ->
#ifdef BUG_R3
          D = false;
#endif
          send_copy (copy[i], value)
        }
     :: atomic { !MINE -> goto gone }
     fi;
     if
     :: atomic {
          MINE && copy[i].state == answered ->
          copy[i].state = none; copy[i].value = 0;
          if /* R5, R6a */
          :: then == epoch -> L = false; U = true
#ifdef BUG_R6A
          :: then != epoch -> L = false; U = true
#else
          :: then != epoch -> end_lease_dirty ()
#endif
          fi
        }
     :: atomic {
          MINE && copy[i].state == broken ->
          copy[i].state = none; copy[i].value = 0;
          end_lease_dirty ();
#ifndef BUG_R17_COPY
          Q = true
#endif
        }
     :: atomic { !MINE -> skip }
     fi;
gone:
     atomic { value = 0; then = 0; mine = 0 }
  od
}

inline answer_flush ()
{
  if
  :: MINE && TARGET == 0 -> at[0].disk = at[0].cache; well = true
  :: MINE && TARGET == 1 && !migrator_down ->
     at[1].disk = at[1].cache; well = true
  :: MINE && TARGET == 1 && migrator_down -> well = false
  :: !MINE -> well = false
  fi
}

active proctype migrator ()
{
  byte mine, then, value;
  bool well;

end:
  do
  /* R1, R16 */
  :: atomic {
       up && !session && committing == 0 && sessions < SESSIONS &&
#ifndef BUG_R17_BEGIN
         !old &&
#endif
         moves < MOVES ->
       sessions++;
       session = true;
       mine = sessions;
       D = D || !tracking; /* nobody knows what was written meanwhile */
       tracking = true
     }
#ifdef BUG_R1
  :: atomic { MINE && !copying -> copying = true }
#else
  :: atomic { MINE && !copying && untracked == 0 -> copying = true }
#endif

  /* R6a */
  :: atomic {
       MINE && migrator_down ->
#ifndef BUG_R6A
       epoch++;
       nothing_is_flushed ();
       all_conflict ();
#endif
       migrator_down = false
     }

  /* R6 */
  :: atomic {
       MINE && copying && U && !F && !migrator_down ->
       then = epoch;
#ifndef BUG_R6
       U = false;
#endif
       F = true
     };
     atomic { answer_flush () };
     atomic {
       if
       :: MINE && well && then == epoch ->
          F = false;
#ifdef BUG_R6
          U = false;
#endif
       :: MINE && !(well && then == epoch) -> D = D || F; F = false
       :: !MINE -> skip
       fi;
       then = 0;
       well = false
     }

  /* R17: what may have been written is compared, when it can land no more */
  :: atomic {
#ifdef BUG_R17_COPY
       MINE && copying && Q && !L && !migrator_down ->
#else
       MINE && copying && Q && !L && !migrator_down && NOTHING_IS_LATE ->
#endif
       Q = false;
       L = true;
       then = epoch;
       all_conflict ()
     };
     if
     :: atomic { MINE && CAN_READ -> value = at[owner].cache }
     :: atomic { !MINE -> skip }
     fi;
     atomic {
       if
       :: MINE && then == epoch && !migrator_down &&
            value == at[TARGET].cache -> L = false; U = true
       :: MINE && !(then == epoch && !migrator_down &&
            value == at[TARGET].cache) -> end_lease_dirty ()
       :: !MINE -> skip
       fi;
       then = 0;
       value = 0
     }

#ifdef MIRROR
  :: atomic {
       MINE && copying && owner == 0 && !mirror ->
       mirror = true;
       filter_down = false
     }
  :: atomic { MINE && mirror -> mirror = false }
#endif

  /* R8, R9, R10 */
  :: atomic { MINE && copying && !gate && committing == 0 -> gate = true }
  :: atomic {
       MINE && gate && committing == 0 &&
#ifndef BUG_R9
       in_flight == 0 &&
#endif
       !D && !L && !U && !F && !Q &&
       (owner == 0 || NOTHING_IS_LATE) &&
       (owner == 0 || (!filter_down && !grace)) ->
#ifndef BUG_R9
       assert (at[owner].cache == at[TARGET].disk);
       assert (at[owner].cache == at[TARGET].cache);
#endif
       committing = 1
     }
  /* It dies. */
  :: atomic { MINE && committing == 0 -> end_session () }
  od
}

/* ---- guests ------------------------------------------------------------ */

#define LIVES (crashes == life)

/* R12: decided once, under the lock. */
#ifdef BUG_R12_OVERLAP
#define IS_ALONE true
#else
#define IS_ALONE (in_flight == 0)
#endif
#ifdef BUG_R12_LEASED
#define MAY_MIRROR (mirror && owner == 0 && IS_ALONE)
#else
#define MAY_MIRROR (mirror && owner == 0 && !L && !Q && IS_ALONE)
#endif

/* It covers the whole chunk, so D goes; in one step with the list (R9). */
#ifdef BUG_R12_LATE
#define MIRROR_CLEANS false
#else
#define MIRROR_CLEANS both[g]
#endif

/* One write to a range at a time: the relay's range lock. */
#define RANGE_IS_FREE \
  (owner == 0 || (guest_[0].state == none && guest_[1].state == none))

inline enter ()
{
  value = next;
  next++;
  before[value] = ended;
  side = owner;
  tracked = tracking;
  untracked = untracked + (1 - tracked);
  both[g] = tracked && MAY_MIRROR;
  D = D && !(MIRROR_CLEANS);
  conflict[g] = false;
  in_flight++
#ifdef BUG_R2
  ;
  D = D || tracked
#endif
}

inline send_guest ()
{
  guest_[g].value = value;
  if
  :: !filter_down -> guest_[g].state = sent
  :: filter_down -> guest_[g].state = broken
  fi
}

inline acknowledge ()
{
  assert (record == side);
  in_flight--;
  untracked = untracked - (1 - tracked);
  ended = ended | BIT (value);
  needed = needed | BIT (value);
  guest_[g].state = none;
  guest_[g].value = 0;
  both[g] = false;
  conflict[g] = false
}

proctype guest (byte g)
{
  byte value, side, life, asked, seen;
  bool tracked;

end:
  do
  /* A write.  R8: gate and list in one step */
#ifdef BUG_R8
  :: atomic { next <= WRITES && up && !gate && !old && RANGE_IS_FREE ->
              life = crashes };
     atomic { RANGE_IS_FREE && LIVES -> enter () }
#else
  :: atomic {
       next <= WRITES && up && !gate && !old && RANGE_IS_FREE ->
       life = crashes;
       enter ();
       if
       :: side == 1 -> send_guest ()
       :: else
       fi
     }
#endif
     if
     :: atomic { LIVES && side == 1 && guest_[g].state == none -> send_guest () }
     :: LIVES && side == 1 && guest_[g].state != none -> skip
     :: LIVES && side == 0 -> skip
     :: !LIVES -> goto ended_
     fi;
     if
     :: atomic { LIVES && both[g] -> send_guest () }
     :: LIVES && !both[g] -> skip
     :: !LIVES -> goto ended_
     fi;
     if
     :: atomic { LIVES && side == 0 -> at[0].cache = value }
     :: LIVES && side == 1 -> skip
     :: !LIVES -> goto ended_
     fi;
     /* R2: it marks what it has changed when it ends, before the answer */
     if
     :: atomic {
          LIVES && side == 0 && !both[g] ->
#ifndef BUG_R2
          D = D || tracked;
#endif
          acknowledge ()
        }
     :: atomic {
          LIVES && both[g] && guest_[g].state == answered ->
          if
          :: conflict[g] -> D = true
#ifdef BUG_R12_LATE
          :: !conflict[g] -> U = true; D = false
#else
          :: !conflict[g] -> U = true
#endif
          fi;
          acknowledge ()
        }
     :: atomic {
          LIVES && both[g] && guest_[g].state == broken ->
          D = true;
          Q = true;
          acknowledge ()
        }
     /* the destination is slow: the guest does not wait for it */
     :: atomic {
          LIVES && both[g] && guest_[g].state == sent ->
          may_land (guest_[g]);
          mirror = false;
          D = true;
#ifndef BUG_R12_SLOW
          Q = true;
#endif
          acknowledge ()
        }
     :: atomic {
          LIVES && side == 1 && guest_[g].state == answered && !grace ->
          D = D || tracked;
          logged = value;
          acknowledge ()
        }
     :: !LIVES -> skip
     fi;
ended_:
     atomic { value = 0; side = 0; life = 0; tracked = false }

  /* A read; one at the relay waits until what was lost was sent again */
  :: atomic {
       up && CAN_READ ->
       seen = at[owner].cache;
       assert (!STALE (seen));
       if
       :: seen != 0 -> needed = needed | BIT (seen)
       :: else
       fi;
       seen = 0
     }

  /* A flush (R13) */
  :: atomic {
       up && CAN_READ && !grace && (needed & ~durable) != 0 ->
       life = crashes;
       asked = needed;
       side = owner;
       seen = logged;
       at[owner].disk = at[owner].cache
     };
     atomic {
       if
       :: LIVES && (side == 0 || !filter_down) ->
          durable = durable | asked;
          if
#ifdef BUG_R13
          :: side == 1 && owner == 1 -> logged = 0
#else
          :: side == 1 && owner == 1 && logged == seen -> logged = 0
#endif
          :: else
          fi
       :: else
       fi;
       life = 0; asked = 0; side = 0; seen = 0
     }
  od
}

init
{
  atomic {
    run worker (0);
#if WORKERS == 2
    run worker (1);
#endif
    run guest (0);
#if GUESTS == 2
    run guest (1);
#endif
  }
}
