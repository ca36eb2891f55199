/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk of zeroes that holds a POSIX lock on 'file', as long as the process
 * closes no descriptor of it, and whose writes wait until there is a file
 * 'go'.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define DISK_BYTES 1048576

static char *file, *go;
static int fd = -1;

static int
locked_config (const char *key, const char *value)
{
  char **text = strcmp (key, "file") == 0 ? &file
                : strcmp (key, "go") == 0 ? &go
                                          : NULL;

  if (text == NULL) {
    nbdkit_error ("unknown parameter '%s'", key);
    return -1;
  }
  *text = strdup (value);
  return 0;
}

static int
locked_after_fork (void)
{
  const struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

  fd = open (file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd == -1 || fcntl (fd, F_SETLK, &lock) == -1) {
    nbdkit_error ("%s: %m", file);
    return -1;
  }
  return 0;
}

static void *
locked_open (int readonly)
{
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
locked_get_size (void *handle)
{
  (void)handle;
  return DISK_BYTES;
}

static int
locked_can_multi_conn (void *handle)
{
  (void)handle;
  return 1;
}

static int
locked_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  (void)handle;
  (void)offset;
  (void)flags;
  memset (buf, 0, count);
  return 0;
}

static int
locked_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
               uint32_t flags)
{
  const struct timespec moment = { .tv_nsec = 10000000 };

  (void)handle;
  (void)buf;
  (void)count;
  (void)offset;
  (void)flags;
  while (access (go, F_OK) == -1)
    nanosleep (&moment, NULL);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "locked",
  .config = locked_config,
  .after_fork = locked_after_fork,
  .open = locked_open,
  .get_size = locked_get_size,
  .can_multi_conn = locked_can_multi_conn,
  .pread = locked_pread,
  .pwrite = locked_pwrite,
};

NBDKIT_REGISTER_PLUGIN (plugin)
