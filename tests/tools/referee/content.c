/* SPDX-License-Identifier: BSD-3-Clause */
/* The bytes of the test guest.
 *
 * The disk is seen as 64-bit words at multiples of 8; a word is a mixing of
 * its number and of a key made from seed and version.  Blocks may begin and end
 * inside a word.  Over the first bytes of a long block lies a stamp, which
 * serves the reader of a failure: it tells what a wrong block really is.
 */

#include <endian.h>
#include <string.h>

#include "content.h"

#define STAMP_MAGIC UINT64_C (0x4e42444d69677221)
#define STAMP_BYTES 32
#define STAMP_MIN_BLOCK 64 /* shorter blocks carry no stamp */

uint64_t
content_mix (uint64_t x)
{
  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  x ^= x >> 32;
  return x;
}

uint64_t
rng_next (struct rng *r)
{
  r->state += UINT64_C (0x9e3779b97f4a7c15);
  return content_mix (r->state);
}

uint64_t
rng_below (struct rng *r, uint64_t bound)
{
  return bound == 0 ? 0 : rng_next (r) % bound;
}

static uint64_t
key_of (uint64_t seed, uint64_t version)
{
  return content_mix (content_mix (seed + 1) ^ (version * 2 + 1));
}

static uint64_t
word_of (uint64_t key, uint64_t number)
{
  return htole64 (content_mix (key + number * UINT64_C (0x9e3779b97f4a7c15)));
}

void
content_fill (uint64_t seed, uint64_t version, uint64_t offset, uint8_t *buf,
              size_t length)
{
  const uint64_t key = key_of (seed, version);

  while (length > 0) {
    const uint64_t word = word_of (key, offset / 8);
    const size_t skip = offset % 8;
    const size_t n = length < 8 - skip ? length : 8 - skip;

    if (n == 8)
      memcpy (buf, &word, 8);
    else
      memcpy (buf, (const uint8_t *)&word + skip, n);
    buf += n;
    offset += n;
    length -= n;
  }
}

/* Of everything but the checksum itself, which is the stamp's last word. */
static uint64_t
checksum (uint64_t seed, const uint8_t *buf, size_t length)
{
  uint64_t sum = content_mix (seed ^ length), word;
  size_t i;

  for (i = 0; i + 8 <= length; i += 8) {
    if (i == STAMP_BYTES - 8)
      continue;
    memcpy (&word, buf + i, 8);
    sum = content_mix (sum ^ le64toh (word));
  }
  for (; i < length; i++)
    sum = content_mix (sum ^ buf[i]);
  return sum;
}

static void
put (uint8_t *buf, size_t index, uint64_t value)
{
  value = htobe64 (value);
  memcpy (buf + index * 8, &value, 8);
}

static uint64_t
get (const uint8_t *buf, size_t index)
{
  uint64_t value;

  memcpy (&value, buf + index * 8, 8);
  return be64toh (value);
}

void
content_block (uint64_t seed, uint64_t version, uint64_t offset, uint8_t *buf,
               size_t length)
{
  content_fill (seed, version, offset, buf, length);
  if (length < STAMP_MIN_BLOCK)
    return;
  put (buf, 0, STAMP_MAGIC);
  put (buf, 1, offset);
  put (buf, 2, version);
  put (buf, 3, checksum (seed, buf, length));
}

bool
content_stamp (uint64_t seed, const uint8_t *buf, size_t length,
               struct stamp *s)
{
  if (length < STAMP_MIN_BLOCK || get (buf, 0) != STAMP_MAGIC)
    return false;
  s->offset = get (buf, 1);
  s->version = get (buf, 2);
  s->intact = get (buf, 3) == checksum (seed, buf, length);
  return true;
}
