/* SPDX-License-Identifier: BSD-3-Clause */
/* Which parts of a leased range are zero, or (--shared-base) not in the top
 * layer of the image, asked after the lease was taken (R1).
 *
 * Only what surely may be left out is; everything else is data, which
 * costs time but never correctness.  So an answer that is short, odd or an
 * error makes data of the range.
 *
 * The owner of the source is asked by the copier's owner (copier_ask), or if
 * that is not possible by block status at the source; the base always by block
 * status.  A lookup, of one range, goes through the stages below, each of which
 * waits for a connection or an answer.
 *
 * Of a large disk the owner is not asked before some zeroes have been read, a
 * whole job of them: where there are none the answer is worth nothing, and may
 * be dear.  For a dense file on tmpfs the kernel walks through all of its page
 * cache, 14 to 28 ms for each GiB, while nothing else gets that processor, and
 * guests wait.
 *
 * One question at a time is put.  Where there is little data, as the latest
 * answers told, the next one is put while the samples of the one before are
 * read; the ranges are passed on in their order all the same.
 *
 * What is said to be zero at the source is read at a few places before it is
 * believed (copier-sample.c).  A guest may have written there meanwhile, so
 * where it is not zero it is asked again; if it is said to be zero still,
 * nothing the source says is believed any more.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"
#include "nbd-limits.h"

/* From the NBD protocol, "base:allocation" metadata context. */
#define STATE_ZERO 2

/* From QEMU's docs/interop/nbd.txt, "qemu:allocation-depth": 1 is the top
 * layer.
 */
#define DEPTH_TOP 1

/* Under way at once.  Each has up to NBD_STATUS_MAX leased. */
#define LOOKUPS_MAX 4

enum stage {
  STAGE_FLUSH,   /* the source, once, before it is asked by block status */
  STAGE_FLUSHED, /* an answer will come */
  STAGE_ASK,     /* to be asked */
  STAGE_ASKED,   /* an answer will come */
  STAGE_SAMPLE,  /* blocks are read, or to be read */
  STAGE_KNOWN,   /* waits for those in front of it */
};

struct lookup {
  struct status_io sio; /* of block status and of the flush */
  struct copier *c;
  struct lookup *next;
  enum stage stage;
  struct segment segment; /* what it is about */
  struct endpoint *asked; /* who is asked by block status; NULL: the owner */
  bool from_base;
  bool abandoned;        /* the segment has been given back */
  uint64_t ticket;       /* of the question to the owner */
  struct extents there;  /* what may be left out, ascending */
  uint64_t end;          /* how far the answer reaches */
  struct extents answer; /* to the present question */
  uint64_t answer_end;
  struct samples samples;
  unsigned judged; /* so many of them were as they should be */
  bool again;      /* asked about is the next one */
};

struct endpoint *
lookup_endpoint (const struct copier *c, bool touched)
{
  return c->options.base != NULL && !touched ? c->options.base : c->source;
}

static uint64_t
limit_of (const struct lookup *l)
{
  return l->segment.offset + l->segment.length;
}

static void
lookup_free (struct lookup *l)
{
  struct lookup **p = &l->c->lookups;

  while (*p != l)
    p = &(*p)->next;
  *p = l->next;
  l->c->nr_lookups--;
  samples_end (&l->samples);
  extents_free (&l->there);
  extents_free (&l->answer);
  free (l);
}

/* ---- the answer becomes segments --------------------------------------- */

/* Ready segments, adjacent ones of a kind merged as they come. */
struct run {
  struct copier *c;
  uint64_t begin, end;
  enum segment_kind kind;
  bool touched;
};

static void
run_flush (struct run *r)
{
  if (r->end > r->begin && copier_add_known (r->c, r->begin, r->end - r->begin,
                                             r->kind, r->touched) == -1)
    no_memory (); /* a leased range must not be forgotten */
  r->begin = r->end;
}

static void
run_extend (struct run *r, uint64_t end, enum segment_kind kind)
{
  if (end <= r->end)
    return;
  if (kind != r->kind)
    run_flush (r);
  r->kind = kind;
  r->end = end;
}

/* What may be left out begins and ends anywhere, also inside a chunk, but what
 * is too short for a request of its own is data.  Returns how far the answer
 * reaches.
 */
static uint64_t
classify (const struct lookup *l)
{
  const enum segment_kind kind = l->from_base ? SEGMENT_IN_BASE : SEGMENT_ZERO;
  const uint64_t unit = l->c->zero_unit, grain = l->c->grain;
  const uint64_t limit = limit_of (l);
  const uint64_t end = l->end < limit ? l->end : limit;
  struct run r = { l->c, l->segment.offset, l->segment.offset, SEGMENT_DATA,
                   l->segment.touched };
  size_t i;

  for (i = 0; i < l->there.n && l->there.v[i].offset < limit; ++i) {
    const struct extent *x = &l->there.v[i];
    const uint64_t next =
      x->length < limit - x->offset ? x->offset + x->length : limit;
    const uint64_t first = (x->offset + grain - 1) / grain * grain;
    const uint64_t last = next == limit ? limit : next / grain * grain;

    if (last >= first + unit || (last == limit && last > first)) {
      run_extend (&r, first, SEGMENT_DATA);
      run_extend (&r, last, kind);
    }
  }
  /* Up to the end all is said; what was not left out by then is data.  A block
   * that is only partly described waits.
   */
  run_extend (&r, end == limit ? limit : end / grain * grain, SEGMENT_DATA);
  if (r.end == l->segment.offset) /* not one block: never ask in circles */
    run_extend (&r, unit < l->segment.length ? r.end + unit : limit,
                SEGMENT_DATA);
  run_flush (&r);
  return r.end;
}

/* Nobody is to be asked, and what was said is not believed. */
static bool
is_distrusted (const struct lookup *l)
{
  return l->c->distrusted && !l->from_base;
}

/* All of it is data. */
static void
note_all_data (struct lookup *l)
{
  extents_clear (&l->there);
  l->end = limit_of (l);
  l->again = false;
  l->stage = STAGE_KNOWN;
}

/* Where there was little data several at once are worth their leases. */
static void
note_data (struct copier *c, const struct lookup *l)
{
  const uint64_t limit = limit_of (l);
  const uint64_t bytes = (l->end < limit ? l->end : limit) - l->segment.offset;

  c->lookups_max =
    !l->from_base && extents_bytes (&l->there) > bytes / 2 ? LOOKUPS_MAX : 1;
}

/* Pass on what is known; what the answer did not reach is asked about next, in
 * front of all others.
 */
static void
finish (struct lookup *l)
{
  struct copier *c = l->c;
  const uint64_t limit = limit_of (l);
  uint64_t end;

  if (is_distrusted (l)) /* since it was asked */
    note_all_data (l);
  samples_end (&l->samples);
  note_data (c, l);
  end = classify (l);
  if (l->end > limit && !l->from_base) {
    c->data_begin = limit;
    c->data_end = l->end;
  }
  if (end >= limit) {
    lookup_free (l);
    return;
  }
  l->segment.offset = end;
  l->segment.length = limit - end;
  l->stage = STAGE_ASK;
}

/* A server may say more than it was asked for. */
static void
cut_at (struct extents *e, uint64_t limit)
{
  while (e->n > 0 && e->v[e->n - 1].offset >= limit)
    e->n--;
  if (e->n > 0 && e->v[e->n - 1].length > limit - e->v[e->n - 1].offset)
    e->v[e->n - 1].length = limit - e->v[e->n - 1].offset;
}

static bool
is_in (const struct extents *e, uint64_t offset, uint64_t length)
{
  size_t i;

  for (i = 0; i < e->n; ++i)
    if (e->v[i].offset <= offset &&
        offset + length <= e->v[i].offset + e->v[i].length)
      return true;
  return false;
}

/* ---- the samples ------------------------------------------------------- */

/* All of them have been read: where one is not zero, it is asked again. */
static void
judge_samples (struct lookup *l)
{
  struct samples *s = &l->samples;

  while (l->judged < s->n && s->v[l->judged].zero)
    l->judged++;
  if (s->failed) /* to be read as data, which says more */
    note_all_data (l);
  else {
    l->again = l->judged < s->n;
    l->stage = l->again ? STAGE_ASK : STAGE_KNOWN;
  }
}

static void
samples_paused (struct samples *s)
{
  struct lookup *l =
    (struct lookup *)((char *)s - offsetof (struct lookup, samples));

  if (l->abandoned)
    lookup_free (l);
  else if (samples_are_read (s))
    judge_samples (l);
}

static void
begin_samples (struct lookup *l)
{
  l->judged = 0;
  l->stage = STAGE_SAMPLE;
  if (!l->from_base)
    samples_begin (l->c, &l->samples, &l->there);
  if (samples_are_read (&l->samples)) /* there are none */
    judge_samples (l);
}

/* ---- questions and answers --------------------------------------------- */

/* The answer about a sample that is not zero has come. */
static void
answered_again (struct lookup *l)
{
  const struct sample *p = &l->samples.v[l->judged];

  if (is_in (&l->answer, p->offset, l->c->grain)) {
    copier_distrust (l->c, p->offset);
    note_all_data (l);
    return;
  }
  l->judged++; /* a guest has written there */
  judge_samples (l);
}

/* The answer to the present question has come; without one all is data. */
static void
answered (struct lookup *l, bool known)
{
  if (l->abandoned)
    lookup_free (l);
  else if (!known)
    note_all_data (l);
  else if (l->again)
    answered_again (l);
  else {
    extents_free (&l->there);
    l->there = l->answer;
    l->end = l->answer_end;
    l->answer = EXTENTS_EMPTY;
    cut_at (&l->there, limit_of (l));
    begin_samples (l);
  }
}

static void
block_status_ended (struct io *io)
{
  struct lookup *l = (struct lookup *)io;

  if (io->lost && !l->abandoned)
    copier_fail (l->c, "asking for the allocation of", l->asked,
                 l->segment.offset, l->segment.length, io);
  answered (l, io->error == 0 && l->answer_end > 0);
}

/* Whether a part may be left out. */
static bool
may_be_left_out (const struct lookup *l, uint32_t state)
{
  return l->from_base ? state != DEPTH_TOP : (state & STATE_ZERO) != 0;
}

static void
store_entries (void *opaque, const char *context, uint64_t offset,
               const uint32_t *pairs, size_t nr_numbers)
{
  struct lookup *l = opaque;
  uint64_t at = offset;
  size_t i;

  if (strcmp (context, l->from_base ? COPIER_DEPTH_CONTEXT
                                    : LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
      l->answer_end > 0)
    return;
  for (i = 0; i + 1 < nr_numbers; i += 2) {
    if (may_be_left_out (l, pairs[i + 1]) &&
        extents_append (&l->answer, at, pairs[i], false) == -1)
      return; /* no memory: what is not said is data */
    at += pairs[i];
  }
  l->answer_end = at;
}

static void
flush_ended (struct io *io)
{
  struct lookup *l = (struct lookup *)io;

  if (io->error != 0) /* then it can say what it likes */
    copier_stop_asking (l->c);
  else
    l->c->flush_first = false;
  if (l->abandoned)
    lookup_free (l);
  else if (io->error != 0)
    note_all_data (l);
  else
    l->stage = STAGE_ASK;
}

/* What is below the source may say of what was written and not flushed what was
 * true before.  (The owner sees to that itself.)
 */
static bool
flush_source (struct lookup *l)
{
  struct connection *conn = endpoint_free_connection (l->c->source);

  if (conn == NULL)
    return false;
  l->stage = STAGE_FLUSHED;
  l->sio.io.ended = flush_ended;
  connection_flush (conn, &l->sio.io);
  return true;
}

/* Whether there is no need to wait; with what the present question is about. */
static bool
put_question (struct lookup *l)
{
  struct copier *c = l->c;
  const uint64_t offset =
    l->again ? l->samples.v[l->judged].offset : l->segment.offset;
  const uint64_t length = l->again ? c->grain : l->segment.length;
  struct connection *conn = NULL;

  if (l->asked == NULL && c->options.ask == NULL)
    l->asked = c->source;
  if (l->asked != NULL) {
    conn = endpoint_free_connection (l->asked);
    if (conn == NULL)
      return false;
  }
  extents_clear (&l->answer);
  l->answer_end = 0;
  l->stage = STAGE_ASKED;
  if (l->asked == NULL) {
    l->ticket = ++c->tickets;
    c->options.ask (c->options.opaque, l->ticket, offset, length);
    return true;
  }
  l->sio.io.ended = block_status_ended;
  l->sio.entries = store_entries;
  l->sio.opaque = l;
  connection_block_status (conn, &l->sio, length, offset);
  return true;
}

static bool
is_asking (const struct lookup *l)
{
  return l->stage == STAGE_FLUSH || l->stage == STAGE_FLUSHED ||
         l->stage == STAGE_ASKED;
}

/* Whose question it is, or NULL. */
static struct lookup *
find_asking (const struct copier *c)
{
  struct lookup *l;

  for (l = c->lookups; l != NULL; l = l->next)
    if (is_asking (l))
      return l;
  return NULL;
}

void
copier_answer (struct copier *c, uint64_t ticket, enum copier_said said,
               const struct extents *zero, uint64_t end)
{
  struct lookup *l = find_asking (c);
  size_t i;

  if (l == NULL || l->asked != NULL || l->ticket != ticket)
    return; /* nobody waits for it any more */
  if (said == COPIER_SAID_ASK_THE_SOURCE) {
    c->options.ask = NULL;
    c->flush_first = c->source->can_flush;
    l->asked = c->source;
    l->stage = c->flush_first ? STAGE_FLUSH : STAGE_ASK;
    return;
  }
  if (said == COPIER_SAID_ZERO)
    for (i = 0; i < zero->n; ++i)
      if (extents_append (&l->answer, zero->v[i].offset, zero->v[i].length,
                          false) == -1) /* no memory */
        said = COPIER_SAID_NOTHING;
  l->answer_end = end;
  answered (l, said == COPIER_SAID_ZERO);
}

/* ---- for the scheduler ------------------------------------------------- */

bool
lookup_may_start (const struct copier *c)
{
  return c->nr_lookups < c->lookups_max &&
         (c->lookups == NULL || !c->lookups->abandoned);
}

void
lookup_start (struct copier *c)
{
  struct lookup *l = calloc (1, sizeof *l), **last = &c->lookups;
  struct endpoint *e;

  if (l == NULL)
    no_memory (); /* about a kilobyte; there is no way on from here */
  l->c = c;
  l->stage = STAGE_ASK;
  l->samples.c = c;
  l->samples.paused = samples_paused;
  l->segment = queue_cut (&c->unknown, NBD_STATUS_MAX);
  e = lookup_endpoint (c, l->segment.touched);
  l->from_base = e == c->options.base;
  l->asked = l->from_base || c->options.ask == NULL ? e : NULL;
  /* The lookup that was to flush it was given up before that. */
  if (l->asked == c->source && c->flush_first)
    l->stage = STAGE_FLUSH;
  while (*last != NULL)
    last = &(*last)->next;
  *last = l;
  c->nr_lookups++;
}

static bool
run (struct lookup *l)
{
  switch (l->stage) {
  case STAGE_FLUSH:
    return flush_source (l);
  case STAGE_ASK:
    if (!is_distrusted (l))
      return find_asking (l->c) == NULL && put_question (l);
    note_all_data (l);
    return true;
  case STAGE_SAMPLE:
    return samples_run (&l->samples);
  case STAGE_FLUSHED:
  case STAGE_ASKED:
  case STAGE_KNOWN:
    return false;
  }
  abort ();
}

bool
lookups_run (struct copier *c)
{
  struct lookup *l;
  bool progress = false;

  for (l = c->lookups; l != NULL; l = l->next)
    progress |= !l->abandoned && run (l);
  while (c->lookups != NULL && c->lookups->stage == STAGE_KNOWN) {
    finish (c->lookups);
    progress = true;
  }
  return progress;
}

static void
lookup_drop (struct lookup *l)
{
  if (l->abandoned)
    return;
  copier_ended_range (l->c, l->segment.offset, l->segment.length, COPY_FAILED);
  if (l->samples.in_flight > 0 || l->stage == STAGE_FLUSHED ||
      (l->asked != NULL && l->stage == STAGE_ASKED))
    l->abandoned = true;
  else
    lookup_free (l);
}

void
lookups_drop (struct copier *c)
{
  struct lookup *l, *next;

  for (l = c->lookups; l != NULL; l = next) {
    next = l->next;
    lookup_drop (l);
  }
}

void
lookups_free (struct copier *c)
{
  while (c->lookups != NULL)
    lookup_free (c->lookups);
}
