/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a mark may be written: a dirty chunk of each disk, under a lease, and
 * preferably in a block that was seen to be none of a source.
 */

#include <stdlib.h>
#include <string.h>

#include "trust/canary-internal.h"
#include "base/no-memory.h"
#include "cleanup.h"
#include "disks/gates.h"
#include "trust/map.h"
#include "trust/look.h"
#include "protocol.h"

#define PLACE_BYTES 4096 /* of a mark; more where blocks are larger */
#define TRIES 4

/* ---- questions --------------------------------------------------------- */

int
canary_ask (struct canary *c, const char *command, place_arguments *arguments)
{
  int result = 0;
  size_t i;

  for (i = 0; i < c->disks->n; ++i) {
    struct disk *d = &c->disks->v[i];
    json_t *args = arguments (&c->v[i]);

    control_answer_clear (&d->answer);
    if (args != NULL)
      control_ask (d->control, command, args, &d->answer);
    else
      d->answer.done = true;
  }
  for (i = 0; i < c->disks->n; ++i) {
    const struct disk *d = &c->disks->v[i];

    while (!d->answer.done)
      drive (c->disks, 1000);
    if (d->answer.error_class == NULL)
      continue;
    failure_note (&c->disks->failure,
                  "looking at the destination of %s: %s: %s", d->pair->source,
                  command, d->answer.desc);
    result = -1;
  }
  return result;
}

/* ---- places ------------------------------------------------------------ */

/* A block that is not in the top layer would be one more in the overlay. */
static uint64_t
choose_wish (struct place *p)
{
  struct disks *disks = p->d->disks;
  uint64_t bytes;

  if (p->d->base != NULL && p->top.n == 0)
    map_top (disks, p->d->base, p->d->disk_bytes, &p->top);
  bytes = extents_bytes (&p->top);
  if (bytes > 0)
    return map_byte (&p->top, random_below (&disks->random, bytes));
  return random_below (&disks->random, p->d->disk_bytes);
}

/* While a write of an earlier run may still land (R17), it could be over a
 * mark; that run has marked this destination.
 */
static bool
needs_chunk (const struct place *p)
{
  return !p->chosen && p->chunk.length == 0 && p->d->old_connections == 0;
}

static json_t *
take_wish (const struct place *p)
{
  if (!needs_chunk (p))
    return NULL;
  return need_memory (
    json_pack ("{s:I, s:i}", "cursor", (json_int_t)p->wish, "max_bytes", 1));
}

/* Nothing is dirty behind the random cursor: from the beginning. */
static json_t *
take_first (const struct place *p)
{
  if (!needs_chunk (p))
    return NULL;
  return need_memory (json_pack ("{s:i, s:i}", "cursor", 0, "max_bytes", 1));
}

/* The block of the wish, or a random one in the chunk.  None, if the chunk is
 * too short.
 */
static void
choose_block (struct place *p)
{
  const uint64_t block = p->d->destination->minimum_bytes;
  uint64_t bytes = PLACE_BYTES, blocks, wished;

  if (bytes % block != 0 || bytes > p->chunk.length)
    bytes = block < MARK_BYTES ? MARK_BYTES : block;
  if (bytes > p->chunk.length || bytes % block != 0)
    bytes = 0;
  p->bytes = (uint32_t)bytes;
  p->offset = p->chunk.offset;
  if (bytes == 0)
    return;
  blocks = p->chunk.length / bytes;
  wished =
    p->wish < p->chunk.offset ? blocks : (p->wish - p->chunk.offset) / bytes;
  p->offset +=
    bytes *
    (wished < blocks ? wished : random_below (&p->d->disks->random, blocks));
}

static int
take (struct canary *c, place_arguments *arguments)
{
  size_t i;

  if (canary_ask (c, "take", arguments) == -1)
    return -1;
  for (i = 0; i < c->disks->n; ++i) {
    CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
    struct disk *d = &c->disks->v[i];
    const char *why = NULL;

    if (d->answer.value == NULL)
      continue;
    if (protocol_parse_extents (json_object_get (d->answer.value, "extents"),
                                &e, &why) == -1) {
      failure_note (&c->disks->failure, "taking a chunk of %s: %s",
                    d->pair->source, why);
      return -1;
    }
    if (e.n == 0)
      continue;
    c->v[i].chunk = e.v[0];
    choose_block (&c->v[i]);
  }
  return 0;
}

static json_t *
give_back_arguments (const struct place *p)
{
  struct extents e = { .v = (struct extent *)&p->chunk, .n = 1 };

  if (p->chunk.length == 0)
    return NULL;
  return need_memory (json_pack (
    "{s:o, s:b, s:b}", "extents", protocol_extents (&e, false), "put_back",
    !p->marked && !p->chunk.touched, "unknown", p->marked));
}

static json_t *
give_back_unchosen (const struct place *p)
{
  return p->chosen ? NULL : give_back_arguments (p);
}

static int
give_back (struct canary *c, bool all)
{
  const int result =
    canary_ask (c, "failed", all ? give_back_arguments : give_back_unchosen);
  size_t i;

  for (i = 0; i < c->disks->n; ++i)
    if (all || !c->v[i].chosen)
      c->v[i].chunk.length = 0;
  return result;
}

int
canary_give_back (struct canary *c)
{
  return give_back (c, true);
}

bool
canary_fits (const struct endpoint *e, const struct place *p)
{
  return p->bytes > 0 && p->offset + p->bytes <= e->disk_bytes;
}

/* ---- gates ------------------------------------------------------------- */

int
canary_shut (struct canary *c)
{
  enum gates result;

  if (c->missed)
    return 0;
  c->until_us = loop_now_us () + (int64_t)c->disks->max_pause_ms * 1000;
  result = gates_shut (c->disks);
  c->shut = result == GATES_SHUT;
  if (c->shut)
    return 0;
  gates_open (c->disks);
  c->missed = true;
  return result == GATES_MISSED ? 0 : -1;
}

bool
canary_open (struct canary *c)
{
  if (!c->shut)
    return false;
  c->shut = false;
  c->missed |= !gates_open (c->disks);
  return !c->missed;
}

/* ---- choosing ---------------------------------------------------------- */

int
canary_look_before (struct canary *c, struct place *p)
{
  CLEANUP_LOOKS struct looks looks = LOOKS_EMPTY;
  struct disks *disks = c->disks;
  const struct endpoint *e = p->d->destination;
  size_t i;

  looks_add (&looks, LOOK_READ, e, e->connections[0], p->offset, p->bytes,
             NULL);
  for (i = 0; i < disks->n; ++i)
    if (canary_fits (disks->v[i].source, p))
      looks_add (&looks, LOOK_READ, disks->v[i].source, NULL, p->offset,
                 p->bytes, NULL);
  if (looks_run (disks, &looks) == -1)
    return -1;
  free (p->before);
  p->before = malloc (p->bytes);
  if (p->before == NULL) {
    failure_note (&disks->failure, "looking at %s: no memory", e->uri);
    return -1;
  }
  memcpy (p->before, looks.v[0].data, p->bytes);
  p->differs = true;
  for (i = 1; i < looks.n; ++i)
    p->differs &= memcmp (p->before, looks.v[i].data, p->bytes) != 0;
  return 0;
}

/* Look at all places that are not chosen, or, 'again', at those of them that
 * differed.  Whether any of them differs, -1 after failure_note.
 */
static int
look_at_places (struct canary *c, bool again)
{
  int any = 0;
  size_t i;

  for (i = 0; i < c->disks->n; ++i) {
    struct place *p = &c->v[i];

    if (p->chosen || (again && !p->differs))
      continue;
    p->differs = false;
    if (p->chunk.length == 0 || p->bytes == 0)
      continue;
    if (canary_look_before (c, p) == -1)
      return -1;
    any |= p->differs;
  }
  return any;
}

/* What differs could have been written by a guest between the two reads.  With
 * all gates shut none writes.
 */
static int
prove_places (struct canary *c)
{
  int any = look_at_places (c, false);
  bool held;
  size_t i;

  if (any != 1)
    return any;
  if (canary_shut (c) == -1)
    return -1;
  if (c->shut)
    any = look_at_places (c, true);
  held = canary_open (c);
  for (i = 0; held && i < c->disks->n; ++i)
    if (!c->v[i].chosen)
      c->v[i].chosen = c->v[i].proven = c->v[i].differs;
  return any;
}

int
canary_choose_places (struct canary *c)
{
  unsigned try;
  size_t i;

  for (try = 1; try <= TRIES; ++try) {
    for (i = 0; i < c->disks->n; ++i)
      c->v[i].wish = choose_wish (&c->v[i]);
    if (take (c, take_wish) == -1 || take (c, take_first) == -1 ||
        prove_places (c) == -1)
      return -1;
    for (i = 0; try == TRIES && i < c->disks->n; ++i)
      c->v[i].chosen |= c->v[i].chunk.length > 0 && c->v[i].bytes > 0;
    if (give_back (c, false) == -1)
      return -1;
  }
  return 0;
}
