/* SPDX-License-Identifier: BSD-3-Clause */
/* What blocks of a disk must hold: see stamps.h. */

#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "stamps.h"

struct stamp {
  uint64_t offset; /* its complement: no block is all zeroes */
  uint64_t run;
  uint64_t count; /* of writes in that run; 0: none */
};

static uint64_t this_run, nr_blocks;
static uint32_t *counts; /* by block */

/* The rest of a block: not zero, and nothing that could be compressed. */
static unsigned char rest[STAMPED];

static void
fill_rest (void)
{
  uint64_t x = UINT64_C (0x9e3779b97f4a7c15);

  for (size_t i = 0; i < sizeof rest; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    rest[i] = (unsigned char)(x >> 56);
  }
}

int
stamps_begin (uint64_t disk_bytes, uint64_t run)
{
  fill_rest ();
  this_run = run;
  nr_blocks = disk_bytes / STAMPED;
  free (counts);
  counts = calloc (nr_blocks > 0 ? nr_blocks : 1, sizeof *counts);
  return counts == NULL ? -1 : 0;
}

static void
put_stamp (void *buf, uint64_t offset, uint64_t run, uint64_t count)
{
  const struct stamp s = { .offset = ~offset, .run = run, .count = count };

  memcpy (buf, rest, STAMPED);
  memcpy (buf, &s, sizeof s);
}

void
stamps_next (uint64_t offset, void *buf, uint64_t bytes)
{
  assert (offset % STAMPED == 0 && bytes % STAMPED == 0);
  for (uint64_t at = 0; at < bytes; at += STAMPED) {
    uint32_t *count = &counts[(offset + at) / STAMPED];

    put_stamp ((char *)buf + at, offset + at, this_run, ++*count);
  }
}

int
stamps_fill (const char *path)
{
  CLEANUP_CLOSE int fd = open (path, O_WRONLY | O_CLOEXEC);
  struct stat st;
  char block[STAMPED];

  if (fd == -1 || fstat (fd, &st) == -1)
    return -1;
  fill_rest ();
  for (off_t at = 0; at + STAMPED <= st.st_size; at += STAMPED) {
    put_stamp (block, (uint64_t)at, 0, 0);
    if (pwrite (fd, block, STAMPED, at) != STAMPED)
      return -1;
  }
  return 0;
}

/* Where this run has not written, an earlier one may have. */
static bool
is_right (const char *block, uint64_t i)
{
  struct stamp s;

  memcpy (&s, block, sizeof s);
  return s.offset == ~(i * STAMPED) &&
         (counts[i] == 0 ? s.run != this_run
                         : s.run == this_run && s.count == counts[i]) &&
         memcmp (block + sizeof s, rest + sizeof s, STAMPED - sizeof s) == 0;
}

int64_t
stamps_wrong (const char *path)
{
  CLEANUP_CLOSE int fd = open (path, O_RDONLY | O_CLOEXEC);
  const size_t size = nr_blocks * STAMPED;
  struct stat st;
  const char *disk;
  int64_t wrong = 0;

  if (fd == -1 || fstat (fd, &st) == -1 || (uint64_t)st.st_size < size)
    return -1;
  disk = mmap (NULL, size, PROT_READ, MAP_SHARED, fd, 0);
  if (disk == MAP_FAILED)
    return -1;
  for (uint64_t i = 0; i < nr_blocks; i++)
    wrong += !is_right (disk + i * STAMPED, i);
  munmap ((void *)disk, size);
  return wrong;
}
