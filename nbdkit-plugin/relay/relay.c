/* SPDX-License-Identifier: BSD-3-Clause */
/* Open, stop, close a relay, and look at it. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/clock.h"
#include "internal.h"

#define STOP_REQUESTS_MS 500

/* Free what the relay holds; its threads are gone. */
static void
free_relay (struct relay *r)
{
  if (r->next != NULL)
    connection_close (r->next);
  mend_free_all (r);
  range_lock_destroy (&r->ranges);
  relay_log_free (r->log);
  remote_destroy (&r->remote);
  pthread_cond_destroy (&r->work);
  pthread_cond_destroy (&r->watch);
  pthread_cond_destroy (&r->mend);
  pthread_cond_destroy (&r->job);
  free (r->next_uri);
  free (r->lost_why);
  free (r->uri);
  free (r);
}

static struct relay *
new_relay (const char *uri, const struct relay_options *options)
{
  struct relay *r = calloc (1, sizeof *r);
  const struct remote_options remote_options = {
    .disk_bytes = options->disk_bytes,
    .silent_ms = options->silent_ms,
    .unheard_ms = options->unheard_ms,
    .require_tls = options->require_tls,
  };
  const struct remote_user user = { .lost = relay_lost, .opaque = r };

  if (r == NULL)
    return NULL;
  remote_init (&r->remote, &remote_options, &user);
  pthread_cond_init (&r->work, NULL);
  pthread_cond_init (&r->watch, NULL);
  pthread_cond_init (&r->mend, NULL);
  pthread_cond_init (&r->job, NULL);
  range_lock_init (&r->ranges, 1);
  r->options = *options;
  r->remote.longest_ms = options->delay_ms;
  if (r->options.connections < 1)
    r->options.connections = 1;
  if (r->options.connections > REMOTE_CONNECTIONS_MAX)
    r->options.connections = REMOTE_CONNECTIONS_MAX;
  r->failed_flushes = r->options.failed_before;
  if (r->options.takes_over)
    witness_inherit (&r->witnesses);
  if (owed_error_count (options->owed) > 0) /* which the one before has left */
    witness_flush_failed (&r->witnesses);
  r->uri = strdup (uri);
  r->log = relay_log_new (relay_rest_log_bytes (options));
  if (r->uri == NULL || r->log == NULL) {
    free_relay (r);
    return NULL;
  }
  return r;
}

static int
start_threads (struct relay *r)
{
  sigset_t all, old;
  int e;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  e = pthread_create (&r->watcher, NULL, relay_watcher, r);
  if (e == 0) {
    e = pthread_create (&r->mender, NULL, relay_mender, r);
    if (e == 0)
      e = pthread_create (&r->keeper, NULL, relay_keeper, r);
    else
      r->mender = r->watcher;
    if (e != 0) {
      relay_stop (r);
      pthread_join (r->watcher, NULL);
      if (!pthread_equal (r->mender, r->watcher))
        pthread_join (r->mender, NULL);
    }
  }
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return e;
}

static int
fail_to_start (struct connection *c, int error, char **why)
{
  if (asprintf (why, "starting: %s", strerror (error)) == -1)
    *why = NULL;
  connection_close (c);
  return -1;
}

/* R17: what another process has sent may land anywhere.  -1 without memory.
 * L.
 */
static int
suspect_everything (struct relay *r, int64_t until)
{
  struct range_node all;

  range_lock_enter (&r->ranges, &all, 0, r->options.disk_bytes);
  return range_lock_leave_suspect (&r->ranges, &all, until);
}

/* It begins as if it had been lost: with this connection the keeper comes back.
 */
static int
start_to_restore (struct relay *r, struct connection *c, char **why)
{
  char *next_uri = strdup (r->uri);
  int e;

  if (next_uri == NULL)
    return fail_to_start (c, ENOMEM, why);
  pthread_mutex_lock (&r->remote.lock);
  r->next = c;
  r->next_uri = next_uri;
  r->remote.destination = c->destination;
  r->ranges.block_bytes = c->destination.minimum;
  relay_take_rest (r);
  e = r->options.takes_over && suspect_everything (r, RANGE_NEVER) == -1
        ? ENOMEM
        : 0;
  pthread_mutex_unlock (&r->remote.lock);
  if (e == 0)
    e = start_threads (r);
  if (e == 0)
    return 0;
  r->next = NULL;
  return fail_to_start (c, e, why);
}

/* -1: *why, which may be NULL. */
static int
start (struct relay *r, const struct relay_waiter *waiter, char **why)
{
  const struct attempt attempt = {
    .uri = r->uri,
    .deadline_ms = clock_ms () + r->options.connect_ms,
    .alive = waiter ? waiter->alive : NULL,
    .alive_opaque = waiter ? waiter->opaque : NULL,
  };
  struct connection *c = remote_connect (&r->remote, &attempt, why);
  int e;

  if (c == NULL)
    return -1;
  if (r->options.rest != NULL)
    return start_to_restore (r, c, why);
  e = connection_start (c) == -1 ? errno : 0;
  if (e == 0) {
    pthread_mutex_lock (&r->remote.lock);
    r->remote.up = true;
    r->up_ms = clock_ms ();
    r->remote.destination = c->destination;
    r->ranges.block_bytes = c->destination.minimum;
    remote_serve (&r->remote, c);
    if (r->options.takes_over &&
        suspect_everything (r, r->up_ms + relay_grace_ms (r)) == -1)
      e = ENOMEM;
    pthread_mutex_unlock (&r->remote.lock);
  }
  if (e == 0)
    e = start_threads (r);
  return e == 0 ? 0 : fail_to_start (c, e, why);
}

struct relay *
relay_open (const char *uri, const struct relay_options *options,
            const struct relay_waiter *waiter, char **why)
{
  CLEANUP_FREE char *reason = NULL;
  struct relay *r;

  assert (options->owed != NULL);
  *why = NULL;
  r = new_relay (uri, options);
  if (r == NULL)
    return NULL;
  if (start (r, waiter, &reason) == -1) {
    if (asprintf (why, "server %s: %s", uri, reason ? reason : "no memory") ==
        -1)
      *why = NULL;
    free_relay (r);
    return NULL;
  }
  return r;
}

void
relay_stop (struct relay *r)
{
  pthread_mutex_lock (&r->remote.lock);
  if (!r->remote.stopping) {
    r->remote.stopping = true;
    r->remote.stop_ms = clock_ms () + STOP_REQUESTS_MS;
  }
  pthread_cond_broadcast (&r->remote.changed);
  pthread_cond_signal (&r->work);
  pthread_cond_signal (&r->watch);
  pthread_cond_signal (&r->mend);
  pthread_cond_broadcast (&r->job);
  pthread_mutex_unlock (&r->remote.lock);
}

void
relay_close_keeping (struct relay *r, relay_keep *keep, void *opaque)
{
  relay_stop (r);
  pthread_join (r->keeper, NULL);
  pthread_join (r->watcher, NULL);
  pthread_join (r->mender, NULL);
  limit_join (r);
  if (keep != NULL)
    relay_leave_rest (r, keep, opaque);
  free_relay (r);
}

/* L. */
static int64_t
oldest_ms (const struct relay *r)
{
  const struct command *cmd = remote_oldest (&r->remote);

  return cmd == NULL ? 0 : clock_ms () - cmd->sent_ms;
}

void
relay_close (struct relay *r)
{
  relay_close_keeping (r, NULL, NULL);
}

void
relay_note_delay (struct relay *r, uint64_t ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  if (r->remote.longest_ms < (int64_t)ms)
    r->remote.longest_ms = ms;
}

void
relay_get_status (struct relay *r, struct relay_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  *s = (struct relay_status){
    .up = r->remote.up,
    .failing = relay_is_over (r, 0),
    .held = r->held,
    .connections = r->remote.nr_connections,
    .requests_in_flight = remote_in_flight (&r->remote),
    .silent_ms = remote_silent_ms (&r->remote, clock_ms ()),
    .oldest_request_ms = oldest_ms (r),
    .longest_answer_ms = remote_longest_ms (&r->remote),
    .losses = r->losses,
    .replayed_writes = r->replayed,
    .own_flushes = r->own_flushes,
    .errors = owed_error_count (r->options.owed),
    .failed_flushes = r->failed_flushes,
    .log_used_bytes = relay_log_used (r->log),
    .destination_bytes = r->remote.destination.bytes,
    .peer = r->remote.destination.peer,
    .minimum_block_bytes = r->remote.destination.minimum,
    .maximum_block_bytes = r->remote.destination.maximum,
  };
}

size_t
relay_sockets (struct relay *r, int *fds, size_t max)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  size_t n = 0;

  errno = 0;
  for (unsigned i = 0; i < r->remote.nr_connections && n < max; ++i) {
    fds[n] = fcntl (r->remote.connections[i]->fd, F_DUPFD_CLOEXEC, 0);
    if (fds[n] >= 0)
      ++n;
  }
  return n;
}
