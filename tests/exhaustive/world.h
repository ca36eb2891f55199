/* SPDX-License-Identifier: BSD-3-Clause */
/* All interleavings of a few guest requests with all that a migration does and
 * that can befall it, on the tracker as it is in the filter.
 *
 * The world is one disk of four blocks (a block is a byte) in two chunks: the
 * tracker, the local side and the destination with their volatile caches, the
 * guests, a migrator, and the clock.  Nothing runs by itself: a schedule is a
 * sequence of steps, each of which is one call of the tracker or one thing that
 * happens at a side, and the exploration (explore.c) takes every step that is
 * possible in every state.  All of the world is in one object that points only
 * into itself, so that a state is kept and restored by copying it.
 *
 * What happens is bounded (struct bounds), so there are no endless schedules.
 *
 * What is looked at in every state (world_check):
 *
 *   - the side that serves the guests holds what they wrote;
 *   - what the tracker takes for clean, and nobody is writing to, is the same
 *     on both sides, whatever the destination's cache loses;
 *   - the same after the proxy was killed, with the power or without it, and
 * has taken what its dirty map says (R14);
 *   - where a write may still land late at the destination, the chunk is in
 *     quarantine (R17);
 *   - from a commit on the gate is shut until the owner is recorded (R10);
 *
 * and when something is answered:
 *
 *   - a commit: both sides are the same, durably, and nothing can land any more
 *     (R10);
 *   - a flush: nothing acknowledged before it began can be lost (R13);
 *   - a look at clean chunks finds nothing wrong;
 *   - a request is served by the side that owns the disk.
 */

#ifndef NBDMIGRATE_EXHAUSTIVE_WORLD_H
#define NBDMIGRATE_EXHAUSTIVE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "explore.h"
#include "tracker/internal.h"

#define BLOCKS 4
#define CHUNK_BLOCKS 2
#define CHUNKS (BLOCKS / CHUNK_BLOCKS)
#define GUESTS 3
#define LEASES CHUNKS
#define LATE 4

/* What a block holds: the guests' numbers, or one of these. */
enum value {
  VALUE_ZERO = 0,
  VALUE_GUEST = 1, /* + number of the guest */
  VALUE_TRIMMED = VALUE_GUEST + GUESTS,
  VALUE_OLD,     /* the local side before */
  VALUE_FOREIGN, /* the destination before */
};

enum kind { OP_NONE, OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH };

struct op {
  enum kind kind;
  uint8_t offset, length;
};

struct side {
  uint8_t now[BLOCKS];   /* what a read finds */
  uint8_t hard[BLOCKS];  /* as of the last flush */
  uint8_t after[BLOCKS]; /* bits: the values that a crash may leave */
};

enum phase {
  GUEST_IDLE,
  GUEST_HELD,    /* at the gate */
  GUEST_IN,      /* in flight, nothing done yet */
  GUEST_APPLIED, /* done at the side that serves it */
  GUEST_FAILED,  /* the same, with an error */
  GUEST_DONE,
};

enum mirrored { MIRROR_NO, MIRROR_SENT, MIRROR_OK, MIRROR_BAD, MIRROR_LATE };

struct guest {
  struct tracker_request req;
  struct tracker_read read;
  enum phase phase;
  enum mirrored mirror;
  bool acknowledged;
  bool mark_written, marked; /* in the dirty map; durably */
  uint8_t before;            /* bits: the guests acknowledged when it began */
  uint8_t place;             /* where a flush went */
};

enum lease_phase {
  LEASE_NONE,
  LEASE_TAKEN,
  LEASE_READ,   /* of the source; of a copy: it is on its way */
  LEASE_LANDED, /* at the destination, and answered; or both sides are read */
};

struct lease {
  enum lease_phase phase;
  bool compare, quarantined; /* what it is for */
  bool broken;               /* its connection is gone, with the server */
  uint8_t first, count;      /* blocks */
  uint8_t data[BLOCKS], there[BLOCKS];
  uint64_t epoch;
};

/* A write that was given up and may still be done. */
struct late {
  uint8_t length; /* 0: none */
  uint8_t offset;
  uint8_t data[BLOCKS];
};

enum flush_phase { FLUSH_NONE, FLUSH_BEGUN, FLUSH_DONE, FLUSH_FAILED };
enum session_phase { SESSION_NONE, SESSION_BEGUN, SESSION_ON };
enum cut {
  CUT_NONE,
  CUT_HELD,
  CUT_DRAINED,
  CUT_COMMITTING,
  CUT_RECORDED,
  CUT_COMMITTED
};

/* The dirty map (R14), as it is used; bits are chunks. */
enum keeper { KEEPER_IDLE, KEEPER_NOTED, KEEPER_FLUSHED };
struct map {
  bool used;     /* in this world */
  bool live;     /* the file holds, and is kept up to date */
  bool recorded; /* the record names it */
  uint8_t durable, file,
    hard; /* relied upon; in the file; as of its last sync */
  enum keeper keeper;
};

/* How often something may happen still; with clears there is a map. */
struct bounds {
  uint8_t takes, compares, flushes, holds, mirrors, begins, faults, clears;
};

struct world {
  struct tracker tracker; /* first: it is aligned */
  uint64_t words[11];     /* of its bitmaps */
  uint64_t quiet[2];      /* the same */
  int64_t clock_us;

  struct map map;
  struct side local, destination;
  uint8_t truth[BLOCKS]; /* what the guests wrote, in its order */

  struct op ops[GUESTS];
  struct guest guests[GUESTS];
  struct lease leases[LEASES];
  struct late late[LATE];

  enum session_phase session;
  bool mirror;         /* it is on */
  bool mirror_used;    /* or was, in this session */
  bool mirror_broken;  /* its connection is gone, the filter has not noticed */
  bool session_broken; /* the same of the migrator's */
  enum flush_phase flush;
  uint64_t flush_epoch;

  enum cut cut;
  uint64_t token;
  enum owner new_owner; /* of the commit */
  enum owner record;    /* what is durable */
  bool detached;

  struct bounds left;
};

extern struct world world;

enum beginning { FROM_NOTHING, FROM_CLEAN, FROM_MIRROR, BEGINNINGS };
extern const char *const beginning_names[BEGINNINGS];

/* Begin: no session yet; or all is copied and flushed; and mirrored. */
extern void world_begin (enum beginning beginning, const struct op ops[GUESTS],
                         const struct bounds *bounds);

/* A map of its own begins, with all marks; it holds no more. */
extern void map_begin (void);
extern void map_void (void);

/* The process has died and starts again: a new tracker. */
extern void world_restart (enum owner owner, bool doubt);

/* What a commit promises: both are the same, for good. */
extern void world_check_equal (void);

/* The sides. */
extern void side_write (struct side *s, unsigned offset, unsigned length,
                        const uint8_t *data);
extern void side_flush (struct side *s);
extern void side_crash (struct side *s, bool lose);
extern struct side *side_of (unsigned place);

extern bool late_any (void);
/* False: there is no room. */
extern bool late_add (unsigned offset, unsigned length, const uint8_t *data);

extern uint8_t op_value (unsigned guest);
extern bool op_touches (const struct op *op, unsigned chunk);
extern bool guest_is_in (const struct guest *g);
extern bool chunk_has (const struct bitmap *b, unsigned chunk);

#endif /* NBDMIGRATE_EXHAUSTIVE_WORLD_H */
