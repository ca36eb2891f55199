/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into proxies and nbdmigrate with LD_PRELOAD: one call of their own
 * code to the system or to a library fails, once.
 *
 * Whose call it is, its return address tells: it lies in our filter or in our
 * program.  What nbdkit, libnbd or the C library call is let pass.
 *
 * Which call, is said by where it comes from: the innermost frames of our own
 * code on the stack, hashed, and how many times that has come from there.  That
 * is the same in each run, as the number of a call among all is not.
 *
 *   CALLS_TABLE=FILE   where the processes of a run count together; all of its
 *                      bytes are zero first (TABLE_BYTES)
 *   CALLS_LOG=FILE     gets a line for each call that could fail:
 *                        seen PLACE N CALL FRAME,FRAME...
 *                      of each place only the calls number 1, 2, 4, 8, ..., but
 *                      all with CALLS_EVERY=1; and for the one that does fail:
 *                        fail PLACE N CALL ERRNO FRAME,FRAME... TEXT
 *                      A frame is OBJECT+OFFSET.
 *   CALLS_FAIL=PLACE:N the one that fails
 *   CALLS_ERRNO=N      which of the errors that fit it
 */

#include <assert.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <unwind.h>

#include <jansson.h>

#define NR_PLACES 16384
#define TABLE_BYTES (NR_PLACES * sizeof (struct place))
#define FRAMES 5        /* of our own that make a place */
#define MEMORY_FRAMES 2 /* where there is not enough memory */
#define MAX_FRAMES 40   /* that are looked at */
#define LOG_FD 700      /* out of the way */

struct place {
  _Atomic uint32_t hash; /* 0: free */
  _Atomic uint32_t calls;
};

struct object {
  const char *name;
  uintptr_t base, from, to;
};

static struct object objects[2];
static size_t nr_objects;
static struct place *places;
static int log_fd = -1;
static bool every;
static uint32_t fail_place, fail_number, which_errno;
static __thread bool busy; /* in here already */

#define REAL(name) ((__typeof__ (name) *)dlsym (RTLD_NEXT, #name))

/* ---- whose call it is -------------------------------------------------- */

static const struct object *
object_of (uintptr_t address)
{
  size_t i;

  for (i = 0; i < nr_objects; i++)
    if (address >= objects[i].from && address < objects[i].to)
      return &objects[i];
  return NULL;
}

static const char *
base_name (const char *path)
{
  const char *slash = strrchr (path, '/');

  return slash != NULL ? slash + 1 : path;
}

/* "" is the program itself. */
static const char *
our_name (const char *path)
{
  static const char *const ours[] = { "nbdmigrate",
                                      "nbdkit-migrate-filter.so" };
  static char self[4096];
  ssize_t n;
  size_t i;

  if (path[0] == '\0') {
    n = readlink ("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    path = self;
  }
  for (i = 0; i < 2; i++)
    if (strcmp (base_name (path), ours[i]) == 0)
      return ours[i];
  return NULL;
}

static int
note_object (struct dl_phdr_info *info, size_t size, void *opaque)
{
  const char *name = our_name (info->dlpi_name);
  struct object o = { name, info->dlpi_addr, UINTPTR_MAX, 0 };
  size_t i;

  (void)size, (void)opaque;
  if (name == NULL || nr_objects == 2 || object_of (o.base + 0x1000) != NULL)
    return 0;
  for (i = 0; i < info->dlpi_phnum; i++) {
    const ElfW (Phdr) *p = &info->dlpi_phdr[i];
    const uintptr_t from = o.base + p->p_vaddr;

    if (p->p_type != PT_LOAD)
      continue;
    o.from = from < o.from ? from : o.from;
    o.to = from + p->p_memsz > o.to ? from + p->p_memsz : o.to;
  }
  objects[nr_objects++] = o;
  return 0;
}

/* ---- from where -------------------------------------------------------- */

struct stack {
  size_t looked_at, n, max;
  uintptr_t frames[FRAMES];
};

static _Unwind_Reason_Code
note_frame (struct _Unwind_Context *context, void *opaque)
{
  struct stack *s = opaque;
  const uintptr_t address = _Unwind_GetIP (context);

  if (object_of (address) != NULL)
    s->frames[s->n++] = address;
  return s->n == s->max || ++s->looked_at == MAX_FRAMES ? _URC_END_OF_STACK
                                                        : _URC_NO_REASON;
}

/* Never 0. */
static uint32_t
hash_of (const char *call, const struct stack *s)
{
  uint32_t h = 2166136261; /* FNV-1a */
  size_t i;

  for (; *call != '\0'; call++)
    h = (h ^ (uint8_t)*call) * 16777619;
  for (i = 0; i < s->n; i++) {
    uintptr_t offset = s->frames[i] - object_of (s->frames[i])->base;

    for (; offset != 0; offset >>= 8)
      h = (h ^ (offset & 255)) * 16777619;
  }
  return h != 0 ? h : 1;
}

static void
write_line (const char *what, uint32_t hash, uint32_t number, const char *call,
            int error, const struct stack *s)
{
  char line[512];
  int n;
  size_t i;

  n = snprintf (line, sizeof line, "%s %08x %u %s ", what, hash, number, call);
  if (error != 0)
    n += snprintf (line + n, sizeof line - n, "%d ", error);
  for (i = 0; i < s->n; i++) {
    const struct object *o = object_of (s->frames[i]);

    n += snprintf (line + n, sizeof line - n, "%s%s+0x%lx", i ? "," : "",
                   o->name, (unsigned long)(s->frames[i] - 1 - o->base));
  }
  if (error != 0)
    n += snprintf (line + n, sizeof line - n, " %s", strerror (error));
  line[n++] = '\n';
  if (REAL (write) (log_fd, line, n) != n)
    abort ();
}

static uint32_t
count (uint32_t hash)
{
  uint32_t i, none;

  for (i = hash % NR_PLACES;; i = (i + 1) % NR_PLACES) {
    none = 0;
    if (places[i].hash == hash ||
        __atomic_compare_exchange_n ((uint32_t *)&places[i].hash, &none, hash,
                                     false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST) ||
        none == hash)
      return ++places[i].calls;
  }
}

/* The error with which this call must fail, or 0.  errors: those that fit. */
static int
decide (const char *call, const int *errors, size_t nr_errors)
{
  const bool memory = nr_errors == 1 && errors[0] == ENOMEM;
  struct stack s = { .max = memory ? MEMORY_FRAMES : FRAMES };
  int error = 0;
  uint32_t hash, number;

  _Unwind_Backtrace (note_frame, &s);
  hash = hash_of (call, &s);
  number = count (hash);
  if (every || (number & (number - 1)) == 0)
    write_line ("seen", hash, number, call, 0, &s);
  if (hash == fail_place && number == fail_number) {
    error = errors[which_errno % nr_errors];
    write_line ("fail", hash, number, call, error, &s);
  }
  return error;
}

static int
must_fail (const void *caller, const char *call, const int *errors,
           size_t nr_errors)
{
  const int before = errno;
  int error;

  if (busy || places == NULL || object_of ((uintptr_t)caller) == NULL)
    return 0;
  busy = true;
  error = decide (call, errors, nr_errors);
  busy = false;
  errno = error != 0 ? error : before;
  return error;
}

/* ---- beginning --------------------------------------------------------- */

static void
open_table (const char *path)
{
  const int fd = open (path, O_RDWR | O_CLOEXEC);
  void *p;

  if (fd == -1)
    return;
  p =
    REAL (mmap) (NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close (fd);
  places = p != MAP_FAILED ? p : NULL;
}

static uint32_t
number_in (const char *variable)
{
  const char *text = getenv (variable);

  return text != NULL ? (uint32_t)atoi (text) : 0;
}

static void __attribute__ ((constructor)) begin (void)
{
  const char *table = getenv ("CALLS_TABLE"), *log = getenv ("CALLS_LOG");
  const char *fail = getenv ("CALLS_FAIL");
  int fd;

  if (table == NULL || log == NULL)
    return;
  busy = true;
  every = number_in ("CALLS_EVERY");
  which_errno = number_in ("CALLS_ERRNO");
  if (fail != NULL && sscanf (fail, "%x:%u", &fail_place, &fail_number) != 2)
    abort ();
  fd = open (log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd != -1) {
    log_fd = fcntl (fd, F_DUPFD_CLOEXEC, LOG_FD);
    close (fd);
  }
  dl_iterate_phdr (note_object, NULL);
  if (log_fd != -1)
    open_table (table);
  busy = false;
}

/* nbdkit loads the filter later. */
void *
dlopen (const char *path, int flags)
{
  void *p = REAL (dlopen) (path, flags);

  if (path != NULL && our_name (path) != NULL)
    dl_iterate_phdr (note_object, NULL);
  return p;
}

/* ---- the calls --------------------------------------------------------- */

#define MUST_FAIL(call, ...)                                                   \
  must_fail (__builtin_return_address (0), #call,                              \
             (const int[]){ __VA_ARGS__ },                                     \
             sizeof ((const int[]){ __VA_ARGS__ }) / sizeof (int))

/* A call that fails by returning "bad", with errno.  The errors come last. */
#define CALL(type, call, parameters, arguments, bad, ...)                      \
  type call parameters                                                         \
  {                                                                            \
    static __typeof__ (call) *real;                                            \
                                                                               \
    if (MUST_FAIL (call, __VA_ARGS__))                                         \
      return bad;                                                              \
    if (real == NULL)                                                          \
      real = REAL (call);                                                      \
    return real arguments;                                                     \
  }

/* Memory */

#pragma GCC diagnostic ignored "-Wmissing-attributes"

CALL (void *, malloc, (size_t n), (n), NULL, ENOMEM)
CALL (void *, realloc, (void *p, size_t n), (p, n), NULL, ENOMEM)
CALL (void *, reallocarray, (void *p, size_t n, size_t m), (p, n, m), NULL,
      ENOMEM)
CALL (void *, aligned_alloc, (size_t a, size_t n), (a, n), NULL, ENOMEM)
CALL (char *, strdup, (const char *s), (s), NULL, ENOMEM)
CALL (char *, strndup, (const char *s, size_t n), (s, n), NULL, ENOMEM)
CALL (int, vasprintf, (char **s, const char *format, va_list args),
      (s, format, args), -1, ENOMEM)
CALL (FILE *, open_memstream, (char **s, size_t *n), (s, n), NULL, ENOMEM)

/* dlsym may need it. */
void *
calloc (size_t n, size_t m)
{
  extern void *__libc_calloc (size_t, size_t);
  static __typeof__ (calloc) *real;
  static __thread bool looking;

  if (MUST_FAIL (calloc, ENOMEM))
    return NULL;
  if (looking)
    return __libc_calloc (n, m);
  if (real == NULL) {
    looking = true;
    real = REAL (calloc);
    looking = false;
  }
  return real (n, m);
}

int
asprintf (char **s, const char *format, ...)
{
  va_list args;
  int n;

  if (MUST_FAIL (asprintf, ENOMEM))
    return -1;
  va_start (args, format);
  n = REAL (vasprintf) (s, format, args);
  va_end (args);
  return n;
}

/* Jansson: NULL, and values that are handed over are freed. */

CALL (json_t *, json_object, (void), (), NULL, ENOMEM)
CALL (json_t *, json_array, (void), (), NULL, ENOMEM)
CALL (json_t *, json_string, (const char *s), (s), NULL, ENOMEM)
CALL (json_t *, json_integer, (json_int_t n), (n), NULL, ENOMEM)
CALL (json_t *, json_deep_copy, (const json_t *j), (j), NULL, ENOMEM)
CALL (char *, json_dumps, (const json_t *j, size_t flags), (j, flags), NULL,
      ENOMEM)
CALL (int, json_object_update, (json_t * j, json_t *other), (j, other), -1,
      ENOMEM)
CALL (int, json_array_extend, (json_t * j, json_t *other), (j, other), -1,
      ENOMEM)

int
json_object_set_new (json_t *object, const char *key, json_t *value)
{
  if (!MUST_FAIL (json_object_set_new, ENOMEM))
    return REAL (json_object_set_new) (object, key, value);
  json_decref (value);
  return -1;
}

int
json_array_append_new (json_t *array, json_t *value)
{
  if (!MUST_FAIL (json_array_append_new, ENOMEM))
    return REAL (json_array_append_new) (array, value);
  json_decref (value);
  return -1;
}

json_t *
json_loads (const char *input, size_t flags, json_error_t *error)
{
  if (!MUST_FAIL (json_loads, ENOMEM))
    return REAL (json_loads) (input, flags, error);
  if (error != NULL) {
    memset (error, 0, sizeof *error);
    strcpy (error->text, "out of memory");
    error->text[sizeof error->text - 1] = json_error_out_of_memory;
  }
  return NULL;
}

/* As a leak it is small: what is handed over to be packed is not freed. */
json_t *
json_pack (const char *format, ...)
{
  va_list args;
  json_t *j;

  if (MUST_FAIL (json_pack, ENOMEM))
    return NULL;
  va_start (args, format);
  j = json_vpack_ex (NULL, 0, format, args);
  va_end (args);
  return j;
}

/* Files */

CALL (ssize_t, pwrite, (int fd, const void *p, size_t n, off_t o),
      (fd, p, n, o), -1, EIO, ENOSPC)
CALL (ssize_t, pread, (int fd, void *p, size_t n, off_t o), (fd, p, n, o), -1,
      EIO)
CALL (int, fsync, (int fd), (fd), -1, EIO, ENOSPC)
CALL (int, fdatasync, (int fd), (fd), -1, EIO, ENOSPC)
CALL (int, ftruncate, (int fd, off_t n), (fd, n), -1, EIO, ENOSPC)
CALL (int, rename, (const char *from, const char *to), (from, to), -1, EIO,
      ENOSPC)
CALL (int, unlink, (const char *path), (path), -1, EIO, EACCES)
CALL (int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags),
      -1, EIO, EACCES)
CALL (int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC,
      EACCES)
CALL (int, fstat, (int fd, struct stat *st), (fd, st), -1, EIO, ENOMEM)
CALL (int, stat, (const char *path, struct stat *st), (path, st), -1, EIO,
      EACCES)
CALL (int, lstat, (const char *path, struct stat *st), (path, st), -1, EIO,
      EACCES)
CALL (int, fstatat, (int fd, const char *path, struct stat *st, int flags),
      (fd, path, st, flags), -1, EIO, EACCES)
CALL (int, fstatfs, (int fd, struct statfs *st), (fd, st), -1, EIO, ENOMEM)
CALL (int, flock, (int fd, int how), (fd, how), -1, ENOLCK, EINTR)
CALL (int, fchown, (int fd, uid_t u, gid_t g), (fd, u, g), -1, EPERM, EIO)
CALL (int, fchownat, (int fd, const char *path, uid_t u, gid_t g, int flags),
      (fd, path, u, g, flags), -1, EPERM, EIO)
CALL (DIR *, opendir, (const char *path), (path), NULL, EMFILE, ENOMEM)
CALL (DIR *, fdopendir, (int fd), (fd), NULL, ENOMEM)
CALL (struct dirent *, readdir, (DIR * dir), (dir), NULL, EIO)
CALL (FILE *, fdopen, (int fd, const char *mode), (fd, mode), NULL, ENOMEM)
CALL (ssize_t, __getdelim, (char **line, size_t *n, int c, FILE *f),
      (line, n, c, f), -1, ENOMEM, EIO)
CALL (int, fflush, (FILE * f), (f), EOF, EIO, ENOSPC)

int
fclose (FILE *f)
{
  const int error = MUST_FAIL (fclose, ENOSPC, EIO);
  const int r = REAL (fclose) (f);

  if (error == 0)
    return r;
  errno = error;
  return EOF;
}

/* An eventfd, or another that nothing can happen to. */
static bool
is_anonymous (int fd)
{
  static const char anonymous[] = "anon_inode:";
  char link[64], path[sizeof anonymous] = "";

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  return readlink (link, path, sizeof path - 1) > 0 &&
         strcmp (path, anonymous) == 0;
}

ssize_t
write (int fd, const void *p, size_t n)
{
  if (object_of ((uintptr_t)__builtin_return_address (0)) != NULL &&
      !is_anonymous (fd) && MUST_FAIL (write, EIO, ENOSPC))
    return -1;
  return REAL (write) (fd, p, n);
}

ssize_t
read (int fd, void *p, size_t n)
{
  if (object_of ((uintptr_t)__builtin_return_address (0)) != NULL &&
      !is_anonymous (fd) && MUST_FAIL (read, EIO))
    return -1;
  return REAL (read) (fd, p, n);
}

static mode_t
mode_of (int flags, va_list args)
{
  return flags & (O_CREAT | O_TMPFILE) ? va_arg (args, mode_t) : 0;
}

int
open (const char *path, int flags, ...)
{
  va_list args;
  mode_t mode;

  va_start (args, flags);
  mode = mode_of (flags, args);
  va_end (args);
  if (MUST_FAIL (open, EMFILE, EIO, ENOMEM))
    return -1;
  return REAL (open) (path, flags, mode);
}

int
openat (int fd, const char *path, int flags, ...)
{
  va_list args;
  mode_t mode;

  va_start (args, flags);
  mode = mode_of (flags, args);
  va_end (args);
  if (MUST_FAIL (openat, EMFILE, EIO, ENOMEM))
    return -1;
  return REAL (openat) (fd, path, flags, mode);
}

/* What makes a descriptor, or seals a file. */
int
fcntl (int fd, int command, ...)
{
  va_list args;
  void *argument;

  va_start (args, command);
  argument = va_arg (args, void *);
  va_end (args);
  if ((command == F_DUPFD_CLOEXEC && MUST_FAIL (fcntl, EMFILE)) ||
      (command == F_ADD_SEALS && MUST_FAIL (fcntl, EBUSY)))
    return -1;
  return REAL (fcntl) (fd, command, argument);
}

/* Sockets */

CALL (int, socket, (int d, int t, int p), (d, t, p), -1, EMFILE, ENOBUFS)
CALL (int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n),
      -1, ECONNREFUSED, ETIMEDOUT, ENOMEM)
CALL (int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n),
      -1, EADDRINUSE, ENOMEM)
CALL (int, listen, (int fd, int n), (fd, n), -1, EADDRINUSE)
CALL (int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags),
      (fd, a, n, flags), -1, EMFILE, ECONNABORTED, ENOMEM)
CALL (ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags),
      (fd, m, flags), -1, EPIPE, ECONNRESET, ENOBUFS)
CALL (ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags),
      -1, ECONNRESET, ENOMEM)
CALL (ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags),
      -1, ECONNRESET, ETIMEDOUT, ENOMEM)
CALL (int, setsockopt, (int fd, int l, int o, const void *p, socklen_t n),
      (fd, l, o, p, n), -1, ENOMEM, ENOBUFS)
CALL (int, getsockopt, (int fd, int l, int o, void *p, socklen_t *n),
      (fd, l, o, p, n), -1, ENOBUFS)
CALL (int, getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n),
      -1, ENOBUFS)
CALL (int, getpeername, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n),
      -1, ENOBUFS, ENOTCONN)

int
getaddrinfo (const char *node, const char *service,
             const struct addrinfo *hints, struct addrinfo **list)
{
  if (MUST_FAIL (getaddrinfo, ENOMEM, EAGAIN))
    return errno == ENOMEM ? EAI_MEMORY : EAI_AGAIN;
  return REAL (getaddrinfo) (node, service, hints, list);
}

/* The rest */

CALL (int, poll, (struct pollfd * p, nfds_t n, int ms), (p, n, ms), -1, EINTR,
      ENOMEM)
CALL (int, eventfd, (unsigned n, int flags), (n, flags), -1, EMFILE, ENOMEM)
CALL (int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags),
      -1, EMFILE, ENOMEM)
CALL (int, timerfd_create, (clockid_t clock, int flags), (clock, flags), -1,
      EMFILE, ENOMEM)
CALL (int, memfd_create, (const char *name, unsigned flags), (name, flags), -1,
      EMFILE, ENOMEM)
CALL (void *, mmap, (void *p, size_t n, int prot, int flags, int fd, off_t o),
      (p, n, prot, flags, fd, o), MAP_FAILED, ENOMEM)
CALL (int, madvise, (void *p, size_t n, int advice), (p, n, advice), -1, EAGAIN,
      ENOMEM)
CALL (ssize_t, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags),
      -1, ENOSYS)

int
pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                void *(*start) (void *), void *argument)
{
  const int error = MUST_FAIL (pthread_create, EAGAIN);

  return error != 0 ? error
                    : REAL (pthread_create) (thread, attr, start, argument);
}
