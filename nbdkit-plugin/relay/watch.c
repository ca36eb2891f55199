/* SPDX-License-Identifier: BSD-3-Clause */
/* The watcher: a thread that looks at the relay once a second, as long as
 * something is under way, and never waits for the destination.
 *
 * A server that is silent is shown and asked for a sign of life; nothing else
 * follows from silence (R17).  A relay that is idle has what it wrote flushed,
 * so that nothing is at stake any more, and gives its memory back.  How slow
 * the server was at its slowest is told to the user, who remembers it.
 */

#include <time.h>

#include "base/clock.h"
#include "internal.h"

#define TICK_MS 1000
#define NOTICE_MS 5000        /* unanswered for so long: it is told */
#define FLUSH_NOTICE_MS 60000 /* a flush takes what a disk needs */
#define IDLE_TICKS 3          /* without writes: flush */
#define RELEASE_TICKS 10      /* and with an empty log: give memory back */

struct watcher {
  struct relay *relay;
  bool said;             /* that something is unanswered */
  int64_t late_since_ms; /* when that was sent */
  int64_t delay_ms;      /* the longest that was told, or was known before */
  uint64_t acknowledged; /* writes at the last tick */
  unsigned quiet_ticks;  /* since when that has not changed */
};

static const char *
kind_name (enum command_kind kind)
{
  static const char *const names[] = {
    [COMMAND_READ] = "read",           [COMMAND_WRITE] = "write",
    [COMMAND_ZERO] = "zero",           [COMMAND_TRIM] = "trim",
    [COMMAND_FLUSH] = "flush",         [COMMAND_CACHE] = "cache",
    [COMMAND_STATUS] = "block status",
  };

  return names[kind];
}

static bool
is_late (const struct command *cmd, int64_t now)
{
  return now - cmd->sent_ms >=
         (cmd->kind == COMMAND_FLUSH ? FLUSH_NOTICE_MS : NOTICE_MS);
}

/* Once when it begins, and once when it is over.  L; released meanwhile. */
static void
tell (struct watcher *w, int64_t now)
{
  struct relay *r = w->relay;
  const struct command *cmd = remote_oldest (&r->remote);
  const bool late = cmd != NULL && is_late (cmd, now);

  if (late == w->said)
    return;
  w->said = late;
  if (late) {
    w->late_since_ms = cmd->sent_ms;
    relay_notice_locked (r,
                         "it has not answered a %s of %llu bytes at %llu for "
                         "%lld ms; the answer is waited for",
                         kind_name (cmd->kind), (unsigned long long)cmd->length,
                         (unsigned long long)cmd->offset,
                         (long long)(now - cmd->sent_ms));
  }
  else if (r->remote.up)
    relay_good_news_locked (r, "all requests are answered again, after %lld ms",
                            (long long)(now - w->late_since_ms));
}

/* R17: it is not to be known by this process only.  But it is remembered in the
 * record, and what is kept and was not sent again yet is of that record as it
 * was (R13).  L; released meanwhile.
 */
static void
tell_delay (struct watcher *w)
{
  struct relay *r = w->relay;
  const int64_t ms = remote_longest_ms (&r->remote);
  bool told;

  if (r->options.delayed == NULL || r->restoring ||
      2 * ms < r->options.grace_ms || ms < 2 * w->delay_ms)
    return;
  pthread_mutex_unlock (&r->remote.lock);
  told = r->options.delayed (r->options.opaque, (uint64_t)ms);
  pthread_mutex_lock (&r->remote.lock);
  if (told)
    w->delay_ms = ms;
}

/* Whether the server lives that left something unanswered for so long: also
 * over connections that have nothing to do, so that a server that hangs is told
 * from one that is busy with one request.  L; released meanwhile.
 */
static void
ask (struct relay *r, int64_t now)
{
  const struct command *oldest = remote_oldest (&r->remote);

  if (oldest == NULL || now - oldest->sent_ms < r->options.silent_ms)
    return;
  for (unsigned i = 0; i < r->remote.nr_connections; ++i) {
    struct connection *c = r->remote.connections[i];

    if (c->in_flight == c->flushes || !connection_is_usable (c, now))
      connection_ping (c);
  }
}

static uint64_t
count_acknowledged (const struct relay *r)
{
  uint64_t n = 0;

  for (unsigned i = 0; i < r->remote.nr_connections; ++i)
    n += r->remote.connections[i]->acknowledged;
  return n;
}

static void
look_after_log (struct watcher *w)
{
  struct relay *r = w->relay;
  const uint64_t acknowledged = count_acknowledged (r);

  w->quiet_ticks = acknowledged == w->acknowledged ? w->quiet_ticks + 1 : 0;
  w->acknowledged = acknowledged;
  if (w->quiet_ticks >= IDLE_TICKS)
    relay_want_flush (r);
  if (w->quiet_ticks == RELEASE_TICKS && relay_log_empty (r->log))
    relay_log_release (r->log);
}

static bool
has_nothing_to_do (const struct watcher *w)
{
  const struct relay *r = w->relay;

  return remote_in_flight (&r->remote) == 0 && relay_log_empty (r->log) &&
         w->quiet_ticks > RELEASE_TICKS;
}

/* L. */
static void
sleep_a_while (struct watcher *w)
{
  struct relay *r = w->relay;
  const int64_t until = clock_ms () + TICK_MS;
  const struct timespec ts = {
    .tv_sec = until / 1000,
    .tv_nsec = until % 1000 * 1000000,
  };

  if (!has_nothing_to_do (w))
    pthread_cond_clockwait (&r->watch, &r->remote.lock, CLOCK_MONOTONIC, &ts);
  else {
    r->watcher_sleeps = true;
    while (r->watcher_sleeps && !r->remote.stopping)
      pthread_cond_wait (&r->watch, &r->remote.lock);
    w->quiet_ticks = 0;
  }
}

void *
relay_watcher (void *opaque)
{
  struct relay *r = opaque;
  struct watcher w = { .relay = r, .delay_ms = r->options.delay_ms };

  pthread_mutex_lock (&r->remote.lock);
  while (!r->remote.stopping) {
    sleep_a_while (&w);
    remote_check (&r->remote);
    if (r->remote.up) {
      ask (r, clock_ms ());
      look_after_log (&w);
    }
    tell (&w, clock_ms ());
    tell_delay (&w);
  }
  pthread_mutex_unlock (&r->remote.lock);
  return NULL;
}

void
relay_wake_watcher (struct relay *r)
{
  if (!r->watcher_sleeps)
    return;
  r->watcher_sleeps = false;
  pthread_cond_signal (&r->watch);
}
