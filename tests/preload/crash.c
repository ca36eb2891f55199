/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into a proxy with LD_PRELOAD: stops it at a chosen step of its work on
 * the state file, the history of destinations, the kept writes, or all of them.
 *
 * A step is one call that changes the file or makes it durable: its creation,
 * truncation, write, sync, renaming, removal, and the sync of the directory.
 * They are counted from 1.
 *
 *   CRASH_DIR=DIR    migrate-dir, as an absolute path
 *   CRASH_FILES=KIND...
 *                    "state", "history", "kept"; only the first one if not set
 *   CRASH_AT=N       the step; none: only count
 *   CRASH_TO=N       the last one, if they are several
 *   CRASH_HOW=before SIGKILL instead of the step
 *             torn   SIGKILL after half of a write (before, for other steps)
 *             after  SIGKILL when the step has been done
 *             fail   the step fails with ENOSPC, and is not done
 *             hang   the step is not done before the file CRASH_GO exists
 *             slow   the step is done 100 ms later
 *   CRASH_ARM=FILE   steps are neither counted nor stopped before it exists
 *   CRASH_LOG=FILE   gets a line for each step, "N NAME", before it is done
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OWNER_RECORD_BYTES (128 * 1024) /* what follows is another matter */

static unsigned steps; /* so far; the calls of one file are not concurrent */

#define REAL(name, type) ((type)dlsym (RTLD_NEXT, name))

static unsigned
number (const char *name)
{
  const char *text = getenv (name);

  return text != NULL ? (unsigned)atoi (text) : 0;
}

/* Whether the file that the variable names is there; true if it names none. */
static bool
is_there (const char *name)
{
  const char *path = getenv (name);

  return path == NULL || access (path, F_OK) == 0;
}

static bool
armed (void)
{
  return is_there ("CRASH_ARM");
}

static bool
how (const char *name)
{
  const char *text = getenv ("CRASH_HOW");

  return text != NULL && strcmp (text, name) == 0;
}

static bool
chosen (void)
{
  const unsigned from = number ("CRASH_AT");
  const unsigned to = number ("CRASH_TO") ? number ("CRASH_TO") : from;

  return from != 0 && steps >= from && steps <= to && armed ();
}

static void
die_now (void)
{
  kill (getpid (), SIGKILL);
}

/* KIND* or .new-KIND*. */
static bool
is_of_our_kind (const char *name)
{
  static const char *const kinds[] = { "state", "history", "kept" };
  const char *files = getenv ("CRASH_FILES");

  if (files == NULL)
    files = kinds[0];
  if (strncmp (name, ".new-", 5) == 0)
    name += 5;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strncmp (name, kinds[i], strlen (kinds[i])) == 0)
      return strstr (files, kinds[i]) != NULL;
  return false;
}

/* DIR itself, or such a file in it. */
static bool
is_ours (const char *path)
{
  const char *dir = getenv ("CRASH_DIR");
  const size_t length = dir != NULL ? strlen (dir) : 0;
  const char *rest = path + length;

  if (length == 0 || strncmp (path, dir, length) != 0)
    return false;
  return *rest == '\0' || (*rest == '/' && is_of_our_kind (rest + 1));
}

static bool
is_our_fd (int fd)
{
  char link[64], path[PATH_MAX];
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, sizeof path - 1);
  if (n == -1)
    return false;
  path[n] = '\0';
  return is_ours (path);
}

static void
note (const char *name)
{
  const char *path = getenv ("CRASH_LOG");
  FILE *f = path != NULL ? fopen (path, "a") : NULL;

  if (f == NULL)
    return;
  fprintf (f, "%u %s\n", steps, name);
  fclose (f);
}

static void
wait_for_go (void)
{
  const struct timespec moment = { .tv_nsec = 5000000 };

  while (!is_there ("CRASH_GO"))
    nanosleep (&moment, NULL);
}

/* False: the step must fail. */
static bool
before (const char *name)
{
  if (!armed ())
    return true;
  ++steps;
  note (name);
  if (!chosen ())
    return true;
  wait_for_go ();
  if (how ("slow"))
    nanosleep (&(struct timespec){ .tv_nsec = 100000000 }, NULL);
  if (how ("before") || how ("torn"))
    die_now ();
  if (!how ("fail"))
    return true;
  errno = ENOSPC;
  return false;
}

/* Whether the step that comes now is to be done by half. */
static bool
half_only (void)
{
  return how ("torn") && number ("CRASH_AT") == steps + 1 && armed ();
}

static void
after (void)
{
  if (chosen () && how ("after"))
    die_now ();
}

/* ---- the calls --------------------------------------------------------- */

typedef int open_fn (const char *, int, ...);

static int
open_step (const char *name, const char *path, int flags, mode_t mode)
{
  open_fn *const real = REAL (name, open_fn *);
  int fd;

  if (!(flags & O_CREAT) || !is_ours (path))
    return real (path, flags, mode);
  if (!before ("create"))
    return -1;
  fd = real (path, flags, mode);
  after ();
  return fd;
}

static mode_t
get_mode (int flags, va_list args)
{
  return flags & (O_CREAT | O_TMPFILE) ? va_arg (args, mode_t) : 0;
}

int
open (const char *path, int flags, ...)
{
  va_list args;
  mode_t mode;

  va_start (args, flags);
  mode = get_mode (flags, args);
  va_end (args);
  return open_step ("open", path, flags, mode);
}

int
open64 (const char *path, int flags, ...)
{
  va_list args;
  mode_t mode;

  va_start (args, flags);
  mode = get_mode (flags, args);
  va_end (args);
  return open_step ("open64", path, flags, mode);
}

typedef ssize_t pwrite_fn (int, const void *, size_t, off_t);

static ssize_t
pwrite_step (const char *name, int fd, const void *buf, size_t n, off_t offset)
{
  pwrite_fn *const real = REAL (name, pwrite_fn *);
  ssize_t r;

  if (offset >= OWNER_RECORD_BYTES || !is_our_fd (fd))
    return real (fd, buf, n, offset);
  if (half_only ())
    real (fd, buf, n / 2, offset);
  if (!before ("write"))
    return -1;
  r = real (fd, buf, n, offset);
  after ();
  return r;
}

ssize_t
pwrite (int fd, const void *buf, size_t n, off_t offset)
{
  return pwrite_step ("pwrite", fd, buf, n, offset);
}

ssize_t
pwrite64 (int fd, const void *buf, size_t n, off64_t offset)
{
  return pwrite_step ("pwrite64", fd, buf, n, offset);
}

typedef int truncate_fn (int, off_t);

static int
truncate_step (const char *name, int fd, off_t length)
{
  truncate_fn *const real = REAL (name, truncate_fn *);
  int r;

  if (!is_our_fd (fd))
    return real (fd, length);
  if (!before ("truncate"))
    return -1;
  r = real (fd, length);
  after ();
  return r;
}

int
ftruncate (int fd, off_t length)
{
  return truncate_step ("ftruncate", fd, length);
}

int
ftruncate64 (int fd, off64_t length)
{
  return truncate_step ("ftruncate64", fd, length);
}

/* The history is written through stdio, all at once. */

typedef int fflush_fn (FILE *);

static void
flush_half (FILE *file, fflush_fn *real)
{
  const int fd = fileno (file);

  real (file);
  REAL ("ftruncate", truncate_fn *) (fd, lseek (fd, 0, SEEK_END) / 2);
}

int
fflush (FILE *file)
{
  fflush_fn *const real = REAL ("fflush", fflush_fn *);
  int r;

  if (file == NULL || !is_our_fd (fileno (file)))
    return real (file);
  if (half_only ())
    flush_half (file, real);
  if (!before ("write"))
    return EOF;
  r = real (file);
  after ();
  return r;
}

typedef int sync_fn (int);

static int
sync_step (const char *name, int fd)
{
  sync_fn *const real = REAL (name, sync_fn *);
  int r;

  if (!is_our_fd (fd))
    return real (fd);
  if (!before ("sync"))
    return -1;
  r = real (fd);
  after ();
  return r;
}

int
fsync (int fd)
{
  return sync_step ("fsync", fd);
}

int
fdatasync (int fd)
{
  return sync_step ("fdatasync", fd);
}

typedef int rename_fn (const char *, const char *);

int
rename (const char *from, const char *to)
{
  rename_fn *const real = REAL ("rename", rename_fn *);
  int r;

  if (!is_ours (to))
    return real (from, to);
  if (!before ("rename"))
    return -1;
  r = real (from, to);
  after ();
  return r;
}

typedef int unlink_fn (const char *);

int
unlink (const char *path)
{
  unlink_fn *const real = REAL ("unlink", unlink_fn *);
  int r;

  if (!is_ours (path))
    return real (path);
  if (!before ("remove"))
    return -1;
  r = real (path);
  after ();
  return r;
}
