/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chunks.h"

#define WORD_BITS 64

/* ---- Bytes and chunks --------------------------------------------------- */

static uint64_t
chunk_bytes_of (const struct chunks *c)
{
  return UINT64_C (1) << c->shift;
}

/* Where a chunk begins, in bytes; for number c->n the disk's end. */
static uint64_t
offset_of (const struct chunks *c, uint64_t chunk)
{
  return chunk < c->n ? chunk << c->shift : c->disk_bytes;
}

/* How many chunks are needed for so many bytes. */
static uint64_t
chunks_for (const struct chunks *c, uint64_t bytes)
{
  return (bytes >> c->shift) + ((bytes & (chunk_bytes_of (c) - 1)) != 0);
}

static uint64_t
words_of (const struct chunks *c)
{
  return (c->n + WORD_BITS - 1) / WORD_BITS;
}

static void
clear_all (struct bitmap *b)
{
  if (b->set > 0)
    bitmap_clear (b, 0, b->bits);
}

/* dst |= src, src = 0. */
static void
move_all (struct bitmap *dst, struct bitmap *src)
{
  bitmap_or (dst, src);
  clear_all (src);
}

int
chunks_init (struct chunks *c, uint64_t disk_bytes, uint64_t chunk_bytes)
{
  memset (c, 0, sizeof *c);
  if (chunk_bytes == 0 || (chunk_bytes & (chunk_bytes - 1)) != 0) {
    errno = EINVAL;
    return -1;
  }
  c->disk_bytes = disk_bytes;
  c->shift = __builtin_ctzll (chunk_bytes);
  c->n = chunks_for (c, disk_bytes);
  if (bitmap_init (&c->dirty, c->n) == -1 ||
      bitmap_init (&c->leased, c->n) == -1 ||
      bitmap_init (&c->unflushed, c->n) == -1 ||
      bitmap_init (&c->flushing, c->n) == -1 ||
      bitmap_init (&c->quarantined, c->n) == -1 ||
      bitmap_init (&c->written, c->n) == -1 ||
      bitmap_init (&c->guest, c->n) == -1 ||
      bitmap_init (&c->round, c->n) == -1 ||
      bitmap_init (&c->last_round, c->n) == -1 ||
      bitmap_init (&c->hot, c->n) == -1 ||
      bitmap_init (&c->touched, c->n) == -1 ||
      (c->quiet = calloc (words_of (c) + 1, sizeof *c->quiet)) == NULL) {
    chunks_destroy (c);
    errno = ENOMEM;
    return -1;
  }
  return 0;
}

void
chunks_destroy (struct chunks *c)
{
  bitmap_destroy (&c->dirty);
  bitmap_destroy (&c->leased);
  bitmap_destroy (&c->unflushed);
  bitmap_destroy (&c->flushing);
  bitmap_destroy (&c->quarantined);
  bitmap_destroy (&c->written);
  bitmap_destroy (&c->guest);
  bitmap_destroy (&c->round);
  bitmap_destroy (&c->last_round);
  bitmap_destroy (&c->hot);
  bitmap_destroy (&c->touched);
  free (c->quiet);
  c->quiet = NULL;
}

/* dst |= src, of chunks of another size: what any part of a chunk had. */
static void
spread (const struct chunks *to, struct bitmap *dst, const struct chunks *from,
        const struct bitmap *src)
{
  uint64_t end;

  for (uint64_t pos = bitmap_next_set (src, 0); pos < from->n;
       pos = bitmap_next_set (src, end)) {
    end = bitmap_next_clear (src, pos);

    const uint64_t first = offset_of (from, pos) >> to->shift;
    const uint64_t stop = chunks_for (to, offset_of (from, end));

    bitmap_set (dst, first, stop - first);
  }
}

/* R19: no lease has a part of a block of the destination. */
int
chunks_resize (struct chunks *c, uint64_t chunk_bytes)
{
  struct chunks to;

  assert (c->leased.set == 0);
  if (chunk_bytes == chunk_bytes_of (c))
    return 0;
  if (chunks_init (&to, c->disk_bytes, chunk_bytes) == -1)
    return -1;
  spread (&to, &to.dirty, c, &c->dirty);
  spread (&to, &to.unflushed, c, &c->unflushed);
  spread (&to, &to.flushing, c, &c->flushing);
  spread (&to, &to.quarantined, c, &c->quarantined);
  spread (&to, &to.written, c, &c->written);
  spread (&to, &to.guest, c, &c->guest);
  spread (&to, &to.round, c, &c->round);
  spread (&to, &to.last_round, c, &c->last_round);
  spread (&to, &to.hot, c, &c->hot);
  chunks_destroy (c);
  *c = to;
  return 0;
}

/* The bytes of so many chunks, with the last one or not: all others are whole.
 */
static uint64_t
bytes_of (const struct chunks *c, uint64_t count, bool with_last)
{
  const uint64_t last = with_last ? c->disk_bytes - offset_of (c, c->n - 1) : 0;

  return ((count - with_last) << c->shift) + last;
}

uint64_t
chunks_bytes (const struct chunks *c, const struct bitmap *b)
{
  return b->set == 0 ? 0 : bytes_of (c, b->set, bitmap_test (b, c->n - 1));
}

bool
chunks_clean (const struct chunks *c)
{
#ifdef PLANT_BUG_commit_unflushed
  return c->dirty.set == 0 && c->leased.set == 0 && c->quarantined.set == 0;
#endif
  return c->dirty.set == 0 && c->leased.set == 0 && c->unflushed.set == 0 &&
         c->flushing.set == 0 && c->quarantined.set == 0;
}

/* ---- What the guest does ------------------------------------------------ */

/* Some chunks of a range, while it is walked over. */
struct count {
  uint64_t chunks;
  bool with_last; /* the disk's last is among them */
};

static void
count_bits (const struct chunks *c, struct count *count, uint64_t w,
            uint64_t bits)
{
  const uint64_t last = c->n - 1;

  count->chunks += __builtin_popcountll (bits);
  if (w == last / WORD_BITS && (bits >> last % WORD_BITS & 1) != 0)
    count->with_last = true;
}

/* The chunks that a request touches (R2, R12). */
struct span {
  uint64_t first, count;
};

static struct span
span_of (const struct chunks *c, uint64_t offset, uint64_t length)
{
  const uint64_t first = offset >> c->shift;

  if (length == 0)
    return (struct span){ first, 0 };
  return (struct span){ first,
                        ((offset + length - 1) >> c->shift) - first + 1 };
}

/* What it would do to mark them. */
static struct dirt
weigh (const struct chunks *c, struct span s)
{
  struct count fresh = { .chunks = 0 }, again = { .chunks = 0 };
  const uint64_t end = s.first + s.count;

  if (s.count == 0)
    return (struct dirt){ .changed = 0 };
  for (uint64_t w = s.first / WORD_BITS; w * WORD_BITS < end; w++) {
    const uint64_t bits =
      bitmap_mask (w, s.first, s.first + s.count) & ~c->dirty.words[w];

    count_bits (c, &fresh, w, bits);
    count_bits (c, &again, w, bits & c->guest.words[w]);
  }
  return (struct dirt){
    .touched = bytes_of (c, s.count, end == c->n),
    .dirtied = bytes_of (c, fresh.chunks, fresh.with_last),
    .redirtied = bytes_of (c, again.chunks, again.with_last),
  };
}

struct dirt
chunks_weigh (const struct chunks *c, uint64_t offset, uint64_t length)
{
  struct dirt dirt = weigh (c, span_of (c, offset, length));

  dirt.changed = length;
  return dirt;
}

struct dirt
chunks_mark (struct chunks *c, uint64_t offset, uint64_t length)
{
  const struct span s = span_of (c, offset, length);
  const struct dirt dirt = chunks_weigh (c, offset, length);

  bitmap_set (&c->dirty, s.first, s.count);
  bitmap_set (&c->written, s.first, s.count); /* R1, R18 */
  bitmap_set (&c->guest, s.first, s.count);
  bitmap_set (&c->round, s.first, s.count);
  bitmap_set (&c->touched, s.first, s.count);
  return dirt;
}

/* hot = last_round and round; last_round = round; round = nothing. */
void
chunks_begin_round (struct chunks *c)
{
  bitmap_swap (&c->hot, &c->last_round);
  if (c->hot.set > 0)
    bitmap_and_range (&c->hot, &c->round, 0, c->n);
  bitmap_swap (&c->last_round, &c->round);
  clear_all (&c->round);
}

uint64_t
chunks_hot_bytes (const struct chunks *c)
{
  struct count count = { .chunks = 0 };

  if (c->hot.set == 0)
    return 0;
  for (uint64_t w = 0; w * WORD_BITS < c->n; w++)
    count_bits (c, &count, w, c->hot.words[w] & c->dirty.words[w]);
  return bytes_of (c, count.chunks, count.with_last);
}

static bool
any (const struct bitmap *b, struct span s)
{
  return b->set > 0 && bitmap_count (b, s.first, s.count) > 0;
}

/* The chunks that a request covers from their beginning to their end. */
static struct span
whole_of (const struct chunks *c, uint64_t offset, uint64_t length)
{
#ifdef PLANT_BUG_mirror_into_dirty
  return span_of (c, offset, length);
#endif
  const uint64_t first = chunks_for (c, offset), end = offset + length;
  const uint64_t stop = end == c->disk_bytes ? c->n : end >> c->shift;

  return (struct span){ first, stop > first ? stop - first : 0 };
}

bool
chunks_may_mirror (const struct chunks *c, uint64_t offset, uint64_t length)
{
  const struct span s = span_of (c, offset, length);

#ifndef PLANT_BUG_mirror_into_leased
  if (any (&c->leased, s))
    return false;
#endif
  if (any (&c->quarantined, s))
    return false;
  return whole_of (c, offset, length).count > 0 || !any (&c->dirty, s) ||
         bitmap_count (&c->dirty, s.first, s.count) < s.count;
}

static void
clean_whole (struct chunks *c, uint64_t offset, uint64_t length)
{
  const struct span whole = whole_of (c, offset, length);

  if (any (&c->dirty, whole))
    bitmap_clear (&c->dirty, whole.first, whole.count);
}

void
chunks_begin_mirrored (struct chunks *c, uint64_t offset, uint64_t length)
{
  const struct span s = span_of (c, offset, length);

  bitmap_set (&c->written, s.first, s.count); /* R18: a lease may come now */
#ifndef PLANT_BUG_mirror_cleans_late
  clean_whole (c, offset, length);
#endif
}

struct dirt
chunks_mirrored (struct chunks *c, uint64_t offset, uint64_t length)
{
  const struct span s = span_of (c, offset, length);
  const struct dirt all = weigh (c, s);

  bitmap_set (&c->unflushed, s.first, s.count);
  bitmap_set (&c->guest, s.first, s.count);
  bitmap_set (&c->round, s.first, s.count);
  bitmap_set (&c->touched, s.first, s.count);
#ifdef PLANT_BUG_mirror_cleans_late
  clean_whole (c, offset, length);
#endif
  return (struct dirt){ .changed = length, .touched = all.touched };
}

void
chunks_quarantine (struct chunks *c, uint64_t offset, uint64_t length)
{
  const struct span s = span_of (c, offset, length);

  bitmap_set (&c->quarantined, s.first, s.count);
}

void
chunks_flag_leased (const struct chunks *c, struct inflight *l)
{
  if (l->mirrored == 0)
    return;
  for (struct inflight_node *n = l->head.next; n != &l->head; n = n->next)
    n->conflict |=
      n->mirrored && any (&c->leased, span_of (c, n->offset, n->length));
}

void
chunks_mark_all (struct chunks *c)
{
  bitmap_set (&c->dirty, 0, c->n);
}

static void
set_all (const struct chunks *c, struct bitmap *b, bool value)
{
  if (value)
    bitmap_set (b, 0, c->n);
  else
    clear_all (b);
}

void
chunks_set_written (struct chunks *c, bool written)
{
  set_all (c, &c->written, written);
}

void
chunks_set_quarantined (struct chunks *c, bool quarantined)
{
  set_all (c, &c->quarantined, quarantined);
}

void
chunks_forget_guest (struct chunks *c)
{
  clear_all (&c->guest);
  clear_all (&c->round);
  clear_all (&c->last_round);
  clear_all (&c->hot);
}

/* Going through ranges without what the guest has touched. */
struct untouched {
  const struct chunks *c;
  const struct inflight *in_flight;
  size_t max_extents;
  struct extents *out;
  uint64_t end; /* bytes; how far it got */
};

/* The end of the run of chunks that begins at 'from' and was not touched. */
static uint64_t
untouched_run (struct untouched *u, uint64_t from, uint64_t limit)
{
  uint64_t stop, begin, first;

  stop = bitmap_next_set_before (&u->c->guest, from, limit);
  begin = offset_of (u->c, from);
  first = inflight_first (u->in_flight, begin, offset_of (u->c, stop) - begin);
  return first == offset_of (u->c, stop) ? stop : first >> u->c->shift;
}

/* One range.  1: there is no room for more; -1: no memory. */
static int
add_untouched (struct untouched *u, const struct extent *x)
{
  const uint64_t x_end = x->offset + x->length;
  const uint64_t limit = chunks_for (u->c, x_end);
  uint64_t pos = x->offset >> u->c->shift;

  while (pos < limit) {
    const uint64_t stop = untouched_run (u, pos, limit);
    const uint64_t run = offset_of (u->c, pos),
                   run_end = offset_of (u->c, stop);
    const uint64_t from = run > x->offset ? run : x->offset;
    const uint64_t to = run_end < x_end ? run_end : x_end;

    u->end = from;
    if (stop > pos && u->out->n == u->max_extents)
      return 1;
    if (stop > pos && extents_append (u->out, from, to - from, false) == -1)
      return -1;
    pos = stop > pos ? stop : pos + 1;
  }
  u->end = x_end;
  return 0;
}

int
chunks_untouched (const struct chunks *c, const struct inflight *in_flight,
                  const struct extents *e, size_t max_extents,
                  struct extents *out, uint64_t *end)
{
  struct untouched u = {
    .c = c,
    .in_flight = in_flight,
    .max_extents = max_extents,
    .out = out,
  };
  int r = 0;

  for (size_t i = 0; i < e->n && r == 0; i++)
    r = add_untouched (&u, &e->v[i]);
  *end = u.end;
  return r == -1 ? -1 : 0;
}

/* ---- Leases ------------------------------------------------------------- */

/* The chunks of word 'w' that may be leased, as bits. */
static uint64_t
candidates (const struct chunks *c, enum chunks_which which, uint64_t w)
{
  const uint64_t dirty = c->dirty.words[w];
  const uint64_t leased = c->leased.words[w];
  const uint64_t busy =
    dirty | leased | c->unflushed.words[w] | c->flushing.words[w];
  const uint64_t quarantined = c->quarantined.words[w];

  switch (which) {
  case CHUNKS_DIRTY:
#ifdef PLANT_BUG_take_leased
    return dirty;
#endif
    return dirty & ~leased; /* R4 */
  case CHUNKS_COLD:
    return dirty & ~leased & ~c->hot.words[w];
  case CHUNKS_CLEAN:
    return ~(busy | quarantined);
  case CHUNKS_QUARANTINED:
    return ~busy & quarantined;
  }
  assert (!"chunks_which");
  return 0;
}

/* Whether it is for copying, not for looking. */
static bool
is_to_copy (enum chunks_which which)
{
  return which == CHUNKS_DIRTY || which == CHUNKS_COLD;
}

/* The first candidate at or after 'from', or c->n. */
static uint64_t
run_begin (const struct chunks *c, enum chunks_which which, uint64_t from)
{
  const uint64_t words = (c->n + WORD_BITS - 1) / WORD_BITS;
  uint64_t mask = UINT64_MAX << from % WORD_BITS;

  if ((is_to_copy (which) && c->dirty.set == 0) ||
      (which == CHUNKS_QUARANTINED && c->quarantined.set == 0))
    return c->n;

  for (uint64_t w = from / WORD_BITS; w < words; w++) {
    const uint64_t found = candidates (c, which, w) & mask;

    if (found != 0) {
      /* CHUNKS_CLEAN may find a bit past the end. */
      const uint64_t pos = w * WORD_BITS + __builtin_ctzll (found);
      return pos < c->n ? pos : c->n;
    }
    mask = UINT64_MAX;
  }
  return c->n;
}

/* What 'touched' is for a chunk of the lease (R18). */
static bool
is_touched (const struct chunks *c, enum chunks_which which, uint64_t chunk)
{
  return !is_to_copy (which) || bitmap_test (&c->written, chunk);
}

/* The end of the run of candidates that begins at 'from' and is touched or not
 * all over; at most 'limit'.
 */
static uint64_t
run_end (const struct chunks *c, enum chunks_which which, uint64_t from,
         uint64_t limit)
{
  const uint64_t written = is_touched (c, which, from) ? UINT64_MAX : 0;
  uint64_t mask = UINT64_MAX << from % WORD_BITS;

  for (uint64_t w = from / WORD_BITS; w * WORD_BITS < limit; w++) {
    uint64_t other = ~candidates (c, which, w);

    if (is_to_copy (which))
      other |= c->written.words[w] ^ written;
    if ((other & mask) != 0) {
      const uint64_t pos = w * WORD_BITS + __builtin_ctzll (other & mask);
      return pos < limit ? pos : limit;
    }
    mask = UINT64_MAX;
  }
  return limit;
}

/* Choose the ranges of a lease, changing nothing. */
static int
choose (const struct chunks *c, enum chunks_which which, uint64_t pos,
        uint64_t budget, size_t max_extents, struct extents *runs,
        uint64_t *end)
{
  for (size_t i = 0; i < max_extents && budget > 0; i++) {
    const uint64_t first = run_begin (c, which, pos);

    pos = first;
    if (first == c->n)
      break;

    const uint64_t room = c->n - first;

    pos = run_end (c, which, first, first + (budget < room ? budget : room));
    budget -= pos - first;

    const uint64_t offset = offset_of (c, first);

    if (extents_append (runs, offset, offset_of (c, pos) - offset,
                        is_touched (c, which, first)) == -1)
      return -1;
  }
  *end = pos;
  return 0;
}

/* R3: the chunks go from D to L in one step under the lock, and only then does
 * the migrator read them.  A guest write that ends later sets D again.
 */
static void
lease (struct chunks *c, enum chunks_which which, const struct extent *x)
{
  const uint64_t first = x->offset >> c->shift;
  const uint64_t count = chunks_for (c, x->length);

  bitmap_set (&c->leased, first, count);
  if (is_to_copy (which)) {
    bitmap_clear (&c->dirty, first, count);
    bitmap_set (&c->written, first, count); /* R18 */
  }
}

int
chunks_lease (struct chunks *c, enum chunks_which which, uint64_t cursor,
              uint64_t max_bytes, size_t max_extents, struct extents *out,
              uint64_t *next)
{
  CLEANUP_EXTENTS struct extents runs = EXTENTS_EMPTY;
  const uint64_t budget = max_bytes >> c->shift;
  uint64_t pos = cursor < c->disk_bytes ? cursor >> c->shift : c->n;

  if (choose (c, which, pos, budget > 0 ? budget : 1, max_extents, &runs,
              &pos) == -1)
    return -1;
  for (size_t i = 0; i < runs.n; i++)
    if (extents_append (out, runs.v[i].offset, runs.v[i].length,
                        runs.v[i].touched) == -1)
      return -1;
  for (size_t i = 0; i < runs.n; i++)
    lease (c, which, &runs.v[i]);
  *next = offset_of (c, pos);
  return 0;
}

static bool
is_leased (const struct chunks *c, const struct extent *x)
{
  const uint64_t inside = chunk_bytes_of (c) - 1;

  if (x->offset > c->disk_bytes || x->length > c->disk_bytes - x->offset ||
      (x->offset & inside) != 0)
    return false;
  if ((x->length & inside) != 0 && x->offset + x->length != c->disk_bytes)
    return false;

  const uint64_t count = chunks_for (c, x->length);

  return bitmap_count (&c->leased, x->offset >> c->shift, count) == count;
}

bool
chunks_are_leased (const struct chunks *c, const struct extents *e)
{
  for (size_t i = 0; i < e->n; i++)
    if (!is_leased (c, &e->v[i]))
      return false;
  return true;
}

/* R5: what was not copied for sure is dirty. */
static void
fail_lease (struct chunks *c, uint64_t first, uint64_t count, bool unknown)
{
  bitmap_clear (&c->leased, first, count);
#ifdef PLANT_BUG_drop_failed_lease
  return;
#endif
  bitmap_set (&c->dirty, first, count);
#ifdef PLANT_BUG_forget_quarantine
  return;
#endif
  if (unknown)
    bitmap_set (&c->quarantined, first, count); /* R17 */
}

/* R5: L to U, also where D was set again meanwhile. */
void
chunks_done (struct chunks *c, const struct extents *e)
{
  for (size_t i = 0; i < e->n; i++) {
    const uint64_t first = e->v[i].offset >> c->shift;
    const uint64_t count = chunks_for (c, e->v[i].length);

    bitmap_clear (&c->leased, first, count);
    bitmap_set (&c->unflushed, first, count);
#ifdef PLANT_BUG_clear_after_read
    bitmap_clear (&c->dirty, first, count);
#endif
  }
}

/* Nothing was written there, neither by the migrator, nor (then D would be set)
 * by the guest: W goes.
 */
static void
unset_written (struct chunks *c, const struct extents *e)
{
  for (size_t i = 0; i < e->n; i++)
    bitmap_and_range (&c->written, &c->dirty, e->v[i].offset >> c->shift,
                      chunks_for (c, e->v[i].length));
}

void
chunks_skipped (struct chunks *c, const struct extents *e)
{
  chunks_done (c, e);
  unset_written (c, e);
}

void
chunks_failed (struct chunks *c, const struct extents *e, bool unknown)
{
  for (size_t i = 0; i < e->n; i++)
    fail_lease (c, e->v[i].offset >> c->shift, chunks_for (c, e->v[i].length),
                unknown);
}

void
chunks_put_back (struct chunks *c, const struct extents *e)
{
  unset_written (c, e);
  chunks_failed (c, e, false);
}

/* R17: Q goes, but not without a flush: what was found equal may have been put
 * there by a late write, after the last flush had made an earlier late write of
 * other content durable.  It stays where a guest has written meanwhile: that
 * may have gone to both sides, and its own outcome be what is not known.
 */
static void
lift_quarantine (struct chunks *c, uint64_t first, uint64_t count)
{
  const uint64_t end = first + count;
  uint64_t clean_end;

  for (uint64_t pos = first; pos < end;
       pos = bitmap_next_clear (&c->dirty, clean_end)) {
    clean_end = bitmap_next_set (&c->dirty, pos);
    if (clean_end > end)
      clean_end = end;
    bitmap_or_range (&c->unflushed, &c->quarantined, pos, clean_end - pos);
    bitmap_clear (&c->quarantined, pos, clean_end - pos);
  }
}

void
chunks_equal (struct chunks *c, const struct extents *e)
{
  for (size_t i = 0; i < e->n; i++) {
    const uint64_t first = e->v[i].offset >> c->shift;
    const uint64_t count = chunks_for (c, e->v[i].length);

    bitmap_clear (&c->leased, first, count);
    lift_quarantine (c, first, count);
  }
}

/* Of the chunks [first, end), which are not dirty, those that no request in
 * flight touches.
 */
static int
append_quiet (const struct chunks *c, const struct inflight *in_flight,
              uint64_t first, uint64_t end, struct extents *out)
{
  const uint64_t limit = offset_of (c, end);

  while (first < end) {
    const uint64_t from = offset_of (c, first);
    const uint64_t busy = inflight_first (in_flight, from, limit - from);
    const uint64_t stop = busy < limit ? busy >> c->shift : end;

    if (extents_append (out, from, offset_of (c, stop) - from, true) == -1)
      return -1;
    first = stop + 1;
  }
  return 0;
}

/* The chunks of a range that were not touched since they were leased: a guest
 * request that is over has set D, any other is still in flight.  Requests wait
 * meanwhile, so it goes by runs of chunks.
 */
static int
append_untouched (const struct chunks *c, const struct extent *x,
                  const struct inflight *in_flight, struct extents *out)
{
  uint64_t pos = x->offset >> c->shift;
  const uint64_t end = pos + chunks_for (c, x->length);

  while (pos < end) {
    const uint64_t clear = bitmap_next_clear (&c->dirty, pos);
    const uint64_t dirty =
      clear < end ? bitmap_next_set_before (&c->dirty, clear, end) : end;

    if (clear < end && append_quiet (c, in_flight, clear, dirty, out) == -1)
      return -1;
    pos = dirty;
  }
  return 0;
}

int
chunks_differ (struct chunks *c, const struct extents *e,
               const struct inflight *in_flight, struct extents *wrong)
{
  for (size_t i = 0; i < e->n; i++)
    if (append_untouched (c, &e->v[i], in_flight, wrong) == -1)
      return -1;
  chunks_failed (c, e, false);
  /* R18: whatever was promised of the destination there is not so. */
  for (size_t i = 0; i < e->n; i++)
    bitmap_set (&c->written, e->v[i].offset >> c->shift,
                chunks_for (c, e->v[i].length));
  return 0;
}

/* ---- Flushes and losses ------------------------------------------------- */

void
chunks_flush_begin (struct chunks *c)
{
  assert (c->flushing.set == 0);
  bitmap_swap (&c->unflushed, &c->flushing);
}

void
chunks_flush_end (struct chunks *c, bool success)
{
  if (!success)
    bitmap_or (&c->dirty, &c->flushing);
  clear_all (&c->flushing);
#ifdef PLANT_BUG_flush_covers_later
  clear_all (&c->unflushed);
#endif
}

void
chunks_lost (struct chunks *c)
{
  move_all (&c->dirty, &c->unflushed);
  move_all (&c->dirty, &c->flushing);
}

void
chunks_mirror_lost (struct chunks *c)
{
  chunks_lost (c);
  bitmap_or (&c->dirty, &c->leased);
}

bool
chunks_interrupt (struct chunks *c)
{
  const bool leased = c->leased.set > 0;
  uint64_t end;

  chunks_lost (c);
  for (uint64_t pos = 0; c->leased.set > 0; pos = end) {
    pos = bitmap_next_set (&c->leased, pos);
    end = bitmap_next_clear (&c->leased, pos);
    fail_lease (c, pos, end - pos, true);
  }
  return leased;
}

void
chunks_forget (struct chunks *c)
{
  clear_all (&c->dirty);
  clear_all (&c->leased);
  clear_all (&c->unflushed);
  clear_all (&c->flushing);
  chunks_forget_quiet (c);
}

/* ---- What is the same on both sides (R14) ------------------------------- */

/* The chunks of word 'w' that the destination has, durably and for sure. */
static uint64_t
clean_word (const struct chunks *c, uint64_t w)
{
  return ~(c->dirty.words[w] | c->leased.words[w] | c->unflushed.words[w] |
           c->flushing.words[w] | c->quarantined.words[w]);
}

/* Without what requests in flight touch. */
static void
without_in_flight (const struct chunks *c, const struct inflight *in_flight,
                   uint64_t word, size_t words, uint64_t *bits)
{
  const struct inflight_node *n;

#ifdef PLANT_BUG_quiet_in_flight
  return;
#endif
  for (n = in_flight->head.next; n != &in_flight->head; n = n->next) {
    const struct span s = span_of (c, n->offset, n->length);
    const uint64_t end = s.first + s.count;
    uint64_t w = s.first / WORD_BITS;

    for (w = w > word ? w : word; w < word + words && w * WORD_BITS < end; w++)
      bits[w - word] &= ~bitmap_mask (w, s.first, s.first + s.count);
  }
}

void
chunks_note_quiet (struct chunks *c, const struct inflight *in_flight,
                   bool touched_too, uint64_t word, size_t words)
{
  const uint64_t first = word * WORD_BITS, end = first + words * WORD_BITS;

  for (uint64_t w = word; w < word + words; w++) {
    c->quiet[w] = clean_word (c, w);
    if (!touched_too)
      c->quiet[w] &= ~c->touched.words[w];
  }
  without_in_flight (c, in_flight, word, words, &c->quiet[word]);
  if (c->touched.set > 0)
    bitmap_clear (&c->touched, first, (end < c->n ? end : c->n) - first);
}

void
chunks_quiet (const struct chunks *c, const struct inflight *in_flight,
              uint64_t word, size_t words, uint64_t *bits)
{
  for (uint64_t w = word; w < word + words; w++) {
    bits[w - word] = c->quiet[w] & clean_word (c, w);
#ifndef PLANT_BUG_quiet_touched
    bits[w - word] &= ~c->touched.words[w];
#endif
  }
  without_in_flight (c, in_flight, word, words, bits);
  if (word + words == words_of (c) && c->n % WORD_BITS != 0)
    bits[words - 1] |= UINT64_MAX << c->n % WORD_BITS;
}

static void
set_word (struct bitmap *b, uint64_t word, uint64_t bits)
{
  b->set += __builtin_popcountll (bits & ~b->words[word]);
  b->words[word] |= bits;
}

void
chunks_mark_words (struct chunks *c, uint64_t word, const uint64_t *bits,
                   size_t words)
{
  assert (word + words <= words_of (c));
  for (uint64_t w = word; w < word + words; w++) {
    set_word (&c->dirty, w, bits[w - word]);
    c->quiet[w] &= ~bits[w - word];
  }
}

void
chunks_forget_quiet (struct chunks *c)
{
  memset (c->quiet, 0, words_of (c) * sizeof *c->quiet);
}

void
chunks_restore (struct chunks *c, const uint64_t *dirty, bool quarantined)
{
  chunks_forget (c);
  clear_all (&c->quarantined);
  for (uint64_t w = 0; w < words_of (c); w++) {
    c->dirty.words[w] = dirty[w];
    c->dirty.set += __builtin_popcountll (dirty[w]);
  }
  if (quarantined)
    bitmap_or (&c->quarantined, &c->dirty);
  chunks_set_written (c, true);
}
