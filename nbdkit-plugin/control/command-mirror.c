/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests' writes on both sides: on, off, and what 'status' tells (R12). */

#include <errno.h>
#include <inttypes.h>

#include "base/config.h"
#include "call.h"
#include "cleanup.h"
#include "command-mirror.h"
#include "export/mirroring.h"
#include "gaps/hangup.h"
#include "uri.h"

#define MAX_MS_DEFAULT 100

static unsigned
default_ms (void)
{
  return config.max_gate_ms < MAX_MS_DEFAULT ? config.max_gate_ms
                                             : MAX_MS_DEFAULT;
}

/* As the migrator does, the mirror writes to the local image by NBD: so a
 * plugin that hangs is waited for no longer than another destination.  -1 after
 * call_fail; *uri may be NULL: it is not needed.
 */
static int
local_uri (struct call *call, char **uri)
{
  const char *path = hangup_listener_path ();

  *uri = NULL;
  if (!uri_is_local (call->export->session.destination))
    return 0;
  if (path == NULL)
    call_fail (call, "Unsupported",
               "mirror: the proxy listens on no Unix socket, by which it could "
               "write to its local image as well");
  else {
    *uri = uri_of_socket (path, URI_LOCAL_EXPORT);
    if (*uri != NULL)
      return 0;
    call_fail (call, "Failed", "mirror: no memory");
  }
  return -1;
}

/* No session has a guest wait for longer than migrate-max-gate (R8).  The
 * answer is given at once; 'status' tells what becomes of it.
 */
json_t *
command_mirror (struct call *call)
{
  struct export *e = call->export;
  uint64_t max_ms = default_ms ();
  CLEANUP_FREE char *uri = NULL;
  bool enabled;

  if (call_bool (call, "enabled", true, &enabled) == -1 ||
      call_u64 (call, "max_ms", false, &max_ms) == -1)
    return NULL;
  if (!enabled) {
    mirroring_disable (e);
    return json_object ();
  }
  if (max_ms == 0 || max_ms > config.max_gate_ms)
    return call_fail (call, "BadArgument",
                      "\"max_ms\": %" PRIu64 " must be from 1 to %u "
                      "(migrate-max-gate)",
                      max_ms, config.max_gate_ms);
  if (e->session.last_end != RECORD_END_NONE)
    return call_fail (call, "BadArgument",
                      "mirror: the migration is committed already");
  if (e->session.nr_fds == 0)
    return call_fail (call, "Busy",
                      "mirror: the session has no connection to the "
                      "destination just now");
  if (local_uri (call, &uri) == -1)
    return NULL;
  if (mirroring_enable (e, uri, max_ms) == 0)
    return json_object ();
  if (errno == EBUSY)
    return call_fail (call, "Busy",
                      "mirror: a write that was mirrored in an earlier session "
                      "is not answered yet, or was lost a moment ago");
  return call_fail (call, "Failed", "mirror: no memory, or no thread");
}

json_t *
mirror_status (struct export *e)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  struct mirroring_status s;
  struct tracker_status t;

  mirroring_get_status (e, &s);
  tracker_get_status (e->tracker, &t);
  return json_pack (
    "{s:s, s:I, s:I, s:I, s:I, s:i, s:s?}", "state", s.state, "writes",
    (json_int_t)t.mirrored, "bytes", (json_int_t)t.mirrored_bytes,
    "not_mirrored_writes", (json_int_t)t.not_mirrored, "demotions",
    (json_int_t)s.mirror.demotions, "unanswered", (int)s.mirror.unanswered,
    "why", s.mirror.why[0] ? s.mirror.why : NULL);
}
