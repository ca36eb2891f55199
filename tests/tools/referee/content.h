/* SPDX-License-Identifier: BSD-3-Clause */
/* What the referee writes: every byte is a function of the seed, the absolute
 * offset and the version, so that what a disk must hold never needs storing.
 */

#ifndef REFEREE_CONTENT_H
#define REFEREE_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A fast mixing of 64 bits; also the step of the random generator. */
extern uint64_t content_mix (uint64_t x);

/* A sequence of random numbers. */
struct rng {
  uint64_t state;
};
extern uint64_t rng_next (struct rng *r);
/* In [0, bound); 0 if bound is 0. */
extern uint64_t rng_below (struct rng *r, uint64_t bound);

/* The bytes of [offset, offset + length) in a version. */
extern void content_fill (uint64_t seed, uint64_t version, uint64_t offset,
                          uint8_t *buf, size_t length);

/* The same with a stamp in front (location, version, checksum) where the block
 * is long enough for one.
 */
extern void content_block (uint64_t seed, uint64_t version, uint64_t offset,
                           uint8_t *buf, size_t length);

struct stamp {
  uint64_t offset;
  uint64_t version;
  bool intact; /* the checksum fits the block */
};

/* Reads the stamp of a block that was read from a disk.  False if it has none.
 */
extern bool content_stamp (uint64_t seed, const uint8_t *buf, size_t length,
                           struct stamp *s);

#endif /* REFEREE_CONTENT_H */
