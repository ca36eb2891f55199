/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into a proxy with LD_PRELOAD: keeps what a loss of power would leave
 * of its files, for a test that kills it and puts that back.
 *
 *   POWER_ROOT=DIR   files below it are looked after
 *   POWER_KEEP=DIR   when one of them is synced it is copied there, under its
 *                    last name; what it held when the sync began is durable,
 * and no more.  Renaming and removing a file are durable at once.
 *
 * And to what befalls the dirty map of migrate-dir, while there are these files
 * in POWER_KEEP:
 *
 *   hold     a sync of it waits; "held" is made when one does
 *   fail     its writes and syncs fail; the file has the number of the error
 *   stay     it cannot be removed, either
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REAL(name, type) ((type)dlsym (RTLD_NEXT, name))

/* So that no copy is put in the place of a later one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A file of POWER_KEEP. */
static const char *
kept (char path[PATH_MAX], const char *name)
{
  const char *dir = getenv ("POWER_KEEP");

  snprintf (path, PATH_MAX, "%s/%s", dir != NULL ? dir : "/nonexistent", name);
  return path;
}

static bool
is_there (const char *name)
{
  char path[PATH_MAX];

  return syscall (SYS_faccessat, AT_FDCWD, kept (path, name), F_OK) == 0;
}

/* The last name of a file that is looked after, or NULL. */
static const char *
name_of (const char *path)
{
  const char *root = getenv ("POWER_ROOT");

  if (root == NULL || strncmp (path, root, strlen (root)) != 0)
    return NULL;
  return strrchr (path, '/') + 1;
}

static const char *
name_of_fd (int fd, char path[PATH_MAX])
{
  char link[64];
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, PATH_MAX - 1);
  if (n == -1)
    return NULL;
  path[n] = '\0';
  return name_of (path);
}

static bool
is_map (const char *name)
{
  return name != NULL && strcmp (name, "dirty-map") == 0;
}

/* Whether the call is to fail, with errno set. */
static bool
fails (const char *name)
{
  char path[PATH_MAX], text[16] = "";
  int fd;

  if (!is_map (name) || !is_there ("fail"))
    return false;
  fd = syscall (SYS_openat, AT_FDCWD, kept (path, "fail"), O_RDONLY);
  if (fd == -1 || read (fd, text, sizeof text - 1) <= 0)
    return false;
  close (fd);
  errno = atoi (text);
  return true;
}

static void
wait_while_held (const char *name)
{
  const struct timespec moment = { .tv_nsec = 5000000 };
  char path[PATH_MAX];

  if (!is_map (name) || !is_there ("hold"))
    return;
  close (syscall (SYS_openat, AT_FDCWD, kept (path, "held"), O_WRONLY | O_CREAT,
                  0600));
  while (is_there ("hold"))
    nanosleep (&moment, NULL);
}

/* The lock must be held. */
static void
copy (const char *from, const char *name)
{
  char path[PATH_MAX], temporary[PATH_MAX], buffer[65536];
  const int in = syscall (SYS_openat, AT_FDCWD, from, O_RDONLY);
  const int out = syscall (SYS_openat, AT_FDCWD, kept (temporary, ".copy"),
                           O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ssize_t n;

  while (in != -1 && out != -1 && (n = read (in, buffer, sizeof buffer)) > 0)
    if (write (out, buffer, n) != n)
      abort ();
  syscall (SYS_renameat, AT_FDCWD, temporary, AT_FDCWD, kept (path, name));
  close (in);
  close (out);
}

typedef int sync_fn (int);

static int
sync_it (const char *call, int fd)
{
  char path[PATH_MAX];
  const char *name = name_of_fd (fd, path);

  wait_while_held (name);
  if (fails (name))
    return -1;
  if (name != NULL) {
    pthread_mutex_lock (&lock);
    copy (path, name);
    pthread_mutex_unlock (&lock);
  }
  return REAL (call, sync_fn *) (fd);
}

int
fsync (int fd)
{
  return sync_it ("fsync", fd);
}

int
fdatasync (int fd)
{
  return sync_it ("fdatasync", fd);
}

typedef ssize_t pwrite_fn (int, const void *, size_t, off_t);

static ssize_t
write_it (const char *call, int fd, const void *buf, size_t n, off_t offset)
{
  char path[PATH_MAX];

  return fails (name_of_fd (fd, path))
           ? -1
           : REAL (call, pwrite_fn *) (fd, buf, n, offset);
}

ssize_t
pwrite (int fd, const void *buf, size_t n, off_t offset)
{
  return write_it ("pwrite", fd, buf, n, offset);
}

ssize_t
pwrite64 (int fd, const void *buf, size_t n, off64_t offset)
{
  return write_it ("pwrite64", fd, buf, n, offset);
}

int
posix_fallocate (int fd, off_t offset, off_t length)
{
  typedef int fallocate_fn (int, off_t, off_t);
  char path[PATH_MAX];

  return fails (name_of_fd (fd, path))
           ? errno
           : REAL ("posix_fallocate", fallocate_fn *) (fd, offset, length);
}

int
rename (const char *from, const char *to)
{
  typedef int rename_fn (const char *, const char *);
  char kept_from[PATH_MAX], kept_to[PATH_MAX];

  if (name_of (from) != NULL && name_of (to) != NULL)
    syscall (SYS_renameat, AT_FDCWD, kept (kept_from, name_of (from)), AT_FDCWD,
             kept (kept_to, name_of (to)));
  return REAL ("rename", rename_fn *) (from, to);
}

int
unlink (const char *path)
{
  typedef int unlink_fn (const char *);
  const char *name = name_of (path);
  char copied[PATH_MAX];

  if (is_map (name) && is_there ("stay")) {
    errno = EROFS;
    return -1;
  }
  if (name != NULL)
    syscall (SYS_unlinkat, AT_FDCWD, kept (copied, name), 0);
  return REAL ("unlink", unlink_fn *) (path);
}
