/* SPDX-License-Identifier: BSD-3-Clause */
/* The guests' requests, the proxy around the relay, and what must be true. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relay/internal.h"
#include "server.h"

#define ALL_GUESTS ((1u << GUESTS) - 1)

/* ---- What is known ------------------------------------------------------ */

static bool
is_write (const struct op *op)
{
  return op->kind == OP_WRITE || op->kind == OP_FUA || op->kind == OP_ZERO ||
         op->kind == OP_TRIM;
}

static bool
covers (unsigned g, unsigned block)
{
  const struct op *op = &world.ops[g];

  return is_write (op) && block >= op->offset &&
         block < (unsigned)op->offset + op->length;
}

static uint8_t
value_of (unsigned g)
{
  switch (world.ops[g].kind) {
  case OP_ZERO:
    return VALUE_ZERO;
  case OP_TRIM:
    return VALUE_TRIMMED;
  default:
    return VALUE_GUEST + g;
  }
}

/* Whose data these are; GUESTS: nobody's, they were there before. */
static unsigned
writer (unsigned block, uint8_t value)
{
  for (unsigned g = 0; g < GUESTS; g++)
    if (covers (g, block) && value_of (g) == value)
      return g;
  return GUESTS;
}

/* Whether data of one were there before the other was begun. */
static bool
is_older (unsigned a, unsigned b)
{
  return a == GUESTS || (world.guests[b].ended_before >> a & 1);
}

static uint8_t
in_state (enum op_state state)
{
  uint8_t bits = 0;

  for (unsigned g = 0; g < GUESTS; g++)
    bits |= (uint8_t)(world.guests[g].state == state) << g;
  return bits;
}

/* What a request that begins now may rely on. */
static void
note_begin (struct guest *g)
{
  g->acked_before = in_state (OP_ACKNOWLEDGED);
  g->ended_before = g->acked_before | in_state (OP_FAILED);
  memcpy (g->seen_before, world.seen, sizeof g->seen_before);
}

void
guests_excuse (const uint8_t *data, unsigned offset, unsigned length)
{
  if (length == 0)
    world.excused |= in_state (OP_ACKNOWLEDGED) | in_state (OP_RUNS);
  for (unsigned i = 0; i < length; i++)
    for (unsigned g = 0; g < GUESTS; g++)
      if (covers (g, offset + i) && value_of (g) == data[i])
        world.excused |= 1u << g;
}

/* None of what these have written, or others have read, may be missing. */
static void
check_block (unsigned block, uint8_t value, uint8_t known, const char *what)
{
  const unsigned w = writer (block, value);

  for (unsigned g = 0; g < GUESTS; g++)
    if ((known >> g & 1) && covers (g, block))
      must (w == g || !is_older (w, g), what);
}

static void
check_read (const struct guest *g, const struct op *op, const uint8_t *data)
{
  for (unsigned i = 0; i < op->length; i++) {
    const unsigned block = op->offset + i, w = writer (block, data[i]);

    must (w == GUESTS ? data[i] == VALUE_OLD : true,
          "a read returns what nobody wrote");
    check_block (block, data[i], g->acked_before & ~world.excused,
                 "a read returns older data than were acknowledged");
    check_block (block, data[i], g->seen_before[block] & ~world.excused,
                 "a read returns older data than one before it");
    if (w < GUESTS)
      world.seen[block] |= 1u << w;
  }
}

/* What a crash of the server leaves now. */
static void
check_flushed (const struct guest *g)
{
  for (unsigned i = 0; i < BLOCKS; i++)
    check_block (i, world.server.hard[i], g->acked_before,
                 "a flush was answered, and what was flushed can be lost");
}

static void
check_fua (const struct op *op, unsigned number)
{
  for (unsigned i = 0; i < op->length; i++)
    check_block (op->offset + i, world.server.hard[op->offset + i],
                 1u << number,
                 "a write with FUA was answered, and can be lost");
}

/* ---- Guests ------------------------------------------------------------- */

static int
flush (void)
{
  uint64_t seen = 0;
  const int result = relay_flush (world.relay, &seen, NULL);

  return owed_error_tell (&world.owed, &seen) ? -1 : result;
}

static int
request (const struct op *op, uint8_t *data)
{
  struct relay *r = world.relay;

  switch (op->kind) {
  case OP_WRITE:
    return relay_write (r, data, op->length, op->offset, 0, NULL);
  case OP_FUA:
    return relay_write (r, data, op->length, op->offset, RELAY_FUA, NULL);
  case OP_ZERO:
    return relay_zero (r, op->length, op->offset, 0, NULL);
  case OP_TRIM:
    return relay_trim (r, op->length, op->offset, 0, NULL);
  case OP_READ:
    return relay_read (r, data, op->length, op->offset, NULL);
  case OP_FLUSH:
    return flush ();
  case OP_NONE:
    break;
  }
  return 0;
}

static void *
guest (void *opaque)
{
  struct guest *g = opaque;
  const unsigned number = g - world.guests;
  const struct op *op = &world.ops[number];
  uint8_t data[BLOCKS];
  int result;

  note_begin (g);
  g->state = OP_RUNS;
  memset (data, value_of (number), sizeof data);
  result = request (op, data);
  if (result == 0 && op->kind == OP_READ)
    check_read (g, op, data);
  if (result == 0 && op->kind == OP_FLUSH)
    check_flushed (g);
  if (result == 0 && op->kind == OP_FUA)
    check_fua (op, number);
  g->state = result == 0 ? OP_ACKNOWLEDGED : OP_FAILED;
  return NULL;
}

static bool
guests_are_done (void)
{
  return (in_state (OP_IDLE) | in_state (OP_RUNS)) == 0;
}

/* ---- The proxy ---------------------------------------------------------- */

static bool
is_quiet (void)
{
  return !server_has_late () && guests_are_done ();
}

static void
open_relay (bool takes_over)
{
  struct relay_options o = RELAY_OPTIONS_DEFAULT;
  char *why;

  o.disk_bytes = BLOCKS;
  o.connections = world.left.multi_conn ? 2 : 1;
  o.reconnect_ms = RECONNECT_MS;
  o.grace_ms = GRACE_MS;
  o.unheard_ms = 0;
  o.takes_over = takes_over;
  o.log_bytes = world.left.log_bytes > 0 ? world.left.log_bytes : 1024;
  o.rest = world.has_rest ? &world.rest : NULL;
  o.owed = &world.owed;
  do {
    world.relay = relay_open ("nbd://there", &o, NULL, &why);
    free (why);
  } while (world.relay == NULL);
}

/* Everything; and it is what is there for good. */
static void
look (void)
{
  const struct op all = { OP_READ, 0, BLOCKS };
  uint8_t data[BLOCKS];
  struct guest g;

  note_begin (&g);
  if (relay_read (world.relay, data, BLOCKS, 0, NULL) == 0)
    check_read (&g, &all, data);
}

static void
keep (void *opaque, const struct relay_rest *rest)
{
  (void)opaque;
  assert (rest->nr_entries <= REST);
  world.has_rest = true;
  world.rest = *rest;
  world.rest.entries = world.rest_entries;
  for (size_t i = 0; i < rest->nr_entries; i++) {
    struct relay_entry *e = &world.rest_entries[i];

    *e = rest->entries[i];
    if (e->data == NULL)
      continue;
    memcpy (world.rest_data[i], e->data, e->length);
    e->data = world.rest_data[i];
  }
}

static void
close_and_open (void)
{
  relay_stop (world.relay);
  thread_await (guests_are_done);
  relay_close_keeping (world.relay, keep, NULL);
  open_relay (false);
}

/* What the guests had asked for and heard nothing of may be done late. */
static void
die_and_open (void)
{
  const unsigned fate = thread_choose (FATES);

  threads_kill_others ();
  server_lose_client (fate);
  for (unsigned i = 0; i < GUESTS; i++)
    if (world.guests[i].state < OP_ACKNOWLEDGED)
      world.guests[i].state = OP_FAILED;
  owed_error_init (&world.owed, false, NULL, NULL);
  open_relay (true);
}

/* The proxy as such forgets what was not flushed, and so may a server. */
static bool
may_lack_unflushed (void)
{
  return world.left.ending == ENDING_KILL && world.server.crashed;
}

static void *
proxy (void *opaque)
{
  (void)opaque;
  open_relay (false);
  for (unsigned i = 0; i < GUESTS; i++)
    if (world.ops[i].kind != OP_NONE)
      thread_begin (guest, &world.guests[i]);
  switch (world.left.ending) {
  case ENDING_STAY:
    thread_await (guests_are_done);
    break;
  case ENDING_CLOSE:
    thread_choose (1);
    close_and_open ();
    break;
  case ENDING_KILL:
    thread_choose (1);
    die_and_open ();
    break;
  }
  if (!may_lack_unflushed ()) {
    look ();
    thread_await (is_quiet);
    look ();
  }
  world.is_over = true;
  return NULL;
}

void
world_begin (const struct op ops[GUESTS], const struct bounds *bounds)
{
  memset (&world, 0, sizeof world);
  world.clock_ms = 1000000;
  world.left = *bounds;
  memcpy (world.ops, ops, sizeof world.ops);
  for (unsigned g = 0; g < GUESTS; g++)
    if (ops[g].kind == OP_NONE)
      world.guests[g].state = OP_ACKNOWLEDGED;
  memset (world.server.now, VALUE_OLD, BLOCKS);
  memset (world.server.hard, VALUE_OLD, BLOCKS);
  owed_error_init (&world.owed, false, NULL, NULL);
  thread_begin (proxy, NULL);
}

void
world_check (void)
{
  const struct relay *r = world.relay;

  if (r != NULL)
    must (!r->is_stranger, "the disk is taken for another one");
}
