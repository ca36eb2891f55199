/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether the prepared relay's destination answers.  A guest must not be sent
 * to one that does not, and only a round trip of the relay's own shows it.
 */

#include <inttypes.h>

#include "call.h"
#include "cleanup.h"
#include "export/place.h"
#include "relay/relay.h"

/* The session must not fall silent meanwhile (R7). */
#define TIMEOUT_MAX_MS 5000

static const char *
probe_name (enum relay_probe p)
{
  static const char *const names[] = {
    [RELAY_ANSWERS] = "answers",
    [RELAY_SILENT] = "silent",
    [RELAY_AWAY] = "away",
  };

  return names[p];
}

/* The session lock is dropped meanwhile; who ends the session waits. */
json_t *
command_probe (struct call *call)
{
  const struct relay_waiter waiter = { call_is_alive, call };
  struct export *e = call->export;
  enum relay_probe result = RELAY_ANSWERS;
  uint64_t timeout_ms = 0;
  unsigned place;
  int64_t silent_ms = 0;
  bool begun = true;
  struct relay *relay;

  if (call_u64 (call, "timeout_ms", false, &timeout_ms) == -1)
    return NULL;
  if (timeout_ms > TIMEOUT_MAX_MS)
    return call_fail (call, "BadArgument",
                      "\"timeout_ms\": %" PRIu64 " is more than %d", timeout_ms,
                      TIMEOUT_MAX_MS);
  relay = place_borrow (e, &place);
  if (relay != NULL) {
    pthread_mutex_unlock (&e->session.lock);
    result =
      relay_probe (relay, (unsigned)timeout_ms, &waiter, &begun, &silent_ms);
    place_leave (e, place);
    pthread_mutex_lock (&e->session.lock);
  }
  return json_pack ("{s:s, s:b, s:I}", "destination", probe_name (result),
                    "begun", (int)begun, "silent_ms", (json_int_t)silent_ms);
}
