/* SPDX-License-Identifier: BSD-3-Clause */
/* A bitmap with one bit a chunk, and the number of bits set.
 *
 * Not locked: whoever owns the bitmap serialises the calls.  Bit numbers and
 * ranges must lie inside the bitmap (asserted).
 */

#ifndef NBDMIGRATE_BITMAP_H
#define NBDMIGRATE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

struct bitmap {
  uint64_t *words; /* bits past the end are always 0 */
  uint64_t bits;   /* how many bits there are; may be 0 */
  uint64_t set;    /* how many of them are set */
};

/* All bits clear.  Returns -1 with errno set when there is no memory. */
extern int bitmap_init (struct bitmap *b, uint64_t bits)
  __attribute__ ((warn_unused_result));
extern void bitmap_destroy (struct bitmap *b);

extern bool bitmap_test (const struct bitmap *b, uint64_t bit);

/* Set or clear bits [first, first + count). */
extern void bitmap_set (struct bitmap *b, uint64_t first, uint64_t count);
extern void bitmap_clear (struct bitmap *b, uint64_t first, uint64_t count);

/* How many of the bits [first, first + count) are set. */
extern uint64_t bitmap_count (const struct bitmap *b, uint64_t first,
                              uint64_t count);

/* The first set (clear) bit at or after 'from', or b->bits if there is none.
 * 'from' may be b->bits.
 */
extern uint64_t bitmap_next_set (const struct bitmap *b, uint64_t from);
extern uint64_t bitmap_next_clear (const struct bitmap *b, uint64_t from);

/* The same in [from, end); 'end' if there is none there.  It looks no further.
 */
extern uint64_t bitmap_next_set_before (const struct bitmap *b, uint64_t from,
                                        uint64_t end);

/* dst |= src, for two bitmaps with the same number of bits. */
extern void bitmap_or (struct bitmap *dst, const struct bitmap *src);

/* The same for bits [first, first + count) only; and dst &= src there. */
extern void bitmap_or_range (struct bitmap *dst, const struct bitmap *src,
                             uint64_t first, uint64_t count);
extern void bitmap_and_range (struct bitmap *dst, const struct bitmap *src,
                              uint64_t first, uint64_t count);

/* The bits of word 'w', which has bits 64 w to 64 w + 63, that are in [first,
 * end).  The word is one of those that the range begins in, ends in, or lies
 * between.
 */
static inline uint64_t
bitmap_mask (uint64_t w, uint64_t first, uint64_t end)
{
  const uint64_t begin = w * 64;
  uint64_t mask = UINT64_MAX;

  if (first > begin)
    mask &= UINT64_MAX << (first - begin);
  if (end - begin < 64)
    mask &= ~(UINT64_MAX << (end - begin));
  return mask;
}

/* Exchange the contents of two bitmaps, in constant time. */
extern void bitmap_swap (struct bitmap *a, struct bitmap *b);

#endif /* NBDMIGRATE_BITMAP_H */
