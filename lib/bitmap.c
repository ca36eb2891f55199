/* SPDX-License-Identifier: BSD-3-Clause */
/* Everything works a word at a time: the tracker calls this with its lock held
 * while guest requests wait, and a disk may have 2^24 chunks.
 *
 * A range is given by its first and its last bit, so that its words are those
 * from first / 64 to last / 64, and only these two need a mask.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"

#define WORD_BITS 64
#define ALL_SET UINT64_MAX

static uint64_t
nr_words (uint64_t bits)
{
  return bits / WORD_BITS + (bits % WORD_BITS != 0);
}

static unsigned
nr_set (uint64_t word)
{
  return __builtin_popcountll (word);
}

/* The bits of word 'w' that lie in [first, last]. */
static uint64_t
mask_of (uint64_t w, uint64_t first, uint64_t last)
{
  return bitmap_mask (w, first, last + 1);
}

static void
assert_range (const struct bitmap *b, uint64_t first, uint64_t count)
{
  assert (first <= b->bits);
  assert (count <= b->bits - first);
}

int
bitmap_init (struct bitmap *b, uint64_t bits)
{
  const uint64_t n = nr_words (bits);

  memset (b, 0, sizeof *b);
  b->words = calloc (n > 0 ? n : 1, sizeof *b->words);
  if (b->words == NULL)
    return -1;
  b->bits = bits;
  return 0;
}

void
bitmap_destroy (struct bitmap *b)
{
  free (b->words);
  memset (b, 0, sizeof *b);
}

bool
bitmap_test (const struct bitmap *b, uint64_t bit)
{
  assert (bit < b->bits);
  return b->words[bit / WORD_BITS] >> bit % WORD_BITS & 1;
}

void
bitmap_set (struct bitmap *b, uint64_t first, uint64_t count)
{
  assert_range (b, first, count);
  if (count == 0)
    return;

  const uint64_t last = first + count - 1;

  for (uint64_t w = first / WORD_BITS; w <= last / WORD_BITS; w++) {
    const uint64_t added = mask_of (w, first, last) & ~b->words[w];

    if (added != 0) {
      b->words[w] |= added;
      b->set += nr_set (added);
    }
  }
}

void
bitmap_clear (struct bitmap *b, uint64_t first, uint64_t count)
{
  assert_range (b, first, count);
  if (count == 0)
    return;

  const uint64_t last = first + count - 1;

  for (uint64_t w = first / WORD_BITS; w <= last / WORD_BITS; w++) {
    const uint64_t removed = mask_of (w, first, last) & b->words[w];

    if (removed != 0) {
      b->words[w] &= ~removed;
      b->set -= nr_set (removed);
    }
  }
}

uint64_t
bitmap_count (const struct bitmap *b, uint64_t first, uint64_t count)
{
  uint64_t n = 0;

  assert_range (b, first, count);
  if (count == b->bits)
    return b->set;
  if (count == 0 || b->set == 0)
    return 0;

  const uint64_t last = first + count - 1;

  for (uint64_t w = first / WORD_BITS; w <= last / WORD_BITS; w++)
    n += nr_set (mask_of (w, first, last) & b->words[w]);
  return n;
}

/* The first bit at or after 'from' and before 'end' that is set once its word
 * is combined with 'flip' by exclusive or; 'end' if there is none.
 */
static uint64_t
find_next (const struct bitmap *b, uint64_t from, uint64_t end, uint64_t flip)
{
  assert (from <= end && end <= b->bits);
  if (from == end)
    return end;

  const uint64_t n = nr_words (end);
  uint64_t w = from / WORD_BITS;
  uint64_t found = (b->words[w] ^ flip) & ALL_SET << from % WORD_BITS;

  while (found == 0 && ++w < n)
    found = b->words[w] ^ flip;
  if (found == 0)
    return end;

  /* Bits past the end are clear: the first of them is number b->bits. */
  const uint64_t bit = w * WORD_BITS + __builtin_ctzll (found);

  return bit < end ? bit : end;
}

uint64_t
bitmap_next_set (const struct bitmap *b, uint64_t from)
{
  return bitmap_next_set_before (b, from, b->bits);
}

uint64_t
bitmap_next_set_before (const struct bitmap *b, uint64_t from, uint64_t end)
{
  assert (from <= end && end <= b->bits);
  if (b->set == 0)
    return end;
  return find_next (b, from, end, 0);
}

uint64_t
bitmap_next_clear (const struct bitmap *b, uint64_t from)
{
  return find_next (b, from, b->bits, ALL_SET);
}

void
bitmap_or (struct bitmap *dst, const struct bitmap *src)
{
  assert (dst->bits == src->bits);
  bitmap_or_range (dst, src, 0, dst->bits);
}

void
bitmap_or_range (struct bitmap *dst, const struct bitmap *src, uint64_t first,
                 uint64_t count)
{
  assert_range (dst, first, count);
  assert_range (src, first, count);
  if (count == 0 || src->set == 0)
    return;

  const uint64_t last = first + count - 1;

  for (uint64_t w = first / WORD_BITS; w <= last / WORD_BITS; w++) {
    const uint64_t added =
      src->words[w] & ~dst->words[w] & mask_of (w, first, last);

    if (added != 0) {
      dst->words[w] |= added;
      dst->set += nr_set (added);
    }
  }
}

void
bitmap_and_range (struct bitmap *dst, const struct bitmap *src, uint64_t first,
                  uint64_t count)
{
  assert_range (dst, first, count);
  assert_range (src, first, count);
  if (count == 0 || dst->set == 0)
    return;

  const uint64_t last = first + count - 1;

  for (uint64_t w = first / WORD_BITS; w <= last / WORD_BITS; w++) {
    const uint64_t removed =
      dst->words[w] & ~src->words[w] & mask_of (w, first, last);

    if (removed != 0) {
      dst->words[w] &= ~removed;
      dst->set -= nr_set (removed);
    }
  }
}

void
bitmap_swap (struct bitmap *a, struct bitmap *b)
{
  const struct bitmap tmp = *a;

  *a = *b;
  *b = tmp;
}
