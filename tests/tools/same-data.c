/* SPDX-License-Identifier: BSD-3-Clause */
/* same-data FILE FILE: exits with 0 if both files are as long and hold the same
 * bytes, 1 if not, 2 if that cannot be told.
 *
 * As cmp, for files of terabytes that are nearly all holes: only what is data
 * in one of them is read.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

#define STEP 1048576

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "same-data: %s: %s\n", what, strerror (errno));
  exit (2);
}

static off_t
size_of (int fd)
{
  struct stat st;

  if (fstat (fd, &st) == -1)
    die ("fstat");
  return st.st_size;
}

/* Where data begins, at or after this offset; the size if nowhere. */
static off_t
next_data (int fd, off_t offset, off_t size)
{
  const off_t data = lseek (fd, offset, SEEK_DATA);

  if (data == -1 && errno != ENXIO)
    die ("lseek");
  return data == -1 ? size : data;
}

static void
read_all (int fd, char *buf, size_t count, off_t offset)
{
  while (count > 0) {
    const ssize_t n = pread (fd, buf, count, offset);

    if (n <= 0)
      die ("pread");
    buf += n;
    count -= (size_t)n;
    offset += n;
  }
}

static bool
same (int a, int b, off_t size)
{
  static char bytes_a[STEP], bytes_b[STEP];
  off_t offset = 0;

  for (;;) {
    const off_t in_a = next_data (a, offset, size);
    const off_t in_b = next_data (b, offset, size);
    size_t n = STEP;

    offset = in_a < in_b ? in_a : in_b;
    if (offset >= size)
      return true;
    if ((off_t)n > size - offset)
      n = (size_t)(size - offset);
    read_all (a, bytes_a, n, offset);
    read_all (b, bytes_b, n, offset);
    if (memcmp (bytes_a, bytes_b, n) != 0) {
      fprintf (stderr, "same-data: the files differ at or after byte %lld\n",
               (long long)offset);
      return false;
    }
    offset += (off_t)n;
  }
}

int
main (int argc, char *argv[])
{
  CLEANUP_CLOSE int a = argc == 3 ? open (argv[1], O_RDONLY | O_CLOEXEC) : -1;
  CLEANUP_CLOSE int b = argc == 3 ? open (argv[2], O_RDONLY | O_CLOEXEC) : -1;

  if (argc != 3) {
    fprintf (stderr, "usage: same-data FILE FILE\n");
    return 2;
  }
  if (a == -1 || b == -1)
    die (a == -1 ? argv[1] : argv[2]);
  if (size_of (a) != size_of (b)) {
    fprintf (stderr, "same-data: the files are not as long as each other\n");
    return 1;
  }
  return same (a, b, size_of (a)) ? 0 : 1;
}
