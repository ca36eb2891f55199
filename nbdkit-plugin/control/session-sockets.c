/* SPDX-License-Identifier: BSD-3-Clause */

#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "export/export.h"
#include "export/mirroring.h"
#include "gaps/linger.h"
#include "session-sockets.h"

/* A process that dies closes its sockets a little before it is dead. */
#define DYING_MS 100

/* Shorter ones make no difference. */
#define RECORDED_DELAY_MS (QUARANTINE_GRACE_MS / QUARANTINE_FACTOR)

void
session_sockets_keep (struct export *e, const struct session_sockets *sockets)
{
  struct session *s = &e->session;

  memcpy (s->fds, sockets->fds, sockets->nr_fds * sizeof *sockets->fds);
  s->nr_fds = sockets->nr_fds;
  s->ledger = sockets->ledger;
  if (sockets->nr_source_fds == 0)
    return;
  memcpy (s->source_fds, sockets->source_fds,
          sockets->nr_source_fds * sizeof *sockets->source_fds);
  s->nr_source_fds = sockets->nr_source_fds;
}

bool
session_sockets_add_source (struct export *e, const int *fds, size_t n)
{
  struct session *s = &e->session;

  if (n > sizeof s->source_fds / sizeof s->source_fds[0] - s->nr_source_fds)
    return false;
  memcpy (&s->source_fds[s->nr_source_fds], fds, n * sizeof *fds);
  s->nr_source_fds += n;
  return true;
}

void
session_sockets_leave_source (struct export *e)
{
  struct session *s = &e->session;

  linger_add (s->source_fds, s->nr_source_fds, s->process);
  s->nr_source_fds = 0;
}

static bool
same_socket (int a, int b)
{
  struct stat sa, sb;

  return fstat (a, &sa) == 0 && fstat (b, &sb) == 0 && sa.st_dev == sb.st_dev &&
         sa.st_ino == sb.st_ino;
}

static bool
is_among (int fd, const struct session_sockets *sockets)
{
  if (sockets == NULL)
    return false;
  for (size_t i = 0; i < sockets->nr_fds; i++)
    if (same_socket (fd, sockets->fds[i]))
      return true;
  return false;
}

/* What is owed on one of them.  Without a ledger everything may be, and since
 * the session began, unless nothing was written that is not known to have been
 * answered.
 */
static struct ledger_line
line_of (struct export *e, size_t i)
{
  struct tracker_status t;

  if (e->session.ledger != NULL)
    return ledger_read (&e->session.ledger->lines[i]);
  tracker_get_status (e->tracker, &t);
  if (t.leased_bytes + t.quarantined_bytes == 0)
    return (struct ledger_line){ 0 };
  return (struct ledger_line){ .since_us = e->session.began_us };
}

static bool
owes_any (struct export *e)
{
  for (size_t i = 0; i < e->session.nr_fds; i++)
    if (line_of (e, i).since_us != 0)
      return true;
  return false;
}

/* Nobody but us can send on its sockets: it has said so, or it is dead. */
static bool
is_alone (const struct session *s)
{
  struct pollfd pfd = { .fd = s->process, .events = POLLIN };

  return s->promised || (s->process != -1 && poll (&pfd, 1, DYING_MS) == 1);
}

/* R7: nothing more is sent, whatever becomes of the migrator. */
void
session_sockets_give_up (struct export *e, const struct session_sockets *keep)
{
  struct session *s = &e->session;
  const bool alone = owes_any (e) && is_alone (s);

  for (size_t i = 0; i < s->nr_fds; i++) {
    const struct ledger_line line = line_of (e, i);

    if (is_among (s->fds[i], keep)) {
      close (s->fds[i]);
      continue;
    }
    tracker_note_delay (e->tracker, line.slowest_us / 1000);
    tracker_note_delay (e->tracker,
                        old_connections_add (&s->old, s->fds[i], &line, alone));
  }
  s->nr_fds = 0;
  ledger_close (s->ledger);
  s->ledger = NULL;
}

bool
session_sockets_look (struct export *e)
{
  struct session *s = &e->session;
  struct tracker_status t;
  uint64_t delay_ms;

  if (old_connections_look (&s->old, &delay_ms)) {
    tracker_note_delay (e->tracker, delay_ms);
    if (s->old.doubt)
      tracker_renew_quarantine (e->tracker);
  }
  tracker_get_status (e->tracker, &t);
  /* The doubt about an earlier one outlives the quarantine of this one. */
  if (t.quarantined_bytes == 0 && !s->late_elsewhere)
    old_connections_settle (&s->old);
  if (s->old.n > 0 || mirroring_is_late (e))
    return true;
  if (!s->old.doubt)
    tracker_end_quarantine (e->tracker);
  return false;
}

size_t
session_sockets_late (struct export *e)
{
  return e->session.old.n + mirroring_is_late (e);
}

uint64_t
session_sockets_late_ms (struct export *e)
{
  const uint64_t old = old_connections_age_ms (&e->session.old);
  struct mirroring_status s;

  mirroring_get_status (e, &s);
  return old > (uint64_t)s.mirror.late_ms ? old : (uint64_t)s.mirror.late_ms;
}

bool
session_sockets_note_delays (struct export *e)
{
  const struct session *s = &e->session;
  struct tracker_status t;

  for (size_t i = 0; i < s->nr_fds && s->ledger != NULL; i++) {
    const struct ledger_line line = ledger_read (&s->ledger->lines[i]);
    const int64_t age_ms = clock_ms () - line.since_us / 1000;

    if (line.slowest_us > 0)
      tracker_note_delay (e->tracker, line.slowest_us / 1000);
    if (line.since_us != 0 && age_ms > 0)
      tracker_note_delay (e->tracker, age_ms);
  }
  tracker_get_status (e->tracker, &t);
  return t.delay_ms >= RECORDED_DELAY_MS &&
         t.delay_ms >= 2 * (uint64_t)e->recorded_delay_ms;
}
