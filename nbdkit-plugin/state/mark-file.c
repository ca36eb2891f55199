/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

/* By these lines a mark is known to be of this proxy; the caller frees them.
 * One that does not know the origin of its records takes any mark of its
 * directory for its own: it was told by reopen where the disk is.
 */
static char *
proxy_lines (const struct mark *m)
{
  char record[64] = "", *lines;

  if (m->origin != 0)
    snprintf (record, sizeof record,
              "Its records there began as %016" PRIx64 ".\n", m->origin);
  return asprintf (&lines, "\nIts proxy is the nbdkit with migrate-dir=%s.\n%s",
                   m->dir, record) == -1
           ? NULL
           : lines;
}

static char *
mark_text (const struct mark *m, const char *lines)
{
  const char *how =
    m->handed_over
      ? "'nbdmigrate reopen PROXY owner=source', with the URI of the proxy, "
        "takes it\nback if nobody has used it there"
      : "'nbdmigrate PROXY local:', with the URI of the proxy, brings it back "
        "while it runs";
  char *text;

  if (asprintf (&text,
                HEADING "\n"
                        "The disk is at %s now.\n"
                        "Do not use the image that this file was put beside: "
                        "it lacks what was written since.\n"
                        "%s"
                        "'nbdmigrate status %s' tells where the disk is, and\n"
                        "%s.\n"
                        "This file goes away when the disk is here again.\n",
                m->place, lines, m->dir, how) == -1)
    return NULL;
  return text;
}

/* Up to so many bytes, however many calls that takes; -1 with errno. */
static ssize_t
read_all (int fd, char *text, size_t bytes)
{
  size_t n = 0;
  ssize_t r = 1;

  while (n < bytes && r > 0) {
    r = pread (fd, text + n, bytes - n, n);
    n += r > 0 ? r : 0;
  }
  return r == -1 ? -1 : (ssize_t)n;
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
  n = read_all (fd, text, MARK_MAX);
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

/* A file that is not whole yet; -1 with *why. */
static int
write_new (const char *temporary, const char *text, bool sync, char **why)
{
  CLEANUP_CLOSE int fd = state_file_create (temporary, why);

  if (fd == -1)
    return -1;
  if (state_file_write (fd, (const uint8_t *)text, strlen (text), 0) == -1 ||
      fchmod (fd, MARK_MODE) == -1 || (sync && fsync (fd) == -1)) {
    const int error = errno;

    unlink (temporary);
    errno = error;
    return -1;
  }
  return 0;
}

/* Whole or not at all. */
static int
write_mark (const char *path, const char *text, bool sync, char **why)
{
  CLEANUP_FREE char *temporary = state_file_temporary (path);

  if (temporary == NULL || write_new (temporary, text, sync, why) == -1)
    return -1;
  return rename (temporary, path);
}

static int
leave_alone (char **why)
{
  if (asprintf (why,
                "what is there was written for another migrate-dir, or before "
                "this one was emptied, and it is left alone: is the image old? "
                "Otherwise remove it") == -1)
    *why = NULL;
  errno = EEXIST;
  return -1;
}

int
mark_file_set (const char *path, const struct mark *m, bool sync, char **why)
{
  CLEANUP_FREE char *now = malloc (MARK_MAX + 1);
  CLEANUP_FREE char *lines = proxy_lines (m);
  CLEANUP_FREE char *text = NULL;
  ssize_t n;
  int r;

  *why = NULL;
  if (now == NULL || lines == NULL)
    return -1;
  if (m->place != NULL && (text = mark_text (m, lines)) == NULL)
    return -1;
  n = read_mark (path, now, why);
  if (n == -1) /* no mark is to be there, and what is there is none */
    return text == NULL && errno == EEXIST ? 0 : -1;
  if (n > 0 && strstr (now, lines) == NULL)
    return leave_alone (why);
  if (text == NULL ? n == 0 : n > 0 && strcmp (now, text) == 0)
    return 0;
  r = text == NULL ? unlink (path) : write_mark (path, text, sync, why);
  if (r == -1)
    return -1;
  return sync && state_file_sync_directory (path) == -1 ? -1 : 1;
}
