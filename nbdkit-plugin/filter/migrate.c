/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit's side of the filter: the callbacks, and no more.
 *
 * nbdkit calls .config and .get_ready while it can still print errors, then
 * may change its user and fork, then calls .after_fork; .cleanup comes when
 * all NBD connections are closed.
 *
 * With a shared context (export.h), and after a pivot, nbdkit's 'next' may be
 * NULL, so every callback that nbdkit would otherwise pass on by itself must be
 * here.  A connection without a source offers everything: the relay makes up
 * for what the destination lacks.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "announcement.h"
#include "cleanup.h"
#include "base/config.h"
#include "base/nbdkit-version.h"
#include "control/control.h"
#include "export/local-watch.h"
#include "export/mark.h"
#include "export/mirroring.h"
#include "export/place.h"
#include "state/directory.h"
#include "export/export.h"
#include "gaps/hangup.h"
#include "gaps/linger.h"
#include "gaps/quit.h"
#include "relay/relay.h"
#include "dump.h"
#include "request.h"
#include "view.h"

/* Longer descriptions never reach the client (libnbd). */
#define DESCRIPTION_MAX 4095

/* ---- The life of the server -------------------------------------------- */

static int
migrate_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
                const char *key, const char *value)
{
  const int r = config_parameter (key, value);

  return r == 0 ? next (nxdata, key, value) : r == 1 ? 0 : -1;
}

static int
migrate_config_complete (nbdkit_next_config_complete *next,
                         nbdkit_backend *nxdata)
{
  if (config_complete () == -1)
    return -1;
  return next (nxdata);
}

static int
migrate_get_ready (int thread_model)
{
  if (thread_model <= NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS) {
    nbdkit_error (
      "migrate: the plugin, or another filter, serves one request at a time "
      "for all connections (its thread model is %s): a write that waits at "
      "the gate would block the migrator's reads, so such a disk cannot be "
      "moved while it is in use",
      thread_model == NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
        ? "serialize_all_requests"
        : "serialize_connections");
    return -1;
  }
  local_set_thread_model (thread_model);
  return directory_claim ();
}

static void
wake_export (struct export *e, void *opaque)
{
  (void)opaque;
  tracker_wake (e->tracker);
  throttle_stop (&e->throttle);
  flushes_stop (&e->local.flushes);
  place_stop_all (e);
  mirroring_stop (e);
}

/* The server quits. */
static void
wake_waiting (void)
{
  export_foreach (wake_export, NULL);
}

static int
migrate_after_fork (nbdkit_backend *backend)
{
  (void)backend;
  if (directory_check () == -1 || mark_check () == -1)
    return -1;
  hangup_init (directory_socket ());
  if (quit_watch_start (wake_waiting) == -1 || local_watch_start () == -1)
    return -1;
  return control_start (directory_socket ());
}

static void
migrate_cleanup (nbdkit_backend *backend)
{
  bool ended;

  (void)backend;
  control_stop ();
  linger_stop ();
  quit_watch_join ();
  local_watch_stop ();
  ended = exports_end ();
  directory_release (export_is_late);
  if (!ended) /* nbdkit would take away the plugin from under a thread */
    _exit (EXIT_SUCCESS);
  exports_free ();
}

static void
migrate_unload (void)
{
  config_free ();
}

/* ---- The life of a connection ------------------------------------------ */

static const char *
migrate_default_export (nbdkit_next_default_export *next,
                        nbdkit_backend *nxdata, int readonly, int is_tls)
{
  const char *name = next (nxdata, readonly);

  (void)is_tls;
  if (name)
    export_set_default (name);
  return name;
}

/* Open the plugin for this connection, if it is needed: not after a pivot, when
 * it may not be there any more.  1: it is open, 0: it is not, -1: error
 * (reported).
 */
static int
open_source (struct export *e, nbdkit_next_open *next, nbdkit_context *context,
             int readonly, const char *exportname)
{
  int r;

  if (!place_needs_local (e))
    return 0;
  if (local_is_shared (&e->local))
    r = local_refresh (e, nbdkit_context_get_backend (context), readonly);
  else
    r = next (context, readonly, exportname);
  return r == 0 ? 1 : -1;
}

/* The process at the other end, if it has a control connection: it may become
 * the session.  0: it has none, or is not known.
 */
static int64_t
session_pid (void)
{
  struct sockaddr_storage addr;
  socklen_t len = sizeof addr;
  int64_t pid;

  if (!control_has_clients () ||
      nbdkit_peer_name ((struct sockaddr *)&addr, &len) == -1 ||
      addr.ss_family != AF_UNIX)
    return 0;
  pid = nbdkit_peer_pid ();
  return pid > 0 && control_has_process (pid) ? pid : 0;
}

static void *
migrate_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
              const char *exportname, int is_tls)
{
  nbdkit_backend *backend = nbdkit_context_get_backend (context);
  const bool view = view_is_meant (exportname);
  struct export *e = view ? view_open (backend, readonly)
                          : export_open (backend, readonly, exportname);
  struct handle *h;
  unsigned returns;
  enum owner owner;
  int r;

  (void)is_tls;
  if (e == NULL)
    return NULL;
  returns = local_returns (&e->local);
  r = view ? 1 : open_source (e, next, context, readonly, exportname);
  if (r == -1)
    return NULL;
  h = calloc (1, sizeof *h);
  if (h == NULL) {
    nbdkit_error ("migrate: calloc: %m");
    return NULL;
  }
  owner = tracker_owner (e->tracker);
  h->export = e;
  pthread_mutex_init (&h->asking, NULL);
  h->no_source = r == 0;
  if (h->no_source)
    local_connected_elsewhere (&e->local);
  h->readonly = readonly;
  h->returns = returns;
  h->view = view;
  h->peer_pid = view ? nbdkit_peer_pid () : 0;
  h->session_pid = view ? 0 : session_pid ();
  h->errors_seen = owed_error_seen (&e->owed);
  h->was_served = owner == OWNER_SOURCE || owner == OWNER_DESTINATION;
  return h;
}

static void
migrate_close (void *handle)
{
  struct handle *h = handle;

  pthread_mutex_destroy (&h->asking);
  free (h);
}

/* What was true when the export was opened first must still be so. */
static int
migrate_prepare (nbdkit_next *next, void *handle, int readonly)
{
  const struct handle *h = handle;
  int r;

  (void)readonly;
  if (h->no_source || h->view || local_is_shared (&h->export->local))
    return 0;
  r = next->can_multi_conn (next);
  if (r == 0)
    nbdkit_error ("migrate: export \"%s\": the plugin offers no multi-conn "
                  "any more; restart nbdkit",
                  h->export->name);
  return r == 1 ? 0 : -1;
}

static int
migrate_finalize (nbdkit_next *next, void *handle)
{
  (void)next;
  (void)handle;
  return 0;
}

static int64_t
migrate_get_size (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;
  nbdkit_next *plugin;
  int64_t size;

  if (h->no_source)
    return h->export->disk_bytes;
  plugin = local_begin (&h->export->local, next);
  size = plugin->get_size (plugin);
  local_end (&h->export->local, next, plugin);
  if (size == -1 || (uint64_t)size == h->export->disk_bytes)
    return size;
  nbdkit_error ("migrate: export \"%s\": its size was %" PRIu64 " bytes and "
                "is %" PRIi64 " now; restart nbdkit",
                h->export->name, h->export->disk_bytes, size);
  return -1;
}

/* The first 'len' bytes of a text, less what would be a part of a character. */
static int
cut_text (const char *text, int len)
{
  while (len > 0 && (text[len] & 0xc0) == 0x80)
    len--;
  return len;
}

/* The plugin's own text, or NULL. */
static const char *
local_description (struct handle *h, nbdkit_next *next)
{
  nbdkit_next *plugin;
  const char *text;

  if (h->no_source)
    return NULL;
  plugin = local_begin (&h->export->local, next);
  text = plugin->export_description (plugin);
  if (text) /* it may be the context's */
    text = nbdkit_strdup_intern (text);
  local_end (&h->export->local, next, plugin);
  return text;
}

/* That, then the lines that lead to the control socket. */
static const char *
migrate_export_description (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;
  struct route route;
  const bool relays =
    tracker_route (h->export->tracker, &route) && route.place != PLACE_LOCAL;
  const char *relay = relays ? "\n" ANNOUNCE_RELAY "yes" : "";
  const size_t ours = 1 + strlen (ANNOUNCE_CONTROL) + strlen (config.control) +
                      1 + strlen (ANNOUNCE_ID) + strlen (h->export->id) +
                      strlen (relay);
  const char *text;
  size_t len;

  if (h->view) /* it leads nowhere */
    return "the local image of a disk that is elsewhere";
  text = local_description (h, next);
  len = text ? strlen (text) : 0;
  if (len > DESCRIPTION_MAX - ours)
    len = cut_text (text, DESCRIPTION_MAX - ours);
  return nbdkit_printf_intern ("%.*s%s" ANNOUNCE_CONTROL "%s\n" ANNOUNCE_ID
                               "%s%s",
                               (int)len, text ? text : "", len > 0 ? "\n" : "",
                               config.control, h->export->id, relay);
}

static int
migrate_block_size (nbdkit_next *next, void *handle, uint32_t *minimum,
                    uint32_t *preferred, uint32_t *maximum)
{
  struct handle *h = handle;
  nbdkit_next *plugin;
  int r;

  if (h->no_source)
    return local_block_size_elsewhere (&h->export->local, minimum, preferred,
                                       maximum);
  plugin = local_begin (&h->export->local, next);
  r = plugin->block_size (plugin, minimum, preferred, maximum);
  local_end (&h->export->local, next, plugin);
  return r;
}

/* ---- What the export can ----------------------------------------------- */

/* As the side that the connection has opened offers it. */
static int
ask_side (void *handle, nbdkit_next *next, enum fact fact)
{
  const struct handle *h = handle;
  const struct side *side = h->no_source ? &remote_side : &local_side;

  return side->fact (h, next, fact);
}

static int
migrate_can_write (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_WRITE);
}

static int
migrate_can_flush (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_FLUSH);
}

static int
migrate_is_rotational (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_IS_ROTATIONAL);
}

static int
migrate_can_trim (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_TRIM);
}

static int
migrate_can_zero (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_ZERO);
}

static int
migrate_can_fast_zero (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_FAST_ZERO);
}

static int
migrate_can_extents (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_EXTENTS);
}

static int
migrate_can_fua (nbdkit_next *next, void *handle)
{
  return ask_side (handle, next, FACT_CAN_FUA);
}

/* The session reads by it, into shared memory. */
static int
migrate_can_cache (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->session_pid != 0 ? NBDKIT_CACHE_NATIVE
                             : ask_side (handle, next, FACT_CAN_CACHE);
}

/* Always: either the plugin has it, or all connections share one context. */
static int
migrate_can_multi_conn (nbdkit_next *next, void *handle)
{
  (void)next;
  (void)handle;
  return 1;
}

/* ---- Requests ---------------------------------------------------------- */

static int
migrate_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  return request_serve (&(struct io){ .type = IO_READ,
                                      .handle = handle,
                                      .next = next,
                                      .buffer = buf,
                                      .count = count,
                                      .offset = offset,
                                      .flags = flags,
                                      .err = err });
}

static int
migrate_pwrite (nbdkit_next *next, void *handle, const void *buf,
                uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  return request_serve (&(struct io){ .type = IO_WRITE,
                                      .handle = handle,
                                      .next = next,
                                      .data = buf,
                                      .count = count,
                                      .offset = offset,
                                      .flags = flags,
                                      .err = err });
}

static int
migrate_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  return request_serve (&(struct io){ .type = IO_ZERO,
                                      .handle = handle,
                                      .next = next,
                                      .count = count,
                                      .offset = offset,
                                      .flags = flags,
                                      .err = err });
}

static int
migrate_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  return request_serve (&(struct io){ .type = IO_TRIM,
                                      .handle = handle,
                                      .next = next,
                                      .count = count,
                                      .offset = offset,
                                      .flags = flags,
                                      .err = err });
}

static int
migrate_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  return request_serve (&(struct io){ .type = IO_FLUSH,
                                      .handle = handle,
                                      .next = next,
                                      .flags = flags,
                                      .err = err });
}

static int
migrate_extents (nbdkit_next *next, void *handle, uint32_t count,
                 uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents, int *err)
{
  return request_serve (&(struct io){ .type = IO_EXTENTS,
                                      .handle = handle,
                                      .next = next,
                                      .count = count,
                                      .offset = offset,
                                      .flags = flags,
                                      .extents = extents,
                                      .err = err });
}

static int
migrate_cache (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
               uint32_t flags, int *err)
{
  return request_serve (&(struct io){ .type = IO_CACHE,
                                      .handle = handle,
                                      .next = next,
                                      .count = count,
                                      .offset = offset,
                                      .flags = flags,
                                      .err = err });
}

static struct nbdkit_filter filter = {
  .name = "migrate",
  .longname = "nbdkit migrate filter",
  .description = "Move a disk to another NBD server while it is in use, "
                 "see nbdmigrate(1).",
  .unload = migrate_unload,
  .config = migrate_config,
  .config_complete = migrate_config_complete,
  .config_help = config_help,
#if NBDKIT_HAS_FILTER_DUMP
  .dump_plugin = dump_filter,
#endif
  .get_ready = migrate_get_ready,
  .after_fork = migrate_after_fork,
  .cleanup = migrate_cleanup,
  .default_export = migrate_default_export,
  .open = migrate_open,
  .close = migrate_close,
  .prepare = migrate_prepare,
  .finalize = migrate_finalize,
  .get_size = migrate_get_size,
  .export_description = migrate_export_description,
  .block_size = migrate_block_size,
  .can_write = migrate_can_write,
  .can_flush = migrate_can_flush,
  .is_rotational = migrate_is_rotational,
  .can_trim = migrate_can_trim,
  .can_zero = migrate_can_zero,
  .can_fast_zero = migrate_can_fast_zero,
  .can_extents = migrate_can_extents,
  .can_fua = migrate_can_fua,
  .can_multi_conn = migrate_can_multi_conn,
  .can_cache = migrate_can_cache,
  .pread = migrate_pread,
  .pwrite = migrate_pwrite,
  .zero = migrate_zero,
  .trim = migrate_trim,
  .flush = migrate_flush,
  .extents = migrate_extents,
  .cache = migrate_cache,
};

NBDKIT_REGISTER_FILTER (filter)
