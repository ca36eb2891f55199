/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk of zeroes for one call at a time: it says so (its thread model), has
 * no multi-conn, and calls that overlap all the same are counted.  .cleanup
 * prints how many there were.
 */

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS
#define DISK_BYTES 1048576

static atomic_int calls; /* under way */
static atomic_int overlaps;

static void
call (void)
{
  const struct timespec moment = { .tv_nsec = 200000 };

  if (atomic_fetch_add (&calls, 1) > 0)
    overlaps++;
  nanosleep (&moment, NULL);
  atomic_fetch_sub (&calls, 1);
}

static void *
alone_open (int readonly)
{
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
alone_get_size (void *handle)
{
  (void)handle;
  return DISK_BYTES;
}

static const char *
alone_export_description (void *handle)
{
  (void)handle;
  call ();
  return "one at a time";
}

static int
alone_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void)handle;
  (void)offset;
  (void)flags;
  call ();
  memset (buf, 0, count);
  return 0;
}

static void
alone_cleanup (void)
{
  nbdkit_error ("overlapping calls: %d", overlaps);
}

static struct nbdkit_plugin plugin = {
  .name = "alone",
  .cleanup = alone_cleanup,
  .open = alone_open,
  .get_size = alone_get_size,
  .export_description = alone_export_description,
  .pread = alone_pread,
};

NBDKIT_REGISTER_PLUGIN (plugin)
