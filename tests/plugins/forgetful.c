/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbdkit plugin whose disk, in memory, does not always keep what it was
 * given: for tests of --verify and --digest.
 *
 *   nbdkit nbdkit-forgetful-plugin.so size=SIZE [bad=OFFSET] [when=FILE]
 *
 * The byte at 'bad' is stored wrong, in one bit, as long as the file 'when'
 * exists (always, without it): by a write, not by reading.
 */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static int64_t size, bad = -1;
static char *when;
static uint8_t *disk;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER; /* of the disk */

static int
forgetful_config (const char *key, const char *value)
{
  if (strcmp (key, "size") == 0)
    return (size = nbdkit_parse_size (value)) == -1 ? -1 : 0;
  if (strcmp (key, "bad") == 0)
    return (bad = nbdkit_parse_size (value)) == -1 ? -1 : 0;
  if (strcmp (key, "when") == 0) {
    free (when);
    when = nbdkit_absolute_path (value);
    return when == NULL ? -1 : 0;
  }
  nbdkit_error ("unknown parameter %s", key);
  return -1;
}

static int
forgetful_get_ready (void)
{
  disk = calloc (1, size + 1);
  return disk == NULL ? -1 : 0;
}

static void
forgetful_unload (void)
{
  free (disk);
  free (when);
}

static void *
forgetful_open (int readonly)
{
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
forgetful_get_size (void *handle)
{
  (void)handle;
  return size;
}

static int
yes (void *handle)
{
  (void)handle;
  return 1;
}

static int
forgetful_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
                 uint32_t flags)
{
  (void)handle;
  (void)flags;
  pthread_rwlock_rdlock (&lock);
  memcpy (buf, disk + offset, count);
  pthread_rwlock_unlock (&lock);
  return 0;
}

static void
spoil (uint64_t offset, uint32_t count)
{
  if (bad != -1 && (uint64_t)bad >= offset && (uint64_t)bad < offset + count &&
      (when == NULL || access (when, F_OK) == 0))
    disk[bad] ^= 1;
}

static int
forgetful_pwrite (void *handle, const void *buf, uint32_t count,
                  uint64_t offset, uint32_t flags)
{
  (void)handle;
  (void)flags;
  pthread_rwlock_wrlock (&lock);
  memcpy (disk + offset, buf, count);
  spoil (offset, count);
  pthread_rwlock_unlock (&lock);
  return 0;
}

static int
forgetful_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  (void)flags;
  pthread_rwlock_wrlock (&lock);
  memset (disk + offset, 0, count);
  spoil (offset, count);
  pthread_rwlock_unlock (&lock);
  return 0;
}

static int
forgetful_flush (void *handle, uint32_t flags)
{
  (void)handle;
  (void)flags;
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "forgetful",
  .version = "1.0.0",
  .config = forgetful_config,
  .get_ready = forgetful_get_ready,
  .unload = forgetful_unload,
  .open = forgetful_open,
  .get_size = forgetful_get_size,
  .can_multi_conn = yes,
  .pread = forgetful_pread,
  .pwrite = forgetful_pwrite,
  .zero = forgetful_zero,
  .flush = forgetful_flush,
};

NBDKIT_REGISTER_PLUGIN (plugin)
