/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls to the system and for memory that fail when a test wants it: the n-th
 * of those that the code makes, once, or from then on all (the linker sends
 * them here, --wrap: tests.mk has the list for each test).
 *
 * Only those of the thread that has armed it fail, so that it is the same call
 * each time; or those of all other threads.
 */

#ifndef NBDMIGRATE_FAILING_CALLS_H
#define NBDMIGRATE_FAILING_CALLS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

static struct {
  pthread_mutex_t lock; /* for what follows, while it is armed */
  bool armed;           /* atomic */
  pthread_t thread;     /* whose calls fail ... */
  bool others;          /* ... or whose do not */
  const char *only;     /* calls of this name; NULL: all */
  unsigned long left;   /* calls before the first that fails */
  bool lasts;
  unsigned long failed; /* atomic */
  const char *first;    /* which it was */
} failing = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline void
failing_arm_calls (const char *only, bool others, unsigned long n, bool lasts)
{
  failing.thread = pthread_self ();
  failing.others = others;
  failing.only = only;
  failing.left = n;
  failing.lasts = lasts;
  failing.first = "none";
  __atomic_store_n (&failing.failed, 0, __ATOMIC_RELEASE);
  __atomic_store_n (&failing.armed, true, __ATOMIC_RELEASE);
}

static inline void
failing_arm (unsigned long n, bool lasts)
{
  failing_arm_calls (NULL, false, n, lasts);
}

/* None fails from the return on. */
static inline void
failing_disarm (void)
{
  pthread_mutex_lock (&failing.lock);
  __atomic_store_n (&failing.armed, false, __ATOMIC_RELEASE);
  pthread_mutex_unlock (&failing.lock);
}

/* The lock is held. */
static bool
is_meant (const char *call)
{
  return __atomic_load_n (&failing.armed, __ATOMIC_RELAXED) &&
         !pthread_equal (pthread_self (), failing.thread) == failing.others &&
         (failing.only == NULL || strcmp (failing.only, call) == 0) &&
         (failing.left == 0 || failing.left-- == 0) &&
         (failing.failed == 0 || failing.lasts);
}

static bool
fails (const char *call, int error)
{
  bool meant;

  if (!__atomic_load_n (&failing.armed, __ATOMIC_ACQUIRE))
    return false;
  pthread_mutex_lock (&failing.lock);
  meant = is_meant (call);
  if (meant && __atomic_fetch_add (&failing.failed, 1, __ATOMIC_RELEASE) == 0)
    failing.first = call;
  pthread_mutex_unlock (&failing.lock);
  if (meant)
    errno = error;
  return meant;
}

#define WRAP(type, call, parameters, arguments, bad, error)                    \
  extern type __real_##call parameters;                                        \
  extern type __wrap_##call parameters;                                        \
  type __wrap_##call parameters                                                \
  {                                                                            \
    return fails (#call, error) ? bad : __real_##call arguments;               \
  }

WRAP (void *, malloc, (size_t n), (n), NULL, ENOMEM)
WRAP (void *, calloc, (size_t n, size_t m), (n, m), NULL, ENOMEM)
WRAP (void *, realloc, (void *p, size_t n), (p, n), NULL, ENOMEM)
WRAP (void *, aligned_alloc, (size_t alignment, size_t n), (alignment, n), NULL,
      ENOMEM)
WRAP (void *, mmap,
      (void *at, size_t n, int protection, int flags, int fd, off_t offset),
      (at, n, protection, flags, fd, offset), MAP_FAILED, ENOMEM)
WRAP (void *, reallocarray, (void *p, size_t n, size_t m), (p, n, m), NULL,
      ENOMEM)
WRAP (char *, strdup, (const char *s), (s), NULL, ENOMEM)
WRAP (char *, strndup, (const char *s, size_t n), (s, n), NULL, ENOMEM)
WRAP (int, vasprintf, (char **s, const char *format, va_list args),
      (s, format, args), -1, ENOMEM)
WRAP (FILE *, open_memstream, (char **s, size_t *n), (s, n), NULL, ENOMEM)

extern int __wrap_asprintf (char **s, const char *format, ...);
int
__wrap_asprintf (char **s, const char *format, ...)
{
  va_list args;
  int n;

  if (fails ("asprintf", ENOMEM))
    return -1;
  va_start (args, format);
  n = __real_vasprintf (s, format, args);
  va_end (args);
  return n;
}

/* What the two are with _FORTIFY_SOURCE, as in the packages. */
extern int __wrap___vasprintf_chk (char **s, int flag, const char *format,
                                   va_list args);
int
__wrap___vasprintf_chk (char **s, int flag, const char *format, va_list args)
{
  (void)flag;
  return fails ("vasprintf", ENOMEM) ? -1 : __real_vasprintf (s, format, args);
}

extern int __wrap___asprintf_chk (char **s, int flag, const char *format, ...);
int
__wrap___asprintf_chk (char **s, int flag, const char *format, ...)
{
  va_list args;
  int n;

  (void)flag;
  if (fails ("asprintf", ENOMEM))
    return -1;
  va_start (args, format);
  n = __real_vasprintf (s, format, args);
  va_end (args);
  return n;
}

WRAP (ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at),
      (fd, p, n, at), -1, ENOSPC)
WRAP (ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), -1,
      EIO)
WRAP (int, fsync, (int fd), (fd), -1, EIO)
WRAP (int, fdatasync, (int fd), (fd), -1, EIO)
WRAP (int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), ENOSPC,
      ENOSPC)
WRAP (int, ftruncate, (int fd, off_t n), (fd, n), -1, ENOSPC)
WRAP (int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC)
WRAP (int, unlink, (const char *path), (path), -1, EIO)
WRAP (int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags),
      -1, EIO)
WRAP (int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC)
WRAP (int, fstat, (int fd, struct stat *st), (fd, st), -1, EIO)
WRAP (int, stat, (const char *path, struct stat *st), (path, st), -1, EIO)
WRAP (int, lstat, (const char *path, struct stat *st), (path, st), -1, EIO)
WRAP (int, fstatat, (int fd, const char *path, struct stat *st, int flags),
      (fd, path, st, flags), -1, EIO)
WRAP (int, faccessat, (int fd, const char *path, int mode, int flags),
      (fd, path, mode, flags), -1, EIO)
WRAP (int, fchmod, (int fd, mode_t mode), (fd, mode), -1, EPERM)
WRAP (int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group), -1,
      EPERM)
WRAP (int, fchownat,
      (int fd, const char *path, uid_t user, gid_t group, int flags),
      (fd, path, user, group, flags), -1, EPERM)
WRAP (int, flock, (int fd, int how), (fd, how), -1, ENOLCK)
WRAP (DIR *, fdopendir, (int fd), (fd), NULL, ENOMEM)
WRAP (struct dirent *, readdir, (DIR * dir), (dir), NULL, EIO)
WRAP (FILE *, fdopen, (int fd, const char *mode), (fd, mode), NULL, ENOMEM)
WRAP (ssize_t, __getdelim, (char **line, size_t *n, int c, FILE *f),
      (line, n, c, f), -1, EIO)
WRAP (ssize_t, getline, (char **line, size_t *n, FILE *f), (line, n, f), -1,
      EIO)
WRAP (int, fflush, (FILE * f), (f), EOF, ENOSPC)
WRAP (int, socket, (int domain, int type, int protocol),
      (domain, type, protocol), -1, EMFILE)
WRAP (int, bind, (int fd, const struct sockaddr *address, socklen_t n),
      (fd, address, n), -1, EADDRINUSE)
WRAP (int, listen, (int fd, int n), (fd, n), -1, EADDRINUSE)
WRAP (int, gnutls_hash_fast,
      (gnutls_digest_algorithm_t algorithm, const void *p, size_t n,
       void *digest),
      (algorithm, p, n, digest), GNUTLS_E_MEMORY_ERROR, ENOMEM)
WRAP (int, gnutls_hash_init,
      (gnutls_hash_hd_t * hash, gnutls_digest_algorithm_t algorithm),
      (hash, algorithm), GNUTLS_E_MEMORY_ERROR, ENOMEM)
WRAP (int, gnutls_hash, (gnutls_hash_hd_t hash, const void *p, size_t n),
      (hash, p, n), GNUTLS_E_MEMORY_ERROR, ENOMEM)

WRAP (int, pthread_create,
      (pthread_t * thread, const pthread_attr_t *attributes,
       void *(*run) (void *), void *opaque),
      (thread, attributes, run, opaque), EAGAIN, EAGAIN)

extern int __real_fcntl (int fd, int command, ...);
extern int __wrap_fcntl (int fd, int command, ...);
int
__wrap_fcntl (int fd, int command, ...)
{
  va_list args;
  long argument;

  if (fails ("fcntl", EMFILE))
    return -1;
  va_start (args, command);
  argument = va_arg (args, long);
  va_end (args);
  return __real_fcntl (fd, command, argument);
}

extern int __real_fclose (FILE *f);
extern int __wrap_fclose (FILE *f);
int
__wrap_fclose (FILE *f)
{
  const bool failed = fails ("fclose", ENOSPC);
  const int error = errno, r = __real_fclose (f);

  if (!failed)
    return r;
  errno = error;
  return EOF;
}

extern int __real_open (const char *path, int flags, ...);
extern int __wrap_open (const char *path, int flags, ...);
int
__wrap_open (const char *path, int flags, ...)
{
  va_list args;
  mode_t mode;

  if (fails ("open", EMFILE))
    return -1;
  va_start (args, flags);
  mode = flags & O_CREAT ? va_arg (args, mode_t) : 0;
  va_end (args);
  return __real_open (path, flags, mode);
}

extern int __real_openat (int fd, const char *path, int flags, ...);
extern int __wrap_openat (int fd, const char *path, int flags, ...);
int
__wrap_openat (int fd, const char *path, int flags, ...)
{
  if (fails ("openat", EMFILE))
    return -1;
  return __real_openat (fd, path, flags); /* none is made */
}

#endif /* NBDMIGRATE_FAILING_CALLS_H */
