/* SPDX-License-Identifier: BSD-3-Clause */
/* A round trip over every connection in use: is the destination there now
 * (R11)?
 *
 * That a connection is open says nothing: a server that is stopped, or behind a
 * network that is away, keeps it open for as long as nothing is sent.  So each
 * is pinged, and any answer will do, an error too.  A round that is not over
 * when its caller returns goes on, and the next caller waits for it.
 */

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

/* L. */
static bool
is_pending (const struct relay *r)
{
  return r->probe.begun && remote_is_pinged (&r->remote);
}

/* L; released meanwhile.  Nobody else probes. */
static void
begin (struct relay *r)
{
  r->probe.begun = true;
  r->probe.since_ms = clock_ms ();
  r->probe.lost_before = r->remote.pings_lost;
  r->probe.failed = !remote_ping (&r->remote);
}

/* L. */
static enum relay_probe
judge (struct relay *r, int64_t *silent_ms)
{
  *silent_ms = 0;
  if (!r->remote.up || !r->probe.begun || r->probe.failed)
    return RELAY_AWAY;
  if (is_pending (r)) {
    *silent_ms = clock_ms () - r->probe.since_ms;
    return RELAY_SILENT;
  }
  return r->remote.pings_lost == r->probe.lost_before ? RELAY_ANSWERS
                                                      : RELAY_AWAY;
}

/* Not for longer than that.  L. */
static void
wait_for_answers (struct relay *r, struct request *q, int64_t until_ms)
{
  while (is_pending (r) && clock_ms () < until_ms && request_wait (q) == 0)
    ;
}

enum relay_probe
relay_probe (struct relay *r, unsigned timeout_ms,
             const struct relay_waiter *waiter, bool *begun, int64_t *silent_ms)
{
  const int64_t until = clock_ms () + timeout_ms;
  struct request q = { .relay = r, .waiter = waiter };
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  *begun = false;
  if (r->probing) /* for another caller: it is pending */
    return judge (r, silent_ms);
  r->probing = true;
  if (!is_pending (r) && !r->remote.stopping) {
    begin (r);
    *begun = true;
  }
  wait_for_answers (r, &q, until);
  r->probing = false;
  return judge (r, silent_ms);
}
