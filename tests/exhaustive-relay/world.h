/* SPDX-License-Identifier: BSD-3-Clause */
/* All schedules of a few guest requests through the relay, with all that can
 * befall its destination.
 *
 * The relay is what it is in the filter, with its threads; below it are
 * remote/command.c, remote.c, transfer.c and ping.c.  What is made here are the
 * threads (threads.c), and instead of libnbd and sockets a server of a few
 * bytes in memory with a volatile cache (server.c).
 *
 * A thread runs until it takes the relay's lock, or waits: what it does in
 * between nobody else can see.  Then any other thread that can run may, or
 * something happens at the server.  Time stands still while anything runs, and
 * goes on in long jumps when everybody waits.
 *
 * All of the world is in one place in memory, with the threads' stacks and what
 * they have allocated, so that a state is kept and restored by copying it.
 *
 * What happens is bounded (struct bounds), so there are no endless schedules.
 *
 * What is looked at (guests.c):
 *
 *   - a read returns nothing that is older than what was acknowledged, or read,
 *     before it began; also after a loss, after a stop of the proxy with what
 * it keeps, and after its sudden death;
 *   - a flush that succeeds: nothing that was acknowledged before it began can
 *     be lost any more by what happens at the destination (R13); also where
 *     another flush, at the same time or earlier, has failed;
 *   - once nothing is under way any more, nothing changes by itself (R17);
 *   - a destination that is the same disk is taken for that;
 *   - nobody waits for ever, and no assertion of the relay's fails.
 */

#ifndef NBDMIGRATE_EXHAUSTIVE_RELAY_WORLD_H
#define NBDMIGRATE_EXHAUSTIVE_RELAY_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "exhaustive/explore.h"
#include "relay/relay.h"

#define BLOCKS 4 /* bytes of the disk */
#define GUESTS 3
#define WIRES 6
#define LATE 4
#define REST 8

#define JUMP_MS 2500 /* longer than the grace period */
#define GRACE_MS 2000
#define RECONNECT_MS 6000

/* ---- Threads (threads.c) ------------------------------------------------ */

enum thread_state {
  THREAD_NONE,
  THREAD_READY,
  THREAD_SLEEPS,  /* on something, or until a time */
  THREAD_JOINS,   /* waits for the end of another */
  THREAD_CHOOSES, /* what happens to it */
  THREAD_AWAITS,  /* until 'condition' is true */
  THREAD_ENDED,
};

#define THREADS (1 + GUESTS + 3) /* the proxy, guests, the relay's own */
#define STACK_BYTES 65536
#define HEAP_BYTES 65536
#define NEVER INT64_MAX

struct thread {
  enum thread_state state;
  const void *on; /* what it sleeps on */
  int64_t until_ms;
  unsigned other;
  bool (*condition) (void);
  uint8_t choices, chosen;
  size_t heap_used;
  void *(*start) (void *opaque);
  void *opaque;
  ucontext_t context;
};

/* Begin a thread, not run it yet. */
extern unsigned thread_begin (void *(*start) (void *opaque), void *opaque);
extern bool thread_can_run (unsigned i);
extern void thread_run (unsigned i);

/* For the thread that runs: let the others; wait; any of 0 .. n - 1. */
extern void thread_await (bool (*condition) (void));
extern unsigned thread_choose (unsigned n);

/* Not a thread, but something that happens in the same world, which may have to
 * allocate.
 */
extern void threads_happens (bool now);

/* All but the one that runs are gone, with what they had. */
extern void threads_kill_others (void);
/* Those that sleep until then wake up. */
extern void threads_wake_late (void);

/* ---- The server (server.c) ---------------------------------------------- */

/* A write that was given up and may still be done. */
struct late {
  uint8_t length; /* 0: none */
  uint8_t offset;
  bool may_end; /* the server was reached again: it is done soon, or never */
  uint8_t data[BLOCKS];
};

struct connection;

struct wire {
  struct connection *connection; /* NULL: none */
  bool dead;                     /* the server does not know it any more */
};

struct server {
  uint8_t now[BLOCKS];  /* what a read finds */
  uint8_t hard[BLOCKS]; /* as of the last flush: what a crash leaves */
  bool
    dropped[BLOCKS]; /* a flush has failed to write it, and none tries again */
  struct wire wires[WIRES];
  struct late late[LATE];
  bool crashed; /* ever */
};

/* Of what was sent and not answered when a connection ends; or of what fails.
 */
enum fate { FATE_GONE, FATE_DONE, FATE_LATE, FATES };

/* ---- Guests and the proxy (guests.c) ------------------------------------ */

enum kind { OP_NONE, OP_WRITE, OP_FUA, OP_ZERO, OP_TRIM, OP_READ, OP_FLUSH };

struct op {
  enum kind kind;
  uint8_t offset, length;
};

enum op_state { OP_IDLE, OP_RUNS, OP_ACKNOWLEDGED, OP_FAILED };

struct guest {
  enum op_state state;
  uint8_t ended_before; /* bits: the guests' that ended before it began */
  uint8_t acked_before; /* of those */
  uint8_t seen_before[BLOCKS]; /* bits: whose data were read before it began */
};

#define VALUE_ZERO 0
#define VALUE_TRIMMED 1
#define VALUE_OLD 2
#define VALUE_GUEST 3 /* + number of the guest */

enum ending {
  ENDING_STAY,  /* it goes on */
  ENDING_CLOSE, /* the proxy stops, at any time, and starts again */
  ENDING_KILL,  /* it dies, at any time, and starts again */
};

struct bounds {
  enum ending ending;
  bool multi_conn;   /* two connections */
  uint8_t minimum;   /* block */
  uint8_t log_bytes; /* 0: enough */
  uint8_t faults, jumps;
  uint8_t errors;   /* that the server answers */
  uint8_t switches; /* away from a thread that could go on */
};
#define ANY_SWITCHES 255

struct world {
  int64_t clock_ms;
  unsigned running; /* the thread that ran last */
  struct thread threads[THREADS];
  struct server server;

  struct op ops[GUESTS];
  struct guest guests[GUESTS];
  uint8_t seen[BLOCKS]; /* bits: whose data were read; 128: the old ones */
  uint8_t excused;      /* bits: whose data may be lost, as an error tells */
  struct relay *relay;
  struct owed_error owed;

  struct relay_entry rest_entries[REST];
  uint8_t rest_data[REST][BLOCKS];
  struct relay_rest rest;
  bool has_rest;
  bool is_over; /* the proxy has looked at everything */

  struct bounds left;
};

extern struct world world;

/* An error was answered to what was to bring these, or to a flush (length 0):
 * they, or what was acknowledged, may be there now and be lost by a crash.
 */
extern void guests_excuse (const uint8_t *data, unsigned offset,
                           unsigned length);

extern void world_begin (const struct op ops[GUESTS],
                         const struct bounds *bounds);

extern void must (bool right, const char *what);

#endif /* NBDMIGRATE_EXHAUSTIVE_RELAY_WORLD_H */
