/* SPDX-License-Identifier: BSD-3-Clause */
/* The chunk table against a naive model of one struct a chunk: each random
 * call is made on both, then all bits and byte counts must agree.
 */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "tracker/chunks.h"
#include "unit.h"

#define CHUNK UINT64_C (16)
#define MODEL_MAX 300 /* chunks */

struct model {
  struct {
    bool d, l, u, f, q, w;
    bool g, round, last_round, hot;
  } c[MODEL_MAX];
  uint64_t n;
  uint64_t disk;
};

static uint64_t
model_length (const struct model *m, uint64_t i)
{
  return i == m->n - 1 ? m->disk - i * CHUNK : CHUNK;
}

static bool
same_bit (const struct bitmap *b, uint64_t i, bool value, uint64_t length,
          uint64_t *bytes)
{
  *bytes += value ? length : 0;
  return bitmap_test (b, i) == value;
}

/* All bits and all byte counts. */
static bool
same (const struct chunks *c, const struct model *m)
{
  uint64_t bytes[6] = { 0 }, hot = 0;
  bool ok = true;

  for (uint64_t i = 0; i < m->n; i++) {
    const uint64_t len = model_length (m, i);

    ok &= same_bit (&c->dirty, i, m->c[i].d, len, &bytes[0]);
    ok &= same_bit (&c->leased, i, m->c[i].l, len, &bytes[1]);
    ok &= same_bit (&c->unflushed, i, m->c[i].u, len, &bytes[2]);
    ok &= same_bit (&c->flushing, i, m->c[i].f, len, &bytes[3]);
    ok &= same_bit (&c->quarantined, i, m->c[i].q, len, &bytes[4]);
    ok &= same_bit (&c->written, i, m->c[i].w, len, &bytes[5]);
    hot += m->c[i].hot && m->c[i].d ? len : 0;
  }
  ok &= chunks_bytes (c, &c->dirty) == bytes[0];
  ok &= chunks_bytes (c, &c->leased) == bytes[1];
  ok &= chunks_bytes (c, &c->unflushed) == bytes[2];
  ok &= chunks_bytes (c, &c->flushing) == bytes[3];
  ok &= chunks_bytes (c, &c->quarantined) == bytes[4];
  ok &= chunks_bytes (c, &c->written) == bytes[5];
  ok &= chunks_hot_bytes (c) == hot;
  ok &= chunks_clean (c) ==
        (bytes[0] + bytes[1] + bytes[2] + bytes[3] + bytes[4] == 0);
  return ok;
}

static void
init (struct chunks *c, struct model *m, uint64_t disk)
{
  CU_ASSERT_EQUAL_FATAL (chunks_init (c, disk, CHUNK), 0);
  memset (m, 0, sizeof *m);
  m->disk = disk;
  m->n = (disk + CHUNK - 1) / CHUNK;
  CU_ASSERT_EQUAL (c->n, m->n);
}

static bool
is_to_copy (enum chunks_which which)
{
  return which == CHUNKS_DIRTY || which == CHUNKS_COLD;
}

static bool
may_lease (const struct model *m, enum chunks_which which, uint64_t i)
{
  if (is_to_copy (which))
    return m->c[i].d && !m->c[i].l && !(which == CHUNKS_COLD && m->c[i].hot);
  return !m->c[i].d && !m->c[i].l && !m->c[i].u && !m->c[i].f &&
         m->c[i].q == (which == CHUNKS_QUARANTINED);
}

/* The model's way to lease: chunk by chunk. */
static void
model_lease (struct model *m, enum chunks_which which, uint64_t i,
             uint64_t budget, size_t max_extents, struct extents *out,
             uint64_t *next)
{
  for (; i < m->n; i++) {
    const bool may = may_lease (m, which, i);
    const bool touched = !is_to_copy (which) || m->c[i].w;
    const struct extent *last = out->n > 0 ? &out->v[out->n - 1] : NULL;
    const bool adjoins = may && last &&
                         last->offset + last->length == i * CHUNK &&
                         last->touched == touched;

    if (!adjoins && out->n == max_extents)
      break;
    if (!may)
      continue;
    CU_ASSERT_EQUAL_FATAL (
      extents_append (out, i * CHUNK, model_length (m, i), touched), 0);
    m->c[i].l = true;
    if (is_to_copy (which)) {
      m->c[i].d = false;
      m->c[i].w = true;
    }
    if (--budget == 0) {
      i++;
      break;
    }
  }
  *next = i < m->n ? i * CHUNK : m->disk;
}

static bool
same_extents (const struct extents *a, const struct extents *b)
{
  if (a->n != b->n)
    return false;
  for (size_t i = 0; i < a->n; i++)
    if (a->v[i].offset != b->v[i].offset || a->v[i].length != b->v[i].length ||
        a->v[i].touched != b->v[i].touched)
      return false;
  return true;
}

static bool
lease_step (struct chunks *c, struct model *m, uint64_t *rnd)
{
  CLEANUP_EXTENTS struct extents out = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents expected = EXTENTS_EMPTY;
  const enum chunks_which which = unit_random (rnd, 4);
  const uint64_t cursor = unit_random (rnd, m->disk + 2 * CHUNK);
  const uint64_t max_bytes = unit_random (rnd, 20 * CHUNK);
  const size_t max_extents = 1 + unit_random (rnd, 6);
  const uint64_t budget = max_bytes / CHUNK > 0 ? max_bytes / CHUNK : 1;
  uint64_t next = 0, model_next = 0;

  if (chunks_lease (c, which, cursor, max_bytes, max_extents, &out, &next) != 0)
    return false;
  model_lease (m, which, cursor < m->disk ? cursor / CHUNK : m->n, budget,
               max_extents, &expected, &model_next);
  return same_extents (&out, &expected) && next == model_next;
}

/* A random part of what is leased, with a list of all its ranges. */
static void
choose_leased (const struct model *m, struct extents *e, uint64_t *rnd)
{
  const uint64_t part = 1 + unit_random (rnd, 4);

  for (uint64_t i = 0; i < m->n; i++)
    if (m->c[i].l && unit_random (rnd, part) == 0)
      CU_ASSERT_EQUAL_FATAL (
        extents_append (e, i * CHUNK, model_length (m, i), false), 0);
}

static bool
model_has (const struct extents *e, uint64_t i)
{
  for (size_t k = 0; k < e->n; k++)
    if (i * CHUNK >= e->v[k].offset &&
        i * CHUNK < e->v[k].offset + e->v[k].length)
      return true;
  return false;
}

static bool
end_lease_step (struct chunks *c, struct model *m, uint64_t *rnd)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents wrong = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents expected = EXTENTS_EMPTY;
  const unsigned kind = unit_random (rnd, 7);
  struct inflight in_flight;
  struct inflight_node node;
  bool ok = true;

  inflight_init (&in_flight);
  if (m->disk > 0) {
    const uint64_t offset = unit_random (rnd, m->disk);
    inflight_add (&in_flight, &node, offset,
                  unit_random (rnd, m->disk - offset + 1));
  }
  choose_leased (m, &e, rnd);
  ok &= chunks_are_leased (c, &e);
  switch (kind) {
  case 0:
    chunks_done (c, &e);
    break;
  case 1:
  case 2:
    chunks_failed (c, &e, kind == 2);
    break;
  case 3:
    chunks_equal (c, &e);
    break;
  case 5:
    chunks_skipped (c, &e);
    break;
  case 6:
    chunks_put_back (c, &e);
    break;
  default:
    ok &= chunks_differ (c, &e, &in_flight, &wrong) == 0;
  }
  for (uint64_t i = 0; i < m->n; i++) {
    if (!model_has (&e, i))
      continue;
    if (kind == 4 && !m->c[i].d &&
        !inflight_overlaps (&in_flight, i * CHUNK, model_length (m, i)))
      ok &=
        extents_append (&expected, i * CHUNK, model_length (m, i), true) == 0;
    m->c[i].l = false;
    const bool lifted = kind == 3 && m->c[i].q && !m->c[i].d;

    m->c[i].u |= kind == 0 || kind == 5 || lifted;
    m->c[i].w &= (kind != 5 && kind != 6) || m->c[i].d;
    m->c[i].w |= kind == 4;
    m->c[i].d |= kind == 1 || kind == 2 || kind == 4 || kind == 6;
    m->c[i].q = kind == 2 || (m->c[i].q && !lifted);
  }
  return ok && same_extents (&wrong, &expected);
}

static bool
mark_step (struct chunks *c, struct model *m, uint64_t *rnd)
{
  const uint64_t offset = unit_random (rnd, m->disk + 1);
  const uint64_t most =
    m->disk - offset < 3 * CHUNK ? m->disk - offset : 3 * CHUNK;
  const uint64_t length = unit_random (rnd, most + 1);
  struct dirt expected = { .changed = length };
  struct dirt dirt;

  for (uint64_t i = 0; i < m->n; i++) {
    const uint64_t len = model_length (m, i);

    if (offset + length <= i * CHUNK || offset >= i * CHUNK + len ||
        length == 0)
      continue;
    expected.touched += len;
    expected.dirtied += m->c[i].d ? 0 : len;
    expected.redirtied += !m->c[i].d && m->c[i].g ? len : 0;
    m->c[i].d = m->c[i].w = m->c[i].g = m->c[i].round = true;
  }
  dirt = chunks_mark (c, offset, length);
  return memcmp (&dirt, &expected, sizeof dirt) == 0;
}

/* A round ends; now and then a session begins. */
static void
round_step (struct chunks *c, struct model *m, uint64_t *rnd)
{
  const bool forget = unit_random (rnd, 16) == 0;

  if (forget)
    chunks_forget_guest (c);
  else
    chunks_begin_round (c);
  for (uint64_t i = 0; i < m->n; i++) {
    m->c[i].g &= !forget;
    m->c[i].hot = !forget && m->c[i].last_round && m->c[i].round;
    m->c[i].last_round = !forget && m->c[i].round;
    m->c[i].round = false;
  }
}

static void
flush_step (struct chunks *c, struct model *m, bool *flushing, uint64_t *rnd)
{
  const bool success = unit_random (rnd, 3) > 0;

  if (*flushing)
    chunks_flush_end (c, success);
  else
    chunks_flush_begin (c);
  for (uint64_t i = 0; i < m->n; i++) {
    if (*flushing) {
      m->c[i].d |= m->c[i].f && !success;
      m->c[i].f = false;
    }
    else {
      m->c[i].f = m->c[i].u;
      m->c[i].u = false;
    }
  }
  *flushing = !*flushing;
}

/* lost, interrupt, forget, mark_all, set_written */
static bool
rare_step (struct chunks *c, struct model *m, bool *flushing, uint64_t *rnd)
{
  const unsigned kind = unit_random (rnd, 6);
  bool quarantined = false, any = false;

  switch (kind) {
  case 0:
    chunks_lost (c);
    break;
  case 1:
    quarantined = chunks_interrupt (c);
    break;
  case 2:
    chunks_forget (c);
    break;
  case 3:
    chunks_mark_all (c);
    break;
  default:
    chunks_set_written (c, kind == 4);
  }
  for (uint64_t i = 0; i < m->n; i++) {
    any |= m->c[i].l;
    m->c[i].d |= kind == 3;
    if (kind <= 1)
      m->c[i].d |= m->c[i].u || m->c[i].f || (kind == 1 && m->c[i].l);
    if (kind == 1)
      m->c[i].q |= m->c[i].l;
    if (kind == 2)
      m->c[i].d = false;
    if (kind <= 2)
      m->c[i].u = m->c[i].f = false;
    if (kind == 1 || kind == 2)
      m->c[i].l = false;
    if (kind >= 4)
      m->c[i].w = kind == 4;
  }
  *flushing &= kind == 0 || kind >= 3;
  return kind != 1 || quarantined == any;
}

static bool
random_disk (uint64_t disk, unsigned steps, uint64_t *rnd)
{
  struct chunks c;
  struct model m;
  bool flushing = false, ok = true;

  init (&c, &m, disk);
  for (unsigned i = 0; i < steps && ok; i++) {
    const unsigned kind = unit_random (rnd, 64);

    if (kind < 20)
      ok &= mark_step (&c, &m, rnd);
    else if (kind < 40)
      ok &= lease_step (&c, &m, rnd);
    else if (kind < 55)
      ok &= end_lease_step (&c, &m, rnd);
    else if (kind < 60)
      round_step (&c, &m, rnd);
    else if (kind < 63)
      flush_step (&c, &m, &flushing, rnd);
    else
      ok &= rare_step (&c, &m, &flushing, rnd);
    ok &= same (&c, &m);
    if (!ok)
      printf ("disk of %" PRIu64 " bytes, step %u, kind %u\n", disk, i, kind);
  }
  chunks_destroy (&c);
  return ok;
}

static void
test_random (void)
{
  static const uint64_t disks[] = { 0,    1,    15,   16,          17,  1023,
                                    1024, 1025, 2047, 64 * 16 * 4, 4790 };
  uint64_t rnd = unit_seed ();

  for (unsigned i = 0; i < sizeof disks / sizeof disks[0]; i++)
    CU_ASSERT (random_disk (disks[i], 3000, &rnd));
}

/* ---- Without what the guest has touched --------------------------------- */

#define BYTES_MAX 1500

/* Random ascending ranges, which need not adjoin chunks. */
static void
choose_ranges (uint64_t disk, struct extents *e, uint64_t *rnd)
{
  for (uint64_t at = unit_random (rnd, 40); at < disk;) {
    const uint64_t left = disk - at;
    uint64_t length = 1 + unit_random (rnd, 6 * CHUNK);

    if (length > left)
      length = left;
    CU_ASSERT_EQUAL_FATAL (extents_append (e, at, length, false), 0);
    at += length + 1 + unit_random (rnd, 3 * CHUNK);
  }
}

/* Byte by byte. */
static void
model_untouched (const struct chunks *c, const struct inflight *in_flight,
                 const struct extents *e, struct extents *out)
{
  for (size_t i = 0; i < e->n; i++)
    for (uint64_t b = e->v[i].offset; b < e->v[i].offset + e->v[i].length; b++)
      if (!bitmap_test (&c->guest, b / CHUNK) &&
          !inflight_overlaps (in_flight, b / CHUNK * CHUNK, CHUNK))
        CU_ASSERT_EQUAL_FATAL (extents_append (out, b, 1, false), 0);
}

static bool
untouched_step (const struct chunks *c, uint64_t *rnd)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents out = EXTENTS_EMPTY;
  CLEANUP_EXTENTS struct extents expected = EXTENTS_EMPTY;
  const size_t most = 1 + unit_random (rnd, 12);
  struct inflight in_flight;
  struct inflight_node node[2];
  uint64_t end = 0;
  bool whole;

  inflight_init (&in_flight);
  for (unsigned i = 0; i < 2; i++)
    inflight_add (&in_flight, &node[i], unit_random (rnd, c->disk_bytes - 99),
                  unit_random (rnd, 100));
  choose_ranges (c->disk_bytes, &e, rnd);
  model_untouched (c, &in_flight, &e, &expected);
  if (chunks_untouched (c, &in_flight, &e, most, &out, &end) != 0)
    return false;
  whole = expected.n <= most;
  if (e.n > 0 && whole && end != e.v[e.n - 1].offset + e.v[e.n - 1].length)
    return false;
  if (!whole && end != expected.v[most].offset)
    return false;
  if (!whole)
    expected.n = most;
  return same_extents (&out, &expected);
}

static void
test_untouched (void)
{
  uint64_t rnd = unit_seed ();

  for (unsigned i = 0; i < 300; i++) {
    struct chunks c;

    CU_ASSERT_EQUAL_FATAL (
      chunks_init (&c, 200 + unit_random (&rnd, BYTES_MAX), CHUNK), 0);
    for (uint64_t k = unit_random (&rnd, 20); k > 0; k--)
      chunks_mark (&c, unit_random (&rnd, c.disk_bytes), 1);
    CU_ASSERT (untouched_step (&c, &rnd));
    chunks_forget_guest (&c);
    CU_ASSERT (untouched_step (&c, &rnd));
    chunks_destroy (&c);
  }
}

static void
test_init (void)
{
  struct chunks c;

  CU_ASSERT_EQUAL (chunks_init (&c, 100, 0), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (chunks_init (&c, 100, 48), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL_FATAL (chunks_init (&c, 100, 1), 0);
  CU_ASSERT_EQUAL (c.n, 100);
  chunks_destroy (&c);
  CU_ASSERT_EQUAL_FATAL (chunks_init (&c, INT64_MAX, UINT64_C (1) << 40), 0);
  CU_ASSERT_EQUAL (c.n, UINT64_C (1) << 23);
  chunks_mark_all (&c);
  CU_ASSERT_EQUAL (chunks_bytes (&c, &c.dirty), INT64_MAX);
  chunks_destroy (&c);
}

static int
are_leased (const struct chunks *c, uint64_t offset, uint64_t length)
{
  struct extent x = { offset, length, false };
  const struct extents e = { &x, 1, 1 };

  return chunks_are_leased (c, &e);
}

static void
test_bad_ranges (void)
{
  CLEANUP_EXTENTS struct extents out = EXTENTS_EMPTY;
  struct chunks c;
  uint64_t next;

  CU_ASSERT_EQUAL_FATAL (chunks_init (&c, 100, CHUNK), 0);
  chunks_mark (&c, 32, 68);
  chunks_lease (&c, CHUNKS_DIRTY, 0, 1000, 10, &out, &next);
  CU_ASSERT (are_leased (&c, 32, 16));
  CU_ASSERT (are_leased (&c, 32, 68));
  CU_ASSERT (are_leased (&c, 96, 4));
  CU_ASSERT_FALSE (are_leased (&c, 96, 3));  /* not all of the last chunk */
  CU_ASSERT_FALSE (are_leased (&c, 96, 16)); /* past the disk's end */
  CU_ASSERT_FALSE (are_leased (&c, 33, 15));
  CU_ASSERT_FALSE (are_leased (&c, 32, 15));
  CU_ASSERT_FALSE (are_leased (&c, 16, 32)); /* one of them is not leased */
  CU_ASSERT_FALSE (are_leased (&c, 112, 16));
  CU_ASSERT_FALSE (are_leased (&c, 32, UINT64_MAX - 15));
  CU_ASSERT_FALSE (are_leased (&c, UINT64_MAX - 15, 16));
  chunks_destroy (&c);
}

/* A lease must not scan the whole table for each of its ranges. */
static void
test_large (void)
{
  CLEANUP_EXTENTS struct extents out = EXTENTS_EMPTY;
  const uint64_t n = UINT64_C (1) << 24;
  struct chunks c;
  uint64_t next = 0, leased = 0;

  CU_ASSERT_EQUAL_FATAL (chunks_init (&c, n * CHUNK, CHUNK), 0);
  for (uint64_t i = 0; i < n; i += 64)
    chunks_mark (&c, i * CHUNK, 1);
  while (next < c.disk_bytes) {
    extents_clear (&out);
    CU_ASSERT_EQUAL_FATAL (
      chunks_lease (&c, CHUNKS_DIRTY, next, c.disk_bytes, 8192, &out, &next),
      0);
    leased += out.n;
  }
  CU_ASSERT_EQUAL (leased, n / 64);
  CU_ASSERT_EQUAL (c.leased.set, n / 64);
  CU_ASSERT (chunks_interrupt (&c));
  CU_ASSERT_EQUAL (c.dirty.set, n / 64);
  chunks_destroy (&c);
}

/* A chunk of 'size' bytes has what any chunk of 'old_size' in it had. */
static bool
has_spread (const struct bitmap *b, uint64_t size, const struct bitmap *old,
            uint64_t old_size)
{
  for (uint64_t i = 0; i < b->bits; i++) {
    bool any = false;

    for (uint64_t k = 0; k < old->bits; k++)
      any |= k * old_size < (i + 1) * size && i * size < (k + 1) * old_size &&
             bitmap_test (old, k);
    if (bitmap_test (b, i) != any)
      return false;
  }
  return true;
}

static void
set_some (struct bitmap *b, uint64_t *rnd)
{
  for (uint64_t i = unit_random (rnd, 4); i < b->bits;
       i += 1 + unit_random (rnd, 9))
    bitmap_set (b, i, 1);
}

/* From CHUNK to 'size' and back. */
static void
resize_step (uint64_t disk, uint64_t size, uint64_t *rnd)
{
  struct chunks old, c;
  struct bitmap *const olds[] = {
    &old.dirty, &old.unflushed, &old.flushing,   &old.quarantined, &old.written,
    &old.guest, &old.round,     &old.last_round, &old.hot
  };
  struct bitmap *const news[] = { &c.dirty,       &c.unflushed,  &c.flushing,
                                  &c.quarantined, &c.written,    &c.guest,
                                  &c.round,       &c.last_round, &c.hot };

  CU_ASSERT_EQUAL_FATAL (chunks_init (&old, disk, CHUNK), 0);
  CU_ASSERT_EQUAL_FATAL (chunks_init (&c, disk, CHUNK), 0);
  for (unsigned i = 0; i < sizeof olds / sizeof olds[0]; i++) {
    set_some (olds[i], rnd);
    bitmap_or (news[i], olds[i]);
  }
  CU_ASSERT_EQUAL (chunks_resize (&c, size), 0);
  CU_ASSERT_EQUAL (c.n, (disk + size - 1) / size);
  CU_ASSERT_EQUAL (c.disk_bytes, disk);
  for (unsigned i = 0; i < sizeof olds / sizeof olds[0]; i++)
    CU_ASSERT (has_spread (news[i], size, olds[i], CHUNK));
  CU_ASSERT (chunks_bytes (&c, &c.dirty) >= chunks_bytes (&old, &old.dirty) ||
             size < CHUNK);
  chunks_destroy (&c);
  chunks_destroy (&old);
}

static void
test_resize (void)
{
  uint64_t rnd = unit_seed ();

  for (uint64_t size = 1; size <= 64 * CHUNK; size *= 2)
    for (unsigned i = 0; i < 20; i++)
      resize_step (unit_random (&rnd, 200 * CHUNK), size, &rnd);

  struct chunks c;

  CU_ASSERT_EQUAL_FATAL (chunks_init (&c, 100, CHUNK), 0);
  chunks_mark (&c, 20, 1);
  CU_ASSERT_EQUAL (chunks_resize (&c, 48), -1);
  CU_ASSERT_EQUAL (errno, EINVAL);
  CU_ASSERT_EQUAL (chunks_bytes (&c, &c.dirty), CHUNK);
  chunks_destroy (&c);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "init", test_init },
    { "ranges that are not leased chunks", test_bad_ranges },
    { "2^24 chunks", test_large },
    { "random calls against a model", test_random },
    { "chunks of another size", test_resize },
    { "without what the guest has touched", test_untouched },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("chunks", tests);
}
