/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "owed-file.h"
#include "state-file.h"

#define OWED "nbdmigrate owed 1: error\n"
#define NOTHING "nbdmigrate owed 1: none \n"
#define TEXT_BYTES (sizeof OWED - 1)

_Static_assert(sizeof OWED == sizeof NOTHING, "written over each other");

bool
owed_file_read (const char *path, char **why)
{
  CLEANUP_CLOSE int fd = state_file_open (path, O_RDONLY, why);
  char text[TEXT_BYTES];

  if (fd == -1)
    return errno != ENOENT;
  if (state_file_read (fd, (uint8_t *)text, sizeof text, 0) == 0) {
    if (memcmp (text, NOTHING, sizeof text) == 0)
      return false;
    if (memcmp (text, OWED, sizeof text) == 0)
      return true;
  }
  if (asprintf (why, "it cannot be understood: it was damaged, or a newer "
                     "version wrote it") == -1)
    *why = NULL;
  return true;
}

int
owed_file_write (const char *path, bool owed, char **why)
{
  CLEANUP_CLOSE int fd = state_file_open (path, O_RDWR | O_CREAT, why);

  if (fd == -1)
    return -1;
  if (state_file_write (fd, (const uint8_t *)(owed ? OWED : NOTHING),
                        TEXT_BYTES, 0) == -1 ||
      fsync (fd) == -1)
    return -1;
  return state_file_sync_directory (path);
}

int
owed_file_make (const char *path, char **why)
{
  const int fd = state_file_open (path, O_RDONLY, why);

  if (fd == -1)
    return errno == ENOENT ? owed_file_write (path, false, why) : -1;
  close (fd);
  return 0;
}
