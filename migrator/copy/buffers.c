/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bitmap.h"
#include "copy/buffers.h"
#include "copy/small.h"
#include "shared-memory.h"

#define PIECE 4096 /* a page: no two buffers share one */

_Static_assert(SHARED_UNIT % PIECE == 0, "whole pieces");

struct buffers {
  struct shared_memory memory; /* without slots if it cannot be shared */
  struct bitmap used;          /* by piece */
  int fd;                      /* of the memory, or -1 */
  const char *why;             /* it cannot be shared; static */
  struct smalls others;        /* what there was no room for */
};

static uint32_t
memory_bytes (uint64_t bytes)
{
  if (bytes >= SHARED_BYTES_MAX)
    return SHARED_BYTES_MAX;
  return bytes < SHARED_UNIT ? SHARED_UNIT
                             : (uint32_t)(bytes / SHARED_UNIT * SHARED_UNIT);
}

static int
map_private (struct buffers *b, uint32_t bytes)
{
  b->memory.data = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  b->memory.bytes = bytes;
  return b->memory.data == MAP_FAILED ? -1 : 0;
}

struct buffers *
buffers_new (uint64_t bytes)
{
  struct buffers *b = calloc (1, sizeof *b);
  const uint32_t n = memory_bytes (bytes);

  if (b == NULL)
    return NULL;
  if (bitmap_init (&b->used, n / PIECE) == -1) {
    free (b);
    return NULL;
  }
  if (shared_memory_create (&b->memory, n, &b->fd) == 0)
    return b;
  b->why = strerror (errno);
  if (map_private (b, n) == 0)
    return b;
  bitmap_destroy (&b->used);
  free (b);
  return NULL;
}

void
buffers_free (struct buffers *b)
{
  if (b == NULL)
    return;
  buffers_close_fd (b);
  if (b->memory.slots != NULL)
    shared_memory_unmap (&b->memory);
  else
    munmap (b->memory.data, b->memory.bytes);
  small_free_all (&b->others);
  bitmap_destroy (&b->used);
  free (b);
}

int
buffers_fd (const struct buffers *b, const char **why)
{
  *why = b->why;
  return b->fd;
}

void
buffers_close_fd (struct buffers *b)
{
  if (b->fd != -1)
    close (b->fd);
  b->fd = -1;
}

static uint64_t
pieces_of (size_t bytes)
{
  return (bytes + PIECE - 1) / PIECE;
}

static bool
is_in_memory (const struct buffers *b, const char *p)
{
  return p >= b->memory.data && p < b->memory.data + b->memory.bytes;
}

char *
buffers_take (struct buffers *b, size_t bytes)
{
  const uint64_t n = pieces_of (bytes);
  uint64_t first, end;

  for (first = bitmap_next_clear (&b->used, 0); first < b->used.bits;
       first = bitmap_next_clear (&b->used, end)) {
    end = bitmap_next_set (&b->used, first);
    if (end - first < n)
      continue;
    bitmap_set (&b->used, first, n);
    return b->memory.data + first * PIECE;
  }
  return small_new (&b->others, bytes);
}

void
buffers_give_back (struct buffers *b, char *p, size_t bytes)
{
  if (p == NULL || !is_in_memory (b, p))
    small_free (&b->others, p);
  else
    bitmap_clear (&b->used, (uint64_t)(p - b->memory.data) / PIECE,
                  pieces_of (bytes));
}

struct shared_slot *
buffers_post (struct buffers *b, uint64_t offset, uint32_t length,
              const char *where)
{
  if (b->memory.slots == NULL || !is_in_memory (b, where))
    return NULL;
  return shared_memory_post (&b->memory, offset, length, where);
}
