/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbdkit plugin that is nothing but the relay: for tests and for measuring
 * it side by side with "nbdkit nbd".
 *
 *   nbdkit -U - nbdkit-relay-plugin.so uri=URI size=BYTES [connections=N]
 *          [reconnect=MS] [grace=MS] [log=BYTES]
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "relay/relay.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *uri;
static struct relay_options options = RELAY_OPTIONS_DEFAULT;
static struct relay *relay;
static struct owed_error owed;

/* One guest connection. */
struct handle {
  uint64_t seen;
};

static bool
still_there (void *opaque)
{
  (void)opaque;
  return nbdkit_nanosleep (0, 0) == 0;
}

static const struct relay_waiter waiter = { still_there, NULL };

static void
say (void *opaque, bool good, const char *text)
{
  (void)opaque, (void)good;
  nbdkit_error ("%s", text);
}

static int
relay_config (const char *key, const char *value)
{
  int64_t size;

  if (strcmp (key, "uri") == 0) {
    free (uri);
    uri = strdup (value);
    return uri == NULL ? -1 : 0;
  }
  if (strcmp (key, "size") == 0) {
    size = nbdkit_parse_size (value);
    options.disk_bytes = size;
    return size == -1 ? -1 : 0;
  }
  if (strcmp (key, "log") == 0) {
    size = nbdkit_parse_size (value);
    options.log_bytes = size;
    return size == -1 ? -1 : 0;
  }
  if (strcmp (key, "connections") == 0)
    return nbdkit_parse_unsigned (key, value, &options.connections);
  if (strcmp (key, "reconnect") == 0)
    return nbdkit_parse_unsigned (key, value, &options.reconnect_ms);
  if (strcmp (key, "grace") == 0)
    return nbdkit_parse_unsigned (key, value, &options.grace_ms);
  nbdkit_error ("unknown parameter %s", key);
  return -1;
}

static int
relay_after_fork (void)
{
  char *why;

  options.notice = say;
  owed_error_init (&owed, false, NULL, NULL);
  options.owed = &owed;
  relay = relay_open (uri, &options, NULL, &why);
  if (relay == NULL) {
    nbdkit_error ("%s", why ? why : "no memory");
    free (why);
    return -1;
  }
  return 0;
}

static void
relay_cleanup (void)
{
  if (relay != NULL)
    relay_close (relay);
  relay = NULL;
}

static void
relay_unload (void)
{
  free (uri);
}

static void *
relay_open_handle (int readonly)
{
  struct handle *h = calloc (1, sizeof *h);

  (void)readonly;
  if (h != NULL)
    h->seen = owed_error_seen (&owed);
  return h;
}

static void
relay_close_handle (void *handle)
{
  free (handle);
}

static int64_t
relay_get_size (void *handle)
{
  (void)handle;
  return options.disk_bytes;
}

static int
yes (void *handle)
{
  (void)handle;
  return 1;
}

static int
native (void *handle)
{
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int
native_cache (void *handle)
{
  (void)handle;
  return NBDKIT_CACHE_NATIVE;
}

static unsigned
to_relay_flags (uint32_t flags)
{
  return (flags & NBDKIT_FLAG_FUA ? RELAY_FUA : 0) |
         (flags & NBDKIT_FLAG_MAY_TRIM ? 0 : RELAY_NO_HOLE) |
         (flags & NBDKIT_FLAG_FAST_ZERO ? RELAY_FAST_ZERO : 0);
}

static int
answer (int r)
{
  if (r == -1)
    nbdkit_set_error (errno);
  return r;
}

static int
relay_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void)handle;
  (void)flags;
  return answer (relay_read (relay, buf, count, offset, &waiter));
}

static int
relay_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  (void)handle;
  return answer (relay_write (relay, buf, count, offset,
                              flags & NBDKIT_FLAG_FUA ? RELAY_FUA : 0,
                              &waiter));
}

static int
do_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  return answer (
    relay_zero (relay, count, offset, to_relay_flags (flags), &waiter));
}

static int
do_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  return answer (relay_trim (relay, count, offset,
                             flags & NBDKIT_FLAG_FUA ? RELAY_FUA : 0, &waiter));
}

static int
do_flush (void *handle, uint32_t flags)
{
  struct handle *h = handle;

  (void)flags;
  if (relay_flush (relay, &h->seen, &waiter) == -1)
    return answer (-1);
  if (!owed_error_tell (&owed, &h->seen))
    return 0;
  nbdkit_set_error (EIO);
  return -1;
}

static int
do_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  (void)flags;
  return answer (relay_cache (relay, count, offset, &waiter));
}

static int
add_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  return nbdkit_add_extent (opaque, offset, length, flags) == -1 ? errno : 0;
}

static int
do_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
            struct nbdkit_extents *extents)
{
  (void)handle;
  (void)flags;
  return answer (
    relay_block_status (relay, count, offset, add_extent, extents, &waiter));
}

static struct nbdkit_plugin plugin = {
  .name = "relay",
  .version = "1.0.0",
  .config = relay_config,
  .magic_config_key = "uri",
  .after_fork = relay_after_fork,
  .cleanup = relay_cleanup,
  .unload = relay_unload,
  .open = relay_open_handle,
  .close = relay_close_handle,
  .get_size = relay_get_size,
  .can_multi_conn = yes,
  .can_write = yes,
  .can_flush = yes,
  .can_trim = yes,
  .can_zero = yes,
  .can_fast_zero = yes,
  .can_extents = yes,
  .can_fua = native,
  .can_cache = native_cache,
  .pread = relay_pread,
  .pwrite = relay_pwrite,
  .zero = do_zero,
  .trim = do_trim,
  .flush = do_flush,
  .cache = do_cache,
  .extents = do_extents,
  .errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN (plugin)
