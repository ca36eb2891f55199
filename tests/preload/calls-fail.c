/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into proxies and nbdmigrate with LD_PRELOAD: one call of their own
 * code to the system or to a library fails, once, or from then on all do that
 * want the same.
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
 *                        seen PLACE N CALL ERRNO,ERRNO... FRAME,FRAME...
 *                      of each place only the calls number 1, 2, 4, 8, ..., and
 *                      all up to CALLS_EVERY; and for the one that does fail:
 *                        fail PLACE N CALL ERRNO FRAME,FRAME... TEXT
 *                      A frame is OBJECT+OFFSET.
 *   CALLS_FAIL=PLACE:N the one that fails
 *   CALLS_ERRNO=N      which of the errors that fit it
 *
 * What is lacking may be lacking for some time: room on a disk, descriptors,
 * memory, threads; and a disk that is broken stays that.
 *
 *   CALLS_LASTING=ERRNO  that call fails so, and after it each that can, until
 *                      it is over: 2 stands behind the places of the table (1:
 *                      it has begun).  All processes have one disk;
 * descriptors, memory and threads are lacking in the one where it began. The
 * log gets, of each place, for the calls as above: more PLACE N CALL ERRNO
 * FRAME,FRAME... TEXT and the table how many have failed, behind that.
 *   CALLS_SHORT=1      instead, none fails, but what is read, written, sent or
 *                      received is never more than half of what was asked for
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
#define TABLE_BYTES sizeof (struct table)
#define FRAMES 5        /* of our own that make a place */
#define MEMORY_FRAMES 2 /* where there is not enough memory */
#define MAX_FRAMES 40   /* that are looked at */
#define LOG_FD 700      /* out of the way */

struct place {
  _Atomic uint32_t hash; /* 0: free */
  _Atomic uint32_t calls;
};

/* What lasts, and how many calls have failed by it. */
enum lasting { LASTING_NOT_YET, LASTING, LASTING_OVER };

struct table {
  struct place places[NR_PLACES];
  _Atomic uint32_t lasting, failures;
};

struct object {
  const char *name;
  uintptr_t base, from, to;
};

static struct object objects[2];
static size_t nr_objects;
static struct table *table;
static int log_fd = -1;
static uint32_t fail_place, fail_number, which_errno, every;
static int lasting_errno;
static bool lasts_here; /* it began in this process */
static bool shortens;
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

struct failing {
  const char *name;
  const int *errors; /* that fit it */
  size_t nr_errors;
};

static int
put_errors (char *line, size_t room, const struct failing *call)
{
  int n = 0;
  size_t i;

  for (i = 0; i < call->nr_errors; i++)
    n += snprintf (line + n, room - n, "%s%d", i ? "," : "", call->errors[i]);
  return n;
}

/* error: 0, it does not fail. */
static void
write_line (const char *what, uint32_t hash, uint32_t number,
            const struct failing *call, int error, const struct stack *s)
{
  char line[512];
  int n;
  size_t i;

  n = snprintf (line, sizeof line, "%s %08x %u %s ", what, hash, number,
                call->name);
  if (error != 0)
    n += snprintf (line + n, sizeof line - n, "%d", error);
  else
    n += put_errors (line + n, sizeof line - n, call);
  for (i = 0; i < s->n; i++) {
    const struct object *o = object_of (s->frames[i]);

    n += snprintf (line + n, sizeof line - n, "%c%s+0x%lx", i ? ',' : ' ',
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
  struct place *const places = table->places;
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

/* ---- what fails -------------------------------------------------------- */

static bool
is_memory (const struct failing *call)
{
  return call->nr_errors == 1 && call->errors[0] == ENOMEM;
}

/* Whether it wants what is lacking.  Memory is lacking in the process, not in
 * the kernel.
 */
static bool
may_last (const struct failing *call)
{
  size_t i;

  if (lasting_errno == ENOMEM)
    return is_memory (call);
  for (i = 0; i < call->nr_errors; i++)
    if (call->errors[i] == lasting_errno)
      return true;
  return false;
}

static bool
lasts (void)
{
  const bool is_of_disk = lasting_errno == EIO || lasting_errno == ENOSPC;

  return table->lasting == LASTING && (lasts_here || is_of_disk);
}

/* Of a place not every call is told. */
static bool
is_told (uint32_t number)
{
  return number <= every || (number & (number - 1)) == 0;
}

static void
begin_to_last (void)
{
  uint32_t not_yet = LASTING_NOT_YET;

  lasts_here =
    __atomic_compare_exchange_n ((uint32_t *)&table->lasting, &not_yet, LASTING,
                                 false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* The error with which this call must fail, or 0. */
static int
decide (const struct failing *call)
{
  struct stack s = { .max = is_memory (call) ? MEMORY_FRAMES : FRAMES };
  const bool lasting = lasting_errno != 0;
  uint32_t hash, number;
  int error = 0;

  if (lasting && !may_last (call))
    return 0;
  _Unwind_Backtrace (note_frame, &s);
  hash = hash_of (call->name, &s);
  number = count (hash);
  if (hash == fail_place && number == fail_number) {
    error =
      lasting ? lasting_errno : call->errors[which_errno % call->nr_errors];
    write_line ("fail", hash, number, call, error, &s);
    if (lasting)
      begin_to_last ();
  }
  else if (lasting && lasts ()) {
    error = lasting_errno;
    if (is_told (number))
      write_line ("more", hash, number, call, error, &s);
  }
  else if (is_told (number))
    write_line ("seen", hash, number, call, 0, &s);
  table->failures += error != 0;
  return error;
}

/* At the end of a program that counts its branches these are not its own. */
static void
note_exit (void)
{
  busy = true;
}

static int
must_fail (const void *caller, const struct failing *call)
{
  static bool exit_is_noted;
  const int before = errno;
  int error;

  if (busy || table == NULL || shortens ||
      object_of ((uintptr_t)caller) == NULL)
    return 0;
  busy = true;
  if (!exit_is_noted) {
    exit_is_noted = true;
    atexit (note_exit);
  }
  error = decide (call);
  busy = false;
  errno = error != 0 ? error : before;
  return error;
}

/* How much of n bytes is done at once. */
static size_t
shortened (const void *caller, size_t n)
{
  return shortens && n > 1 && object_of ((uintptr_t)caller) != NULL ? n / 2 : n;
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
  table = p != MAP_FAILED ? p : NULL;
}

static uint32_t
number_in (const char *variable)
{
  const char *text = getenv (variable);

  return text != NULL ? (uint32_t)atoi (text) : 0;
}

static void __attribute__ ((constructor)) begin (void)
{
  const char *path = getenv ("CALLS_TABLE"), *log = getenv ("CALLS_LOG");
  const char *fail = getenv ("CALLS_FAIL");
  int fd;

  if (path == NULL || log == NULL)
    return;
  busy = true;
  every = number_in ("CALLS_EVERY");
  which_errno = number_in ("CALLS_ERRNO");
  lasting_errno = number_in ("CALLS_LASTING");
  shortens = number_in ("CALLS_SHORT") != 0;
  if (fail != NULL && sscanf (fail, "%x:%u", &fail_place, &fail_number) != 2)
    abort ();
  fd = open (log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd != -1) {
    log_fd = fcntl (fd, F_DUPFD_CLOEXEC, LOG_FD);
    close (fd);
  }
  dl_iterate_phdr (note_object, NULL);
  if (log_fd != -1)
    open_table (path);
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

/* It writes what a build for coverage has counted. */
int
dlclose (void *handle)
{
  int r;

  busy = true;
  r = REAL (dlclose) (handle);
  busy = false;
  return r;
}

/* ---- the calls --------------------------------------------------------- */

#define MUST_FAIL(call, ...)                                                   \
  must_fail (__builtin_return_address (0),                                     \
             &(const struct failing){ #call, (const int[]){ __VA_ARGS__ },     \
                                      sizeof ((const int[]){ __VA_ARGS__ }) /  \
                                        sizeof (int) })
#define SHORTENED(n) shortened (__builtin_return_address (0), n)

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
      (fd, p, SHORTENED (n), o), -1, EIO, ENOSPC)
CALL (ssize_t, pread, (int fd, void *p, size_t n, off_t o),
      (fd, p, SHORTENED (n), o), -1, EIO)
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

static bool
is_same_file (const struct stat *st, int fd)
{
  struct stat other;

  return REAL (fstat) (fd, &other) == 0 && st->st_dev == other.st_dev &&
         st->st_ino == other.st_ino;
}

/* On the disk that may be full or broken for some time: where messages go is
 * another.
 */
static bool
is_on_disk (int fd)
{
  struct stat st;

  return REAL (fstat) (fd, &st) == 0 && S_ISREG (st.st_mode) &&
         !is_same_file (&st, STDOUT_FILENO) &&
         !is_same_file (&st, STDERR_FILENO);
}

static bool
may_fail (const void *caller, int fd)
{
  return !busy && object_of ((uintptr_t)caller) != NULL &&
         (lasting_errno != 0 ? is_on_disk (fd) : !is_anonymous (fd));
}

ssize_t
write (int fd, const void *p, size_t n)
{
  const void *const caller = __builtin_return_address (0);

  if (may_fail (caller, fd) && MUST_FAIL (write, EIO, ENOSPC))
    return -1;
  return REAL (write) (fd, p, is_anonymous (fd) ? n : SHORTENED (n));
}

ssize_t
read (int fd, void *p, size_t n)
{
  const void *const caller = __builtin_return_address (0);

  if (may_fail (caller, fd) && MUST_FAIL (read, EIO))
    return -1;
  return REAL (read) (fd, p, is_anonymous (fd) ? n : SHORTENED (n));
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
CALL (ssize_t, recv, (int fd, void *p, size_t n, int flags),
      (fd, p, SHORTENED (n), flags), -1, ECONNRESET, ETIMEDOUT, ENOMEM)

/* A message whose only piece may be short. */
struct short_message {
  struct msghdr message;
  struct iovec piece;
};

static const struct msghdr *
shorten (const void *caller, const struct msghdr *m, struct short_message *room)
{
  if (m->msg_iovlen != 1)
    return m;
  room->message = *m;
  room->piece = m->msg_iov[0];
  room->piece.iov_len = shortened (caller, room->piece.iov_len);
  room->message.msg_iov = &room->piece;
  return &room->message;
}

ssize_t
sendmsg (int fd, const struct msghdr *m, int flags)
{
  struct short_message room;

  if (MUST_FAIL (sendmsg, EPIPE, ECONNRESET, ENOBUFS))
    return -1;
  return REAL (sendmsg) (fd, shorten (__builtin_return_address (0), m, &room),
                         flags);
}

ssize_t
recvmsg (int fd, struct msghdr *m, int flags)
{
  struct msghdr copy = *m;
  struct short_message room;
  ssize_t n;

  if (MUST_FAIL (recvmsg, ECONNRESET, ENOMEM))
    return -1;
  copy = *shorten (__builtin_return_address (0), m, &room);
  n = REAL (recvmsg) (fd, &copy, flags);
  m->msg_namelen = copy.msg_namelen;
  m->msg_controllen = copy.msg_controllen;
  m->msg_flags = copy.msg_flags;
  return n;
}
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
