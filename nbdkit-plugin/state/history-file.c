/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "history-file.h"
#include "state-file.h"

#define HEADING "nbdmigrate destinations 1\n"
#define ENDING "end\n"

/* ---- reading ----------------------------------------------------------- */

static int
digit (char c)
{
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                : -1;
}

/* A line with its newline; the bytes replace the digits in it. */
static bool
read_name (struct history *h, char *line, size_t length)
{
  const size_t n = (length - 1) / 2;

  if (n == 0 || length % 2 == 0)
    return false;
  for (size_t i = 0; i < n; i++) {
    const int high = digit (line[2 * i]), low = digit (line[2 * i + 1]);

    if (high == -1 || low == -1)
      return false;
    line[i] = (char)(high << 4 | low);
  }
  return history_add_earlier (h, line, n);
}

static bool
read_names (struct history *h, FILE *file)
{
  CLEANUP_FREE char *line = NULL;
  size_t allocated = 0;
  ssize_t length;

  if (getline (&line, &allocated, file) == -1 || strcmp (line, HEADING) != 0)
    return false;
  while ((length = getline (&line, &allocated, file)) > 0) {
    if (strcmp (line, ENDING) == 0)
      return true;
    if (!read_name (h, line, (size_t)length))
      return false;
  }
  return false;
}

void
history_read (struct history *h, const char *path, char **why)
{
  const int fd = state_file_open (path, O_RDONLY, why);
  FILE *file = fd == -1 ? NULL : fdopen (fd, "r");

  h->complete = file != NULL && read_names (h, file);
  if (file != NULL)
    fclose (file);
  else if (fd != -1)
    close (fd);
}

/* ---- writing ----------------------------------------------------------- */

static void
write_names (const struct history_names *names, FILE *file)
{
  for (size_t i = 0; i < names->n; i++) {
    const uint8_t *bytes = names->v[i].bytes;

    for (size_t k = 0; k < names->v[i].length; k++)
      fprintf (file, "%02x", bytes[k]);
    putc ('\n', file);
  }
}

/* The descriptor is closed. */
static int
fill (const struct history *h, int fd, bool sync)
{
  FILE *file = fdopen (fd, "w");
  bool failed;

  if (file == NULL) {
    close (fd);
    return -1;
  }
  fputs (HEADING, file);
  write_names (&h->earlier, file);
  write_names (&h->latest, file);
  fputs (ENDING, file);
  failed = fflush (file) != 0 || ferror (file) || (sync && fsync (fd) == -1);
  return fclose (file) != 0 || failed ? -1 : 0;
}

static int
replace (const struct history *h, const char *path, bool sync, char **why)
{
  CLEANUP_FREE char *temporary = state_file_temporary (path);
  int fd;

  if (temporary == NULL)
    return -1;
  fd = state_file_create (temporary, why);
  if (fd == -1 || fill (h, fd, sync) == -1)
    return -1;
  return rename (temporary, path);
}

int
history_write (const struct history *h, const char *path, bool sync, char **why)
{
  int r;

  if (state_file_check (path, why) == -1)
    return -1;
  r = h->complete ? replace (h, path, sync, why) : unlink (path);
  if (r == -1 && (h->complete || errno != ENOENT))
    return -1;
  return sync ? state_file_sync_directory (path) : 0;
}
