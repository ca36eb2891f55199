/* SPDX-License-Identifier: BSD-3-Clause */
/* What of the destination reads as zeroes already: where a hole of the source
 * lies over that, nothing is written.  A request to zero is 64 MiB at most, a
 * question and its answer cover thirty times as much.
 *
 * The destination is asked window by window in front of what is copied, as many
 * at a time as are needed to have the answer when it is used.  So an answer is
 * older than the lease that it is used for.  It is used only where a range is
 * not 'touched' at its lease (R18): nothing of ours has been written there
 * since any time, so what is there is what was there when the server was asked.
 *
 * It is not simply believed.  It is flushed first, since a server may say of
 * what it keeps to itself what was true before.  Blocks at random places are
 * read, many at first; one that is not zero, and it is never asked again, and
 * what was left out is copied.  What the samples before the cut-over and
 * --verify look at is all that was left out, too.  An answer that is short, odd
 * or an error makes data of the range, which is zeroed then; for one that does
 * not come nothing waits for long.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"
#include "nbd-limits.h"

/* From the NBD protocol, "base:allocation" metadata context. */
#define STATE_ZERO 2

/* Windows that are asked about ahead: twice as many each time one was waited
 * for.
 */
#define AHEAD_FIRST 2
#define AHEAD_MAX 32

/* About one window: an answer may be short. */
#define QUESTIONS_MAX 32

/* Blocks of a window that are read, while there were few. */
#define SAMPLES_MANY 8
#define SAMPLES_FEW 1
#define SAMPLES_ARE_MANY 64

/* So long what is ready may wait for what is known of a window; then nothing is
 * asked any more.
 */
#define ANSWER_US (INT64_C (10) * 1000000)

enum stage {
  WINDOW_ASK,     /* to be asked about */
  WINDOW_ASKED,   /* an answer will come */
  WINDOW_SAMPLE,  /* blocks are to be read */
  WINDOW_SAMPLED, /* answers will come */
  WINDOW_KNOWN,
};

struct window {
  struct status_io sio;
  struct copier *c;
  enum stage stage;
  bool forgotten;
  uint64_t begin, end;
  uint64_t asked_from, at; /* the answers reach to 'at' */
  unsigned questions;
  struct extents zero;
  unsigned samples; /* to be read, or being read */
  uint64_t wrong;   /* one that is not zero, or NOWHERE */
  bool unread;      /* one could not be read */
  struct window *next;
};

#define NOWHERE UINT64_MAX

/* One of them. */
struct look {
  struct io io;
  struct window *w;
  uint64_t offset;
  char block[];
};

enum blank_state {
  BLANK_FLUSH,   /* to be flushed, before the first question */
  BLANK_FLUSHED, /* an answer will come */
  BLANK_ASKS,
  BLANK_OFF, /* nothing is left out any more */
};

struct blank {
  struct flush flush;
  struct copier *c;
  enum blank_state state;
  struct window *first, **last; /* one behind the other */
  struct window *gone;          /* an answer will come, for nobody */
  unsigned nr_windows, ahead;
  uint64_t next; /* where the next one begins */
  unsigned samples;
  int64_t waits_us; /* since when what is ready waits for one; 0: it does not */
};

struct blank *
blank_new (struct copier *c)
{
  struct blank *b = calloc (1, sizeof *b);

  if (b == NULL)
    return NULL;
  b->c = c;
  b->last = &b->first;
  b->ahead = AHEAD_FIRST;
  if (!c->destination->has_allocation || c->options.destination_is_zero)
    b->state = BLANK_OFF;
  return b;
}

/* ---- windows ----------------------------------------------------------- */

static void
window_free (struct window *w)
{
  struct window **p = &w->c->blank->gone;

  while (*p != NULL && *p != w)
    p = &(*p)->next;
  if (*p != NULL)
    *p = w->next;
  extents_free (&w->zero);
  free (w);
}

static void
forget_first (struct blank *b)
{
  struct window *w = b->first;

  b->first = w->next;
  if (b->first == NULL)
    b->last = &b->first;
  b->nr_windows--;
  if (w->stage == WINDOW_ASKED || w->stage == WINDOW_SAMPLED) {
    w->forgotten = true;
    w->next = b->gone;
    b->gone = w;
  }
  else
    window_free (w);
}

static void
forget_all (struct blank *b)
{
  while (b->first != NULL)
    forget_first (b);
}

void
blank_free (struct blank *b)
{
  if (b == NULL)
    return;
  forget_all (b);
  while (b->gone != NULL)
    window_free (b->gone);
  free (b);
}

void
blank_forget (struct copier *c)
{
  forget_all (c->blank);
  if (c->blank->state == BLANK_ASKS)
    c->blank->state = BLANK_FLUSH;
}

bool
blank_busy (const struct copier *c)
{
  const struct window *w;

  for (w = c->blank->first; w != NULL; w = w->next)
    if (w->stage == WINDOW_ASKED || w->stage == WINDOW_SAMPLED)
      return true;
  return false;
}

static void
turn_off (struct blank *b)
{
  b->state = BLANK_OFF;
  forget_all (b);
}

/* One more, behind the others. */
static bool
add_window (struct blank *b)
{
  const uint64_t left = b->c->source->disk_bytes - b->next;
  struct window *w = left > 0 ? calloc (1, sizeof *w) : NULL;

  if (w == NULL)
    return false;
  w->c = b->c;
  w->wrong = NOWHERE;
  w->begin = w->at = b->next;
  w->end = b->next += left < NBD_STATUS_MAX ? left : NBD_STATUS_MAX;
  *b->last = w;
  b->last = &w->next;
  b->nr_windows++;
  return true;
}

/* ---- samples ----------------------------------------------------------- */

static void
begin_samples (struct window *w)
{
  struct blank *b = w->c->blank;
  const bool few = b->samples >= SAMPLES_ARE_MANY;

  w->stage = WINDOW_KNOWN;
  if (extents_bytes (&w->zero) < w->c->grain)
    return;
  w->stage = WINDOW_SAMPLE;
  w->samples = few ? SAMPLES_FEW : SAMPLES_MANY;
  b->samples += w->samples;
}

/* Where the copying has come to since it was asked there may be data of our
 * own, and nothing is left out.
 */
static bool
is_wrong (const struct look *l)
{
  struct copier *c = l->w->c;

  return l->io.error == 0 && !sample_is_zero (c, l->block) &&
         l->offset >= c->begun_end;
}

/* All of them have been read. */
static void
end_samples (struct window *w)
{
  struct copier *c = w->c;
  const uint64_t offset = w->wrong;

  w->stage = WINDOW_KNOWN;
  if (w->unread)
    extents_clear (&w->zero);
  if (offset == NOWHERE)
    return;
  turn_off (c->blank);
  c->options.not_blank (c->options.opaque, offset);
}

static void
look_ended (struct io *io)
{
  struct look *l = (struct look *)io;
  struct window *w = l->w;

  w->unread |= io->error != 0;
  if (is_wrong (l))
    w->wrong = l->offset;
  small_free (&w->c->smalls, l);
  if (--w->samples > 0)
    return;
  if (w->forgotten)
    window_free (w);
  else
    end_samples (w);
}

/* False: there is no such block, or no memory. */
static bool
look (struct window *w, struct connection *conn)
{
  struct look *l = small_new (&w->c->smalls, sizeof *l + w->c->grain);

  if (l == NULL)
    return false;
  l->w = w;
  if (!sample_choose (w->c, &w->zero, &l->offset)) {
    small_free (&w->c->smalls, l);
    return false;
  }
  l->io.ended = look_ended;
  connection_read (conn, &l->io, l->block, (uint32_t)w->c->grain, l->offset);
  return true;
}

static void
read_samples (struct window *w, struct connection *conn)
{
  const unsigned wanted = w->samples;
  unsigned i;

  w->stage = WINDOW_SAMPLED;
  w->samples = 0;
  for (i = 0; i < wanted; ++i)
    w->samples += look (w, conn);
  if (w->samples == 0)
    end_samples (w);
}

/* ---- questions --------------------------------------------------------- */

/* What is too short for a request of its own is not worth leaving out. */
static bool
store_zero (struct window *w, uint64_t from, uint64_t to)
{
  const uint64_t grain = w->c->grain;

  from = (from + grain - 1) / grain * grain;
  to = to == w->c->source->disk_bytes ? to : to / grain * grain;
  return to < from + w->c->zero_unit ||
         extents_append (&w->zero, from, to - from, false) == 0;
}

static void
store (void *opaque, const char *context, uint64_t offset,
       const uint32_t *pairs, size_t nr_numbers)
{
  struct window *w = opaque;
  size_t i;

  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || offset != w->at)
    return;
  for (i = 0; i + 1 < nr_numbers && w->at < w->end; i += 2) {
    const uint64_t left = w->end - w->at;
    const uint64_t n = pairs[i] < left ? pairs[i] : left;

    if ((pairs[i + 1] & STATE_ZERO) && !store_zero (w, w->at, w->at + n))
      return;
    w->at += n;
  }
}

static void
answered (struct io *io)
{
  struct window *w = (struct window *)io;
  struct blank *b = w->c->blank;

  if (w->forgotten)
    window_free (w);
  else if (io->error != 0 && !io->lost)
    turn_off (b); /* it does not say */
  else if (io->error == 0 && w->at > w->asked_from && w->at < w->end &&
           w->questions < QUESTIONS_MAX)
    w->stage = WINDOW_ASK;
  else /* nothing is known of the rest */
    begin_samples (w);
}

static void
put_question (struct window *w, struct connection *conn)
{
  w->stage = WINDOW_ASKED;
  w->asked_from = w->at;
  w->questions++;
  w->sio.io.ended = answered;
  w->sio.entries = store;
  w->sio.opaque = w;
  connection_block_status (conn, &w->sio, w->end - w->at, w->at);
}

static void
flushed (struct io *io)
{
  struct flush *f = (struct flush *)io;
  struct blank *b = f->c->blank;

  flush_beside_ended (f);
  if (b->state == BLANK_FLUSHED)
    b->state = io->error == 0 ? BLANK_ASKS : BLANK_OFF;
}

/* Only some connections may ask (disk-open.c). */
static struct connection *
free_connection (const struct copier *c)
{
  const struct endpoint *e = c->destination;
  struct connection *best = NULL;
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i) {
    struct connection *conn = e->connections[i];

    if (connection_alive (conn) && conn->can_status &&
        (best == NULL || conn->in_flight < best->in_flight))
      best = conn;
  }
  return best;
}

static void
flush_first (struct blank *b, struct connection *conn)
{
  b->state = BLANK_FLUSHED;
  b->flush.c = b->c;
  b->flush.io.ended = flushed;
  flush_beside (&b->flush, conn);
}

/* Whether anything was sent. */
static bool
run_windows (struct blank *b, struct connection *conn)
{
  struct window *w;
  bool progress = false;

  for (w = b->first; w != NULL; w = w->next) {
    if (w->stage == WINDOW_ASK)
      put_question (w, conn);
    else if (w->stage == WINDOW_SAMPLE)
      read_samples (w, conn);
    else
      continue;
    progress = true;
  }
  return progress;
}

/* ---- for the scheduler ------------------------------------------------- */

/* The window of this offset and those behind it; all others go. */
static void
move_to (struct blank *b, uint64_t offset)
{
  while (b->first != NULL && b->first->end <= offset)
    forget_first (b);
  if (b->first != NULL && b->first->begin > offset) /* from the beginning */
    forget_all (b);
  if (b->first == NULL)
    b->next = offset;
  while (b->nr_windows < b->ahead && add_window (b))
    ;
}

/* How many bytes from the offset on are all zero, or all not known to be. */
static uint64_t
run_at (const struct window *w, uint64_t offset, bool *zero)
{
  size_t low = 0, high = w->zero.n; /* the first that ends behind the offset */

  while (low < high) {
    const size_t i = (low + high) / 2;
    const struct extent *x = &w->zero.v[i];

    if (x->offset + x->length <= offset)
      low = i + 1;
    else
      high = i;
  }
  *zero = low < w->zero.n && w->zero.v[low].offset <= offset;
  if (low == w->zero.n)
    return w->end - offset;
  return *zero ? w->zero.v[low].offset + w->zero.v[low].length - offset
               : w->zero.v[low].offset - offset;
}

static bool
is_in_question (const struct copier *c)
{
  const struct segment *s = c->ready.first;

  return s != NULL && s->kind == SEGMENT_ZERO && !s->touched &&
         c->blank->state != BLANK_OFF;
}

bool
blank_waits (const struct copier *c)
{
  return is_in_question (c);
}

bool
blank_covers (const struct copier *c, uint64_t offset, uint64_t length)
{
  const struct window *w;
  bool zero;

  for (w = c->blank->first; w != NULL; w = w->next)
    if (w->stage == WINDOW_KNOWN && w->begin <= offset && offset < w->end)
      return run_at (w, offset, &zero) >= length && zero;
  return false;
}

/* The first of what is ready, as far as the same is known of it. */
static void
decide (struct copier *c, uint64_t bytes, bool zero)
{
  const struct segment s = queue_cut (&c->ready, bytes);

  if (zero)
    copier_leave_out (c, s.offset, s.length);
  else if (queue_prepend (&c->ready, s.offset, s.length, s.kind, true) == -1)
    no_memory (); /* a leased range must not be forgotten */
}

static void
wait_for_window (struct blank *b)
{
  const int64_t now_us = loop_now_us ();

  if (b->waits_us == 0 && b->ahead < AHEAD_MAX)
    b->ahead *= 2;
  if (b->waits_us == 0)
    b->waits_us = now_us;
  else if (now_us - b->waits_us > ANSWER_US)
    turn_off (b);
}

/* Whether it is known what to do with the first of what is ready. */
static bool
look_at_first (struct copier *c)
{
  struct blank *b = c->blank;
  const uint64_t offset = c->ready.first->offset;
  uint64_t bytes;
  bool zero;

  if (b->state != BLANK_ASKS)
    return false;
  move_to (b, offset);
  if (b->first == NULL || b->first->stage != WINDOW_KNOWN) {
    wait_for_window (b);
    return false;
  }
  b->waits_us = 0;
  bytes = run_at (b->first, offset, &zero);
  decide (c, bytes, zero);
  return true;
}

bool
blank_run (struct copier *c)
{
  struct blank *b = c->blank;
  struct connection *conn;
  bool progress = false;

  if (!is_in_question (c))
    b->waits_us = 0;
  if (b->state == BLANK_OFF || (b->first == NULL && !is_in_question (c)))
    return false;
  conn = free_connection (c);
  if (conn == NULL) {
    turn_off (b);
    return true;
  }
  if (b->state == BLANK_FLUSH)
    flush_first (b, conn);
  while (is_in_question (c) && look_at_first (c))
    progress = true;
  return run_windows (b, conn) || progress;
}
