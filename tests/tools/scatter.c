/* SPDX-License-Identifier: BSD-3-Clause */
/* scatter FILE COUNT LENGTH SEED: write COUNT pieces of LENGTH bytes into a
 * file, spread evenly over it, each at a random multiple of 4096 within its
 * share; pieces that fill their shares make a dense disk.  The same arguments
 * write the same bytes, whatever the file's size.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

#define BLOCK 4096

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "scatter: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

/* xorshift64*, by Marsaglia and Vigna; the state must not be 0. */
static uint64_t
next_random (uint64_t *state)
{
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C (0x2545f4914f6cdd1d);
}

static void
write_piece (int fd, uint64_t offset, uint64_t length, uint64_t *state)
{
  static uint64_t buf[BLOCK / sizeof (uint64_t)];

  while (length > 0) {
    const size_t n = length < BLOCK ? length : BLOCK;

    for (size_t i = 0; i < sizeof buf / sizeof buf[0]; i++)
      buf[i] = next_random (state);
    if (pwrite (fd, buf, n, (off_t)offset) != (ssize_t)n)
      die ("pwrite");
    offset += n;
    length -= n;
  }
}

int
main (int argc, char *argv[])
{
  CLEANUP_CLOSE int fd = argc == 5 ? open (argv[1], O_WRONLY | O_CLOEXEC) : -1;
  uint64_t count, length, share, content, place;
  struct stat st;

  if (argc != 5) {
    fprintf (stderr, "usage: scatter FILE COUNT LENGTH SEED\n");
    return 2;
  }
  if (fd == -1 || fstat (fd, &st) == -1)
    die (argv[1]);
  count = strtoull (argv[2], NULL, 10);
  length = strtoull (argv[3], NULL, 10);
  content = place = strtoull (argv[4], NULL, 10) + 1;
  share = count > 0 ? (uint64_t)st.st_size / count : 0;
  if (share < length) {
    errno = ENOSPC;
    die (argv[1]);
  }
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t room = (share - length) / BLOCK;
    const uint64_t offset =
      i * (share / BLOCK * BLOCK) +
      (room > 0 ? next_random (&place) % room * BLOCK : 0);

    write_piece (fd, offset, length, &content);
  }
  return 0;
}
