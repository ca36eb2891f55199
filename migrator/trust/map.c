/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "trust/map.h"
#include "disks/drive.h"
#include "nbd-limits.h"
#include "protocol.h"

#define WINDOWS_MAX 64                     /* parts that are asked about */
#define QUESTIONS_MAX 256                  /* in all: an answer may be short */
#define EXTENTS_MAX 65536                  /* that are kept */
#define PENDING_US (INT64_C (2) * 1000000) /* for an answer of the proxy */
#define FIRST_QUESTION                                                         \
  (UINT64_C (1) << 40) /* the copier has smaller numbers                       \
                        */
#define STATE_ZERO 2   /* from the NBD protocol, base:allocation */
#define DEPTH_TOP 1    /* from QEMU's docs/interop/nbd.txt */

typedef bool is_wanted (uint32_t state);

static bool
is_data (uint32_t state)
{
  return !(state & STATE_ZERO);
}

static bool
is_top (uint32_t state)
{
  return state == DEPTH_TOP;
}

struct inquiry {
  struct status_io sio;
  const char *context;
  is_wanted *wanted;
  struct extents *found;
  uint64_t at, end; /* the answer reaches to 'at' */
  bool ended;
};

static void
store (void *opaque, const char *context, uint64_t offset,
       const uint32_t *pairs, size_t nr_numbers)
{
  struct inquiry *q = opaque;
  size_t i;

  if (strcmp (context, q->context) != 0 || offset != q->at)
    return;
  for (i = 0; i + 1 < nr_numbers && q->at < q->end && q->found->n < EXTENTS_MAX;
       i += 2) {
    const uint64_t left = q->end - q->at;
    const uint64_t n = pairs[i] < left ? pairs[i] : left;

    if (q->wanted (pairs[i + 1]) &&
        extents_append (q->found, q->at, n, false) == -1)
      return;
    q->at += n;
  }
}

static void
ended (struct io *io)
{
  struct inquiry *q = (struct inquiry *)io;

  q->ended = true;
}

/* Ask about the rest of a part; false: no answer, or enough of them. */
static bool
ask (struct disks *disks, struct endpoint *e, struct inquiry *q)
{
  const uint64_t at = q->at;

  q->ended = false;
  q->sio.io.ended = ended;
  q->sio.entries = store;
  q->sio.opaque = q;
  connection_block_status (e->connections[0], &q->sio, q->end - at, at);
  while (!q->ended)
    drive (disks, 100);
  return q->at > at;
}

/* The first byte of each part that is asked about, in turn; false: no more. */
static bool
next_part (struct disks *disks, uint64_t bytes, uint64_t i, uint64_t *begin)
{
  const uint64_t parts = (bytes + NBD_STATUS_MAX - 1) / NBD_STATUS_MAX;
  const uint64_t part =
    parts <= WINDOWS_MAX ? i : random_below (&disks->random, parts);

  *begin = part * NBD_STATUS_MAX;
  return i < parts && i < WINDOWS_MAX && disks->failure.stop == STOP_NO;
}

/* How many bytes were told of. */
static uint64_t
map (struct disks *disks, struct endpoint *e, uint64_t bytes, struct inquiry *q)
{
  unsigned questions = 0;
  uint64_t i, begin, told = 0;

  for (i = 0; next_part (disks, bytes, i, &begin); ++i) {
    q->at = begin;

    const uint64_t rest = bytes - q->at;

    q->end = q->at + (rest < NBD_STATUS_MAX ? rest : NBD_STATUS_MAX);
    while (q->at < q->end && questions++ < QUESTIONS_MAX && ask (disks, e, q))
      ;
    told += q->at - begin;
  }
  return told;
}

/* ---- the source -------------------------------------------------------- */

/* What is not zero of a range, up to where the answer reaches. */
static void
add_rest (struct extents *data, const struct extents *zero, uint64_t at,
          uint64_t end)
{
  size_t i;

  for (i = 0; i <= zero->n && data->n < EXTENTS_MAX; ++i) {
    const bool last = i == zero->n || zero->v[i].offset >= end;
    const uint64_t next = last ? end : zero->v[i].offset;

    if (next > at && extents_append (data, at, next - at, false) == -1)
      return;
    if (last)
      return;
    at = zero->v[i].offset + zero->v[i].length;
  }
}

/* One question about a leased range.  Returns how far the answer reaches; 'at',
 * if there is none.
 */
static uint64_t
ask_source (struct disk *d, uint64_t at, uint64_t end, struct extents *data)
{
  CLEANUP_EXTENTS struct extents zero = EXTENTS_EMPTY;
  const uint64_t number = d->map_questions++;
  const int64_t until_us = loop_now_us () + PENDING_US;
  uint64_t reached = at;
  const char *why;

  do {
    if (drive_ask (d, "extents",
                   json_pack ("{s:I, s:I, s:I}", "question",
                              (json_int_t)(FIRST_QUESTION + number), "offset",
                              (json_int_t)at, "length",
                              (json_int_t)(end - at))) == -1)
      return at;
  } while (json_is_true (json_object_get (d->answer.value, "pending")) &&
           loop_now_us () < until_us);
  if (protocol_parse_extents (json_object_get (d->answer.value, "zero"), &zero,
                              &why) == -1 ||
      protocol_get_u64 (d->answer.value, "end", &reached) != 1)
    return at;
  if (reached > end)
    reached = end;
  add_rest (data, &zero, at, reached);
  return reached;
}

static void
map_range (struct disk *d, const struct extent *x, unsigned *questions,
           struct extents *data)
{
  const uint64_t end = x->offset + x->length;
  uint64_t at = x->offset, next;

  while (at < end && (*questions)++ < QUESTIONS_MAX) {
    next = ask_source (d, at, end, data);
    if (next == at)
      return;
    at = next;
  }
}

/* The proxy tells of what is leased only, so it is, for a moment. */
static void
map_part (struct disk *d, uint64_t begin, unsigned *questions,
          struct extents *data)
{
  CLEANUP_EXTENTS struct extents leased = EXTENTS_EMPTY;
  const char *why;
  size_t i;

  if (drive_ask (d, "compare",
                 json_pack ("{s:I, s:I}", "cursor", (json_int_t)begin,
                            "max_bytes", (json_int_t)NBD_STATUS_MAX)) == -1 ||
      protocol_parse_extents (json_object_get (d->answer.value, "extents"),
                              &leased, &why) == -1 ||
      leased.n == 0)
    return;
  for (i = 0; i < leased.n; ++i)
    map_range (d, &leased.v[i], questions, data);
  drive_ask (d, "compared",
             json_pack ("{s:o, s:b}", "extents",
                        protocol_extents (&leased, false), "equal", true));
}

void
map_source (struct disk *d, struct extents *data)
{
  unsigned questions = 0;
  uint64_t begin, i;

  for (i = 0; next_part (d->disks, d->disk_bytes, i, &begin); ++i)
    map_part (d, begin, &questions, data);
}

/* ---- other servers ----------------------------------------------------- */

uint64_t
map_data (struct disks *disks, struct endpoint *e, uint64_t bytes,
          struct extents *data)
{
  struct inquiry q = { .context = LIBNBD_CONTEXT_BASE_ALLOCATION,
                       .wanted = is_data,
                       .found = data };

  return e->has_allocation ? map (disks, e, bytes, &q) : 0;
}

void
map_top (struct disks *disks, struct endpoint *e, uint64_t bytes,
         struct extents *top)
{
  struct inquiry q = { .context = COPIER_DEPTH_CONTEXT,
                       .wanted = is_top,
                       .found = top };

  if (e->has_depth)
    map (disks, e, bytes, &q);
}

uint64_t
map_byte (const struct extents *e, uint64_t number)
{
  size_t i;

  for (i = 0; number >= e->v[i].length; ++i)
    number -= e->v[i].length;
  return e->v[i].offset + number;
}
