/* SPDX-License-Identifier: BSD-3-Clause */
/* A destination with the honesty of a disk with a volatile cache: what is
 * written stays in memory until a flush and is then written to a file.  Killed
 * (-9), it has lost what was not flushed; started again, it serves the file.
 *
 *   nbdkit nbdkit-lossy-plugin.so file=PATH
 *
 * The size is that of the file.  Each of these changes what is offered:
 *
 *   minimum=N maximum=N   block size constraints
 *   multi-conn=0 fua=0 trim=0 cache=0   (zero: --filter=nozero, block status:
 *                         --no-sr)
 *   writeback=PERCENT     of the writes reach the file at once, at random
 *   seed=N                for that
 *
 * And these make it fail or dawdle:
 *
 *   refuse-writes=1       every write fails with ENOSPC
 *   refuse-flush=1        every flush fails with EIO and loses everything
 *   fail-flush=N flush-ms=MS
 *                         so does the Nth flush, with what was written before
 *                         it, after that many milliseconds; without
 *                         fail-flush every flush succeeds after them
 *   fail-flush-when=PATH  so does, at once, the flush that finds this file,
 *                         which it removes; if PATH.late was there its answer
 *                         waits until PATH.answer is
 *   hold-flush=PATH       while this file is there a flush is not answered;
 *                         PATH.begun appears when one waits so, with what came
 *                         before it in the file, and PATH.written when 1 MiB
 *                         was written meanwhile
 *   zero-ms-per-mib=MS    so long it takes to zero or trim
 *   dawdle=PATH           the first write that begins with 'S' waits until this
 *                         file is there, then is done, then PATH.done appears
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

struct range {
  uint64_t offset, length;
};

#define HELD_BYTES (1024 * 1024)

static char *file, *dawdle, *hold, *fail_when;
static int minimum = 1, maximum = 32 * 1024 * 1024;
static int multi_conn = 1, fua = 1, trim = 1, cache = 1;
static int writeback, seed = 1, refuse_writes, refuse_flush;
static int fail_flush, flush_ms, zero_ms;

/* One flush after the other.  Taken before the other lock. */
static pthread_mutex_t flush_lock = PTHREAD_MUTEX_INITIALIZER;
static int nr_flushes;

/* All of these are guarded by the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int fd = -1;
static uint64_t size;
static uint8_t *image;        /* what a client sees */
static struct range *pending; /* not in the file yet */
static size_t nr_pending, allocated;
static uint64_t random_state;
static bool dawdled;
static bool holding;
static uint64_t held_bytes; /* written while a flush is held */

static const struct {
  const char *key;
  int *value;
} numbers[] = {
  { "minimum", &minimum },
  { "maximum", &maximum },
  { "multi-conn", &multi_conn },
  { "fua", &fua },
  { "trim", &trim },
  { "cache", &cache },
  { "writeback", &writeback },
  { "seed", &seed },
  { "refuse-writes", &refuse_writes },
  { "refuse-flush", &refuse_flush },
  { "fail-flush", &fail_flush },
  { "flush-ms", &flush_ms },
  { "zero-ms-per-mib", &zero_ms },
};

static int
lossy_config (const char *key, const char *value)
{
  if (strcmp (key, "file") == 0) {
    file = nbdkit_absolute_path (value);
    return file == NULL ? -1 : 0;
  }
  if (strcmp (key, "dawdle") == 0) {
    dawdle = nbdkit_absolute_path (value);
    return dawdle == NULL ? -1 : 0;
  }
  if (strcmp (key, "hold-flush") == 0) {
    hold = nbdkit_absolute_path (value);
    return hold == NULL ? -1 : 0;
  }
  if (strcmp (key, "fail-flush-when") == 0) {
    fail_when = nbdkit_absolute_path (value);
    return fail_when == NULL ? -1 : 0;
  }
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; ++i) {
    if (strcmp (key, numbers[i].key) == 0)
      return nbdkit_parse_int (key, value, numbers[i].value);
  }
  nbdkit_error ("unknown parameter %s", key);
  return -1;
}

static int
lossy_get_ready (void)
{
  struct stat st;

  fd = open (file, O_RDWR | O_CLOEXEC);
  if (fd == -1 || fstat (fd, &st) == -1) {
    nbdkit_error ("%s: %m", file);
    return -1;
  }
  size = st.st_size;
  image = malloc (size + 1);
  if (image == NULL || pread (fd, image, size, 0) != (ssize_t)size) {
    nbdkit_error ("reading %s: %m", file);
    return -1;
  }
  random_state = seed;
  return 0;
}

static void
lossy_unload (void)
{
  if (fd >= 0)
    close (fd);
  free (image);
  free (pending);
  free (file);
  free (dawdle);
  free (hold);
  free (fail_when);
}

static void *
lossy_open (int readonly)
{
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
lossy_get_size (void *handle)
{
  (void)handle;
  return size;
}

static int
lossy_block_size (void *handle, uint32_t *min, uint32_t *preferred,
                  uint32_t *max)
{
  (void)handle;
  *min = minimum;
  *preferred = minimum > 4096 ? minimum : 4096;
  *max = maximum;
  return 0;
}

static int
lossy_can_write (void *handle)
{
  (void)handle;
  return 1;
}

static int
lossy_can_multi_conn (void *handle)
{
  (void)handle;
  return multi_conn;
}

static int
lossy_can_fua (void *handle)
{
  (void)handle;
  return fua ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int
lossy_can_trim (void *handle)
{
  (void)handle;
  return trim;
}

static int
lossy_can_cache (void *handle)
{
  (void)handle;
  return cache ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_NONE;
}

/* ---- The volatile cache ------------------------------------------------ */

static bool
by_chance (int percent)
{
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (random_state >> 33) % 100 < (uint64_t)percent;
}

static int
to_file (uint64_t offset, uint64_t length)
{
  while (length > 0) {
    const ssize_t r = pwrite (fd, image + offset, length, offset);

    if (r <= 0) {
      nbdkit_error ("writing %s: %m", file);
      return -1;
    }
    offset += r;
    length -= r;
  }
  return 0;
}

/* The bytes are in the image.  Into the file now, or later. */
static int
changed (uint64_t offset, uint64_t length, uint32_t flags)
{
  if ((flags & NBDKIT_FLAG_FUA) || by_chance (writeback))
    return to_file (offset, length);
  if (nr_pending == allocated) {
    const size_t n = allocated ? 2 * allocated : 1024;
    struct range *p = realloc (pending, n * sizeof *p);

    if (p == NULL) {
      nbdkit_error ("realloc: %m");
      return -1;
    }
    pending = p;
    allocated = n;
  }
  pending[nr_pending++] = (struct range){ offset, length };
  return 0;
}

static int
all_to_file (void)
{
  for (size_t i = 0; i < nr_pending; ++i) {
    if (to_file (pending[i].offset, pending[i].length) == -1)
      return -1;
  }
  nr_pending = 0;
  return 0;
}

/* ---- Requests ---------------------------------------------------------- */

static int
check_block (uint64_t offset, uint64_t length)
{
  if (offset % minimum == 0 && length % minimum == 0)
    return 0;
  nbdkit_error ("not aligned to %d: %llu bytes at %llu", minimum,
                (unsigned long long)length, (unsigned long long)offset);
  nbdkit_set_error (EINVAL);
  return -1;
}

static int
check_write (uint64_t offset, uint64_t length, bool data)
{
  if (data && length > (uint64_t)maximum) {
    nbdkit_error ("more than %d bytes", maximum);
    nbdkit_set_error (EINVAL);
    return -1;
  }
  if (refuse_writes) {
    nbdkit_set_error (ENOSPC);
    return -1;
  }
  return check_block (offset, length);
}

static int
lossy_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void)handle;
  (void)flags;
  if (check_block (offset, count) == -1)
    return -1;
  pthread_mutex_lock (&lock);
  memcpy (buf, image + offset, count);
  pthread_mutex_unlock (&lock);
  return 0;
}

/* Wait until a file is there, or is not.  Not nbdkit_nanosleep: that would end
 * with the connection.
 */
static void
wait_for_file (const char *path, bool there)
{
  const struct timespec ten_ms = { 0, 10000000 };

  while ((access (path, F_OK) == 0) != there)
    nanosleep (&ten_ms, NULL);
}

/* PATH.SUFFIX appears. */
static void
say (const char *path, const char *suffix)
{
  char name[4096];

  snprintf (name, sizeof name, "%s.%s", path, suffix);
  close (open (name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

/* Called with the lock. */
static void
count_held (uint32_t count)
{
  if (!holding)
    return;
  held_bytes += count;
  if (held_bytes >= HELD_BYTES && held_bytes - count < HELD_BYTES)
    say (hold, "written");
}

static int
lossy_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  bool late = false;
  int r;

  (void)handle;
  if (check_write (offset, count, true) == -1)
    return -1;
  pthread_mutex_lock (&lock);
  if (dawdle != NULL && !dawdled && *(const char *)buf == 'S')
    late = dawdled = true;
  if (late) {
    pthread_mutex_unlock (&lock);
    wait_for_file (dawdle, true);
    pthread_mutex_lock (&lock);
  }
  memcpy (image + offset, buf, count);
  count_held (count);
  r = changed (offset, count, flags);
  pthread_mutex_unlock (&lock);
  if (late)
    say (dawdle, "done");
  return r;
}

static int
lossy_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  unsigned ms;
  int r;

  (void)handle;
  if (check_write (offset, count, false) == -1)
    return -1;
  ms = (uint64_t)count * zero_ms >> 20;
  nbdkit_nanosleep (ms / 1000, ms % 1000 * 1000000);
  pthread_mutex_lock (&lock);
  memset (image + offset, 0, count);
  r = changed (offset, count, flags);
  pthread_mutex_unlock (&lock);
  return r;
}

static int
lossy_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  return lossy_zero (handle, count, offset, flags);
}

/* As fsync does, this tells of the loss just once.  Called with flush_lock. */
static int
lose_late (void)
{
  size_t lost;

  pthread_mutex_lock (&lock);
  lost = nr_pending;
  pthread_mutex_unlock (&lock);
  nbdkit_nanosleep (flush_ms / 1000, flush_ms % 1000 * 1000000);
  pthread_mutex_lock (&lock);
  memmove (pending, pending + lost, (nr_pending - lost) * sizeof *pending);
  nr_pending -= lost;
  pthread_mutex_unlock (&lock);
  nbdkit_set_error (EIO);
  return -1;
}

static int
flush (void)
{
  int r;

  pthread_mutex_lock (&lock);
  if (refuse_flush) {
    nr_pending = 0;
    nbdkit_set_error (EIO);
    r = -1;
  }
  else
    r = all_to_file ();
  pthread_mutex_unlock (&lock);
  return r;
}

/* Called with flush_lock, when all that came before is in the file. */
static void
wait_if_held (void)
{
  if (hold == NULL || access (hold, F_OK) == -1)
    return;
  pthread_mutex_lock (&lock);
  holding = true;
  held_bytes = 0;
  pthread_mutex_unlock (&lock);
  say (hold, "begun");
  wait_for_file (hold, false);
  pthread_mutex_lock (&lock);
  holding = false;
  pthread_mutex_unlock (&lock);
}

/* Others are answered meanwhile. */
static void
answer_late (void)
{
  char path[4096];

  snprintf (path, sizeof path, "%s.late", fail_when);
  if (unlink (path) == -1)
    return;
  snprintf (path, sizeof path, "%s.answer", fail_when);
  wait_for_file (path, true);
}

static int
lossy_flush (void *handle, uint32_t flags)
{
  int r;

  (void)handle;
  (void)flags;
  pthread_mutex_lock (&flush_lock);
  if (fail_when != NULL && unlink (fail_when) == 0) {
    r = lose_late ();
    pthread_mutex_unlock (&flush_lock);
    answer_late ();
    nbdkit_set_error (EIO);
    return r;
  }
  r = ++nr_flushes == fail_flush ? lose_late () : flush ();
  if (fail_flush == 0)
    nbdkit_nanosleep (flush_ms / 1000, flush_ms % 1000 * 1000000);
  wait_if_held ();
  pthread_mutex_unlock (&flush_lock);
  return r;
}

static int
lossy_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  (void)flags;
  return check_block (offset, count);
}

static bool
is_zero (const uint8_t *p, uint64_t count)
{
  return p[0] == 0 && memcmp (p, p + 1, count - 1) == 0;
}

static int
lossy_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               struct nbdkit_extents *e)
{
  const uint64_t unit = 4096, end = offset + count;
  int r = 0;

  (void)handle;
  (void)flags;
  pthread_mutex_lock (&lock);
  for (uint64_t at = offset - offset % unit; at < end && r == 0; at += unit) {
    const uint64_t n = size - at < unit ? size - at : unit;

    r = nbdkit_add_extent (
      e, at, n,
      is_zero (image + at, n) ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0);
  }
  pthread_mutex_unlock (&lock);
  return r;
}

static struct nbdkit_plugin plugin = {
  .name = "lossy",
  .version = "1.0.0",
  .config = lossy_config,
  .get_ready = lossy_get_ready,
  .unload = lossy_unload,
  .open = lossy_open,
  .get_size = lossy_get_size,
  .block_size = lossy_block_size,
  .can_multi_conn = lossy_can_multi_conn,
  .can_write = lossy_can_write,
  .can_flush = lossy_can_write,
  .can_fua = lossy_can_fua,
  .can_zero = lossy_can_write,
  .can_fast_zero = lossy_can_write,
  .can_trim = lossy_can_trim,
  .can_extents = lossy_can_write,
  .can_cache = lossy_can_cache,
  .pread = lossy_pread,
  .pwrite = lossy_pwrite,
  .zero = lossy_zero,
  .trim = lossy_trim,
  .flush = lossy_flush,
  .cache = lossy_cache,
  .extents = lossy_extents,
};

NBDKIT_REGISTER_PLUGIN (plugin)
