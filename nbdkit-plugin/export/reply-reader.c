/* SPDX-License-Identifier: BSD-3-Clause */

#include <endian.h>
#include <string.h>

#include "reply-reader.h"

#define SIMPLE_MAGIC 0x67446698
#define SIMPLE_BYTES 16
#define CHUNK_MAGIC 0x668e33ef
#define CHUNK_BYTES 20
#define CHUNK_LENGTH_AT 16
#define EXTENDED_MAGIC 0x6e8a278c
#define EXTENDED_BYTES 32
#define EXTENDED_LENGTH_AT 24
#define FLAGS_AT 4 /* of the two latter */
#define FLAG_DONE 1

_Static_assert(SIMPLE_BYTES <= REPLY_HEADER_MAX &&
                 CHUNK_BYTES <= REPLY_HEADER_MAX &&
                 EXTENDED_BYTES <= REPLY_HEADER_MAX,
               "a header fits");

static uint32_t
be32_at (const uint8_t *at)
{
  uint32_t value;

  memcpy (&value, at, sizeof value);
  return be32toh (value);
}

static uint64_t
be64_at (const uint8_t *at)
{
  uint64_t value;

  memcpy (&value, at, sizeof value);
  return be64toh (value);
}

/* 0: there is no such header. */
static unsigned
header_bytes (uint32_t magic)
{
  switch (magic) {
  case SIMPLE_MAGIC:
    return SIMPLE_BYTES;
  case CHUNK_MAGIC:
    return CHUNK_BYTES;
  case EXTENDED_MAGIC:
    return EXTENDED_BYTES;
  }
  return 0;
}

/* False: it is none. */
static bool
look_at_header (struct reply_reader *r)
{
  uint32_t magic;
  unsigned bytes;

  if (r->have < sizeof magic)
    return true;
  magic = be32_at (r->header);
  bytes = header_bytes (magic);
  if (bytes == 0)
    return false;
  if (r->have < bytes)
    return true;
  r->in_data = true;
  r->last = magic == SIMPLE_MAGIC || (r->header[FLAGS_AT + 1] & FLAG_DONE) != 0;
  r->data = 0;
  if (magic == CHUNK_MAGIC)
    r->data = be32_at (r->header + CHUNK_LENGTH_AT);
  else if (magic == EXTENDED_MAGIC)
    r->data = be64_at (r->header + EXTENDED_LENGTH_AT);
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
      r->data -= taken;
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
