/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "record.h"
#include "state-file.h"

#define OTHERS_CAN_WRITE (S_IWGRP | S_IWOTH)

/* -1, with *why and errno. */
static int __attribute__ ((format (printf, 3, 4)))
refuse (char **why, int error, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  if (vasprintf (why, fmt, args) == -1)
    *why = NULL;
  va_end (args);
  errno = error;
  return -1;
}

static const char *
kind_name (mode_t mode)
{
  switch (mode & S_IFMT) {
  case S_IFLNK:
    return "a symbolic link";
  case S_IFIFO:
    return "a FIFO";
  case S_IFSOCK:
    return "a socket";
  case S_IFDIR:
    return "a directory";
  case S_IFREG:
    return "a regular file";
  default:
    return "a device";
  }
}

static int
refuse_kind (const struct stat *st, char **why)
{
  return refuse (why, EINVAL,
                 "it is %s and no regular file, so it was not put there by "
                 "nbdkit and is left alone: move it away",
                 kind_name (st->st_mode));
}

/* open (2) has failed: the kind of what is there explains more than its error.
 */
static int
explain_failure (const char *path, char **why)
{
  const int error = errno;
  struct stat st;

  if (error == ENOENT)
    return -1;
  if (lstat (path, &st) == 0 && !S_ISREG (st.st_mode))
    return refuse_kind (&st, why);
  return refuse (why, error, "it cannot be opened: %s%s", strerror (error),
                 error == EACCES ? ": let the user of nbdkit read and write it"
                                 : "");
}

/* The directory that the file is in, to be freed; NULL: no memory. */
static char *
directory_of (const char *path)
{
  const char *slash = strrchr (path, '/');

  return slash == NULL ? strdup (".") : strndup (path, slash - path + 1);
}

/* To whom it belongs; us if that cannot be told. */
static uid_t
directory_owner (const char *path)
{
  CLEANUP_FREE char *dir = directory_of (path);
  struct stat st;

  return dir != NULL && stat (dir, &st) == 0 ? st.st_uid : geteuid ();
}

static bool
is_trusted (uid_t user, uid_t also)
{
  return user == geteuid () || user == 0 || user == also;
}

static int
check_owner_and_mode (const struct stat *st, uid_t also, const char *good_mode,
                      char **why)
{
  if (!is_trusted (st->st_uid, also))
    return refuse (why, EPERM,
                   "it belongs to user %" PRIuMAX ", who is neither its user "
                   "nor root, so it is not believed: give it to the user of "
                   "nbdkit (chown) if what is in it is right, otherwise move "
                   "it away",
                   (uintmax_t)st->st_uid);
  if (S_ISDIR (st->st_mode) && (st->st_mode & S_ISVTX) &&
      (st->st_mode & OTHERS_CAN_WRITE)) /* such as /tmp */
    return refuse (why, EPERM,
                   "it is for everybody (mode %04o): name a directory that is "
                   "for this disk only",
                   (unsigned)st->st_mode & 07777);
  if (st->st_mode & OTHERS_CAN_WRITE)
    return refuse (why, EPERM,
                   "%s can write to it (mode %04o), so it is not believed: "
                   "give it mode %s if what is in it is right, otherwise "
                   "move it away",
                   st->st_mode & S_IWOTH ? "everybody" : "its group",
                   (unsigned)st->st_mode & 07777, good_mode);
  return 0;
}

static int
check_file (int fd, const char *path, struct stat *st, char **why)
{
  if (fstat (fd, st) == -1)
    return refuse (why, errno, "looking at it: %s", strerror (errno));
  if (!S_ISREG (st->st_mode))
    return refuse_kind (st, why);
  return check_owner_and_mode (st, directory_owner (path), "0600", why);
}

static int
close_failed (int fd)
{
  const int error = errno;

  close (fd);
  errno = error;
  return -1;
}

/* Without O_NONBLOCK a FIFO would wait for its other end.  On a regular file it
 * changes nothing.
 */
static int
open_and_check (const char *path, int flags, struct stat *st, char **why)
{
  int fd;

  *why = NULL;
  fd =
    open (path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
  if (fd == -1)
    return explain_failure (path, why);
  return check_file (fd, path, st, why) == -1 ? close_failed (fd) : fd;
}

int
state_file_open (const char *path, int flags, char **why)
{
  struct stat st;

  return open_and_check (path, flags, &st, why);
}

/* Say which file it is: it has another name than the one to be. */
static void
name_file (const char *path, char **why)
{
  CLEANUP_FREE char *text = *why;
  const int error = errno;

  refuse (why, error, "%s: %s", path, text ? text : strerror (error));
}

int
state_file_create (const char *path, char **why)
{
  struct stat st;
  int fd = open_and_check (path, O_RDWR | O_CREAT, &st, why);

  if (fd >= 0 && st.st_size > 0 && ftruncate (fd, 0) == -1)
    fd = close_failed (fd);
  if (fd == -1)
    name_file (path, why);
  return fd;
}

char *
state_file_path (const char *dir, const char *kind, const char *export_name)
{
  CLEANUP_FREE char *state = record_file_name (export_name);
  char *path;

  /* "state" or "state.NAME" */
  if (state == NULL ||
      asprintf (&path, "%s/%s%s", dir, kind, state + strlen ("state")) == -1)
    return NULL;
  return path;
}

char *
state_file_temporary (const char *path)
{
  const char *slash = strrchr (path, '/');
  const int length = slash == NULL ? 0 : (int)(slash - path + 1);
  char *temporary;

  if (asprintf (&temporary, "%.*s" STATE_FILE_NEW "%s", length, path,
                path + length) == -1)
    return NULL;
  return temporary;
}

int
state_file_sync_directory (const char *path)
{
  CLEANUP_FREE char *dir = directory_of (path);
  CLEANUP_CLOSE int fd = -1;

  if (dir != NULL)
    fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd == -1 ? -1 : fsync (fd);
}

int
state_file_check (const char *path, char **why)
{
  const int fd = state_file_open (path, O_RDONLY, why);

  if (fd == -1)
    return errno == ENOENT ? 0 : -1;
  close (fd);
  return 0;
}

int
state_dir_open (const char *path, uid_t also, char **why)
{
  struct stat st;
  int fd;

  *why = NULL;
  fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1 || fstat (fd, &st) == -1) {
    refuse (why, errno, "it cannot be opened: %s", strerror (errno));
    return fd == -1 ? -1 : close_failed (fd);
  }
  if (check_owner_and_mode (&st, also, "0700", why) == -1)
    return close_failed (fd);
  return fd;
}

int
state_file_read (int fd, uint8_t *bytes, size_t count, off_t offset)
{
  while (count > 0) {
    const ssize_t r = pread (fd, bytes, count, offset);

    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0) {
      if (r == 0)
        errno = EIO;
      return -1;
    }
    bytes += r;
    count -= r;
    offset += r;
  }
  return 0;
}

int
state_file_write (int fd, const uint8_t *bytes, size_t count, off_t offset)
{
  while (count > 0) {
    const ssize_t r = pwrite (fd, bytes, count, offset);

    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0) {
      if (r == 0)
        errno = EIO;
      return -1;
    }
    bytes += r;
    count -= r;
    offset += r;
  }
  return 0;
}
