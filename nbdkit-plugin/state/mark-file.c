/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "mark-file.h"
#include "state-file.h"

#define HEADING "nbdmigrate mark 1: this image is old\n"
#define HEADING_BYTES (sizeof HEADING - 1)

/* A heading, two URIs or paths, and some words. */
#define MARK_MAX 16384

/* Whoever starts guests may be another user. */
#define MARK_MODE 0644

static char *
mark_text (const char *place, const char *dir)
{
  char *text;

  if (asprintf (&text,
                HEADING "\n"
                        "The disk is at %s now.\n"
                        "Do not use the image that this file was put beside: "
                        "it lacks what was written since.\n"
                        "\n"
                        "Its proxy is the nbdkit with migrate-dir=%s.\n"
                        "'nbdmigrate status %s' tells where the disk is, and\n"
                        "'nbdmigrate SOURCE local:', with the URI of the proxy,"
                        " brings it back while it runs.\n"
                        "This file goes away when the disk is here again.\n",
                place, dir, dir) == -1)
    return NULL;
  return text;
}

/* What is there, with a 0 at its end.  Its length; 0: no file; -1 with errno
 * and *why.
 */
static ssize_t
read_mark (const char *path, char text[MARK_MAX + 1], char **why)
{
  CLEANUP_CLOSE int fd = state_file_open (path, O_RDONLY, why);
  ssize_t n;

  if (fd == -1)
    return errno == ENOENT ? 0 : -1;
  n = pread (fd, text, MARK_MAX, 0);
  if (n == -1)
    return -1;
  text[n] = '\0';
  if ((size_t)n < HEADING_BYTES || memcmp (text, HEADING, HEADING_BYTES) != 0) {
    errno = EEXIST;
    if (asprintf (why,
                  "there is a file that is no mark of nbdmigrate, and it "
                  "is left alone: name another one, which is not there") == -1)
      *why = NULL;
    return -1;
  }
  return n;
}

int
mark_file_check (const char *path, char **why)
{
  CLEANUP_FREE char *text = malloc (MARK_MAX + 1);

  *why = NULL;
  return text == NULL || read_mark (path, text, why) == -1 ? -1 : 0;
}

/* Whole or not at all. */
static int
write_mark (const char *path, const char *text, bool sync, char **why)
{
  CLEANUP_FREE char *temporary = state_file_temporary (path);
  CLEANUP_CLOSE int fd = -1;

  if (temporary == NULL)
    return -1;
  fd = state_file_create (temporary, why);
  if (fd == -1)
    return -1;
  if (state_file_write (fd, (const uint8_t *)text, strlen (text), 0) == -1 ||
      fchmod (fd, MARK_MODE) == -1 || (sync && fsync (fd) == -1))
    return -1;
  return rename (temporary, path);
}

int
mark_file_set (const char *path, const char *place, const char *dir, bool sync,
               char **why)
{
  CLEANUP_FREE char *now = malloc (MARK_MAX + 1);
  CLEANUP_FREE char *text = place == NULL ? NULL : mark_text (place, dir);
  ssize_t n;
  int r;

  *why = NULL;
  if (now == NULL || (place != NULL && text == NULL))
    return -1;
  n = read_mark (path, now, why);
  if (n == -1)
    return -1;
  if (place == NULL ? n == 0 : n > 0 && strcmp (now, text) == 0)
    return 0;
  r = place == NULL ? unlink (path) : write_mark (path, text, sync, why);
  if (r == -1)
    return -1;
  return sync && state_file_sync_directory (path) == -1 ? -1 : 1;
}
