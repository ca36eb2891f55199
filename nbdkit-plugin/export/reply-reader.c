/* SPDX-License-Identifier: BSD-3-Clause */

#include <endian.h>
#include <string.h>

#include "reply-reader.h"

#define SIMPLE_MAGIC 0x67446698
#define SIMPLE_BYTES 16
#define CHUNK_MAGIC 0x668e33ef
#define CHUNK_BYTES 20
#define CHUNK_FLAGS_AT 4
#define CHUNK_LENGTH_AT 16
#define FLAG_DONE 1

_Static_assert(CHUNK_BYTES <= REPLY_HEADER_MAX, "a header fits");
_Static_assert(SIMPLE_BYTES <= REPLY_HEADER_MAX, "a header fits");

static uint32_t
be32_at (const uint8_t *at)
{
  uint32_t value;

  memcpy (&value, at, sizeof value);
  return be32toh (value);
}

/* False: it is none. */
static bool
look_at_header (struct reply_reader *r)
{
  uint32_t magic;

  if (r->have < sizeof magic)
    return true;
  magic = be32_at (r->header);
  if (magic != SIMPLE_MAGIC && magic != CHUNK_MAGIC)
    return false;
  if (r->have < (magic == SIMPLE_MAGIC ? SIMPLE_BYTES : CHUNK_BYTES))
    return true;
  r->in_data = true;
  r->last = true;
  r->data = 0;
  if (magic == CHUNK_MAGIC) {
    r->last = (r->header[CHUNK_FLAGS_AT + 1] & FLAG_DONE) != 0;
    r->data = be32_at (r->header + CHUNK_LENGTH_AT);
  }
  return true;
}

static void
end_reply (struct reply_reader *r)
{
  r->have = 0;
  r->in_data = false;
  if (r->last && r->owed > 0)
    --r->owed;
}

bool
reply_reader_take (struct reply_reader *r, const uint8_t *bytes, size_t n)
{
  while (n > 0) {
    size_t taken = 1;

    if (r->in_data) {
      taken = n < r->data ? n : r->data;
      r->data -= (uint32_t)taken;
    }
    else {
      r->header[r->have++] = *bytes;
      if (!look_at_header (r))
        return false;
    }
    bytes += taken;
    n -= taken;
    if (r->in_data && r->data == 0)
      end_reply (r);
  }
  return true;
}
