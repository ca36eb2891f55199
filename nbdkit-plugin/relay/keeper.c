/* SPDX-License-Identifier: BSD-3-Clause */
/* The keeper: one thread that looks after the connections.
 *
 * It connects again when the destination was lost, opens further connections
 * when the first one works, and flushes the destination when the log is half
 * full, so that the guests need not wait for room.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/clock.h"
#include "internal.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_LAST_MS 2000
#define STABLE_MS 1000     /* up for so long: start with a short backoff */
#define MORE_FIRST_MS 2000 /* further connections: try again after that */
#define MORE_LAST_MS 60000
#define MORE_CONNECT_MS 2000 /* do not wait longer for one */
#define PROVE_MS 1000        /* for so long, the other work may wait */
#define NOTICE_MS 5000       /* what takes longer is told */
#define STOP_FLUSH_MS 1000
#define STOP_GOODBYE_MS 200

struct keeper {
  struct relay *relay;
  unsigned backoff_ms;
  unsigned more_backoff_ms;
  int64_t more_ms; /* when to try for further connections */
};

/* ---- Taking connections out of use ------------------------------------- */

/* L; released meanwhile. */
static void
close_lost (struct relay *r)
{
  struct connection *out[REMOTE_CONNECTIONS_MAX];
  const unsigned n = remote_withdraw (&r->remote, false, out);

  pthread_mutex_unlock (&r->remote.lock);
  for (unsigned i = 0; i < n; ++i)
    connection_close (out[i]);
  pthread_mutex_lock (&r->remote.lock);
}

/* ---- Coming back ------------------------------------------------------- */

/* Put it in use.  L. */
static void
come_up (struct relay *r, struct connection *c)
{
  r->remote.destination = c->destination;
  r->remote.up = true;
  r->up_ms = clock_ms ();
  r->is_stranger = r->is_unknown = false;
  free (r->lost_why);
  r->lost_why = NULL;
  range_lock_suspects_until (&r->ranges, r->up_ms + relay_grace_ms (r));
  remote_serve (&r->remote, c);
  pthread_cond_broadcast (&r->remote.changed);
}

/* Without the lock. */
static char *
copy_uri (struct relay *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);

  return strdup (r->uri);
}

static bool
is_held (void *opaque)
{
  const struct relay *r = opaque;

  return r->held;
}

/* The connection that the operator had prepared, or a new one. */
static struct connection *
connect_again (struct relay *r, char **why)
{
  struct connection *c = relay_take_next (r);
  CLEANUP_FREE char *uri = copy_uri (r);
  const struct attempt attempt = {
    .uri = uri,
    .deadline_ms = clock_ms () + r->options.connect_ms,
    .urgent = is_held,
    .urgent_opaque = r,
  };

  if (c == NULL && uri != NULL)
    c = relay_connect_again (r, &attempt, why);
  return c;
}

/* Once for each loss, and once while it is up: then it is about a further
 * connection, behind whose address there may be several servers.
 */
static void
say_stranger (struct relay *r, const struct recognition *k, bool further)
{
  if (!r->is_stranger && further)
    relay_notice (r,
                  "a further connection leads to something that does not hold "
                  "what was flushed (at offset %" PRIu64 "): that connection "
                  "is not used",
                  k->offset);
  else if (!r->is_stranger)
    relay_notice (r,
                  "what is there now does not hold what was flushed before it "
                  "was lost (at offset %" PRIu64 "): it is not used.  Bring "
                  "the disk back, or say with \"nbdmigrate reopen\" where it "
                  "is; to go on with what is there, %sstart the proxy again",
                  k->offset,
                  r->restoring ? "move the kept writes away (migrate-dir) and "
                               : "");
  r->is_stranger = true;
}

static void
say_unknown (struct relay *r, const struct recognition *k, bool further)
{
  if (!r->is_unknown)
    relay_notice (r,
                  "whether what %s holds what was flushed%s is not known: of "
                  "%zu pieces that are remembered %zu could be read%s%s.  It "
                  "is not used yet, and asked again",
                  further ? "a further connection leads to" : "is there now",
                  further ? "" : " before it was lost", k->remembered, k->read,
                  k->error != 0 ? ": " : "",
                  k->error != 0 ? strerror (k->error) : "");
  r->is_unknown = true;
}

/* NULL, or why it is not to be used.  Not if it lacks what was flushed: an
 * empty image, another one, a disk of the client's own.  To serve that would
 * undo what the guest was told is durable (R13).
 */
static const char *
not_the_disk (struct relay *r, struct connection *c, bool further)
{
  struct recognition k;

  switch (relay_recognise (r, c, &k)) {
  case 0:
    return NULL;
  case ESTALE:
    say_stranger (r, &k, further);
    return "what is there does not hold what was flushed";
  case EAGAIN:
    say_unknown (r, &k, further);
    return "whether what is there holds what was flushed is not known";
  default:
    return "it was lost again while it was looked at";
  }
}

/* Have it at work, if it is the disk.  NULL, or why not. */
static const char *
start_the_disk (struct relay *r, struct connection *c, bool further)
{
  if (connection_start (c) == -1)
    return "no thread for its connection";
  return not_the_disk (r, c, further);
}

/* One attempt.  -1: *why (NULL: no memory). */
static int
try_to_come_back (struct relay *r, char **why)
{
  const char *refusal;
  struct connection *c;

  *why = NULL;
  c = connect_again (r, why);
  if (c == NULL)
    return -1;
  refusal = start_the_disk (r, c, false);
  if (refusal != NULL) {
    *why = strdup (refusal);
    connection_close (c);
    return -1;
  }
  if (relay_replay (r, c, why) != 0) {
    if (*why == NULL)
      *why = strdup ("it was lost again while unflushed writes were repeated");
    connection_close (c);
    return -1;
  }
  pthread_mutex_lock (&r->remote.lock);
  if (c->lost) {
    pthread_mutex_unlock (&r->remote.lock);
    connection_close (c);
    *why = strdup ("it was lost again");
    return -1;
  }
  come_up (r, c);
  pthread_mutex_unlock (&r->remote.lock);
  return 0;
}

/* Not so long that a guest gives up on a destination that is back. */
static unsigned
longest_backoff (const struct relay *r)
{
  const unsigned part = r->options.reconnect_ms / 10;

  return part < BACKOFF_FIRST_MS  ? BACKOFF_FIRST_MS
         : part < BACKOFF_LAST_MS ? part
                                  : BACKOFF_LAST_MS;
}

/* Sleep before the next attempt.  L. */
static void
back_off (struct keeper *k)
{
  struct relay *r = k->relay;
  const int64_t until = clock_ms () + k->backoff_ms;

  while (!r->remote.stopping && clock_ms () < until)
    remote_wait_changed (&r->remote);
  k->backoff_ms *= 2;
  if (k->backoff_ms > longest_backoff (r))
    k->backoff_ms = longest_backoff (r);
}

/* Until nobody holds it.  False: the relay is stopped.  L; released
 * meanwhile.
 */
static bool
wait_until_free (struct relay *r)
{
  while (r->held && !r->remote.stopping)
    remote_wait_changed (&r->remote);
  return !r->remote.stopping;
}

/* A write that is unanswered on a connection that is still open must not be
 * overtaken by the replay of an older one.  L; released meanwhile.
 */
static void
wait_until_all_lost (struct relay *r)
{
  const int64_t since = clock_ms ();
  bool said = false;

  close_lost (r);
  while (r->remote.nr_connections > 0 && !r->remote.stopping) {
    if (!said && clock_ms () - since >= NOTICE_MS) {
      said = true;
      relay_notice_locked (r, "it has not answered all writes on its other "
                              "connections: they are waited for");
    }
    remote_wait_changed (&r->remote);
    r->answered_ms = clock_ms ();
    close_lost (r);
  }
}

/* Until it is there again or the relay is stopped.  L; released meanwhile. */
static void
come_back (struct keeper *k)
{
  struct relay *r = k->relay;
  const int64_t lost_ms = r->lost_ms;
  const bool lost = !r->restoring;
  bool said = false;
  char *why = NULL;

  r->is_stranger = r->is_unknown = false; /* of a further connection */
  if (lost_ms - r->up_ms >= STABLE_MS)
    k->backoff_ms = BACKOFF_FIRST_MS;
  if (lost)
    relay_notice_locked (r, "lost (%s), connecting again",
                         r->lost_why ? r->lost_why : "the connection broke");
  wait_until_all_lost (r);
  while (wait_until_free (r)) {
    free (why);
    r->trying = true;
    pthread_mutex_unlock (&r->remote.lock);
    const int result = try_to_come_back (r, &why);
    pthread_mutex_lock (&r->remote.lock);
    r->trying = false;
    pthread_cond_broadcast (&r->remote.changed);
    if (result == 0)
      break;
    if (!said && !r->held && relay_is_over (r, 0)) {
      said = true;
      relay_notice_locked (r,
                           "not in use again after %u ms: guest requests fail "
                           "now (%s)",
                           r->options.reconnect_ms, why ? why : "no memory");
    }
    back_off (k);
  }
  free (why);
  if (r->remote.up && lost)
    relay_good_news_locked (r, "back after %lld ms",
                            (long long)(clock_ms () - lost_ms));
  k->more_ms = clock_ms ();
  k->more_backoff_ms = MORE_FIRST_MS;
}

/* ---- While it is up ---------------------------------------------------- */

/* L; released meanwhile. */
static void
flush_log (struct relay *r)
{
  const uint64_t generation = r->remote.generation;
  int result;

  r->flush_wanted = false;
  ++r->own_flushes;
  pthread_mutex_unlock (&r->remote.lock);
  result = relay_flush_once (r, generation, NULL);
  if (result > 0)
    relay_notice (r, "flushing it: %s; the guests' next flush fails",
                  strerror (result));
  pthread_mutex_lock (&r->remote.lock);
}

static bool
wants_more (const struct relay *r)
{
  return r->remote.destination.multi_conn &&
         r->remote.nr_connections < r->options.connections;
}

static bool
has_other_work (void *opaque)
{
  const struct relay *r = opaque;

  return !r->remote.up || r->flush_wanted;
}

static bool
is_same (const struct destination *a, const struct destination *b)
{
  return a->bytes == b->bytes && a->minimum == b->minimum &&
         a->maximum == b->maximum && a->can_fua == b->can_fua &&
         a->can_zero == b->can_zero && a->can_fast_zero == b->can_fast_zero &&
         a->can_trim == b->can_trim && a->can_cache == b->can_cache &&
         a->has_allocation == b->has_allocation &&
         a->multi_conn == b->multi_conn;
}

/* Whether a connection's server lived after that time, and nothing older is
 * under way there whose answer would prove less.
 */
static bool
has_lived_after (const struct connection *c, int64_t ms)
{
  for (const struct command *cmd = c->first; cmd != NULL; cmd = cmd->next) {
    if (cmd->sent_ms <= ms && cmd->kind != COMMAND_FLUSH)
      return false;
  }
  return c->proved_ms > ms;
}

/* Wait until all connections in use have answered what was asked after now, so
 * that a new one, made before, is known to reach the same server: had it been
 * started again meanwhile, something acknowledged might be missing there.
 * False: this generation has ended, or there is something more urgent.  L;
 * released meanwhile.
 */
static bool
prove_same_server (struct relay *r, const struct connection *new)
{
  const uint64_t generation = r->remote.generation;
  const int64_t born_ms = clock_ms ();
  unsigned i = 0;

  while (i < r->remote.nr_connections) {
    struct connection *c = r->remote.connections[i];

    if (new->lost || !r->remote.up || r->remote.stopping ||
        r->remote.generation != generation ||
        (r->flush_wanted && clock_ms () >= born_ms + PROVE_MS))
      return false;
    if (c->lost || has_lived_after (c, born_ms)) {
      ++i;
      continue;
    }
    /* Where something older is under way its answer is waited for. */
    if (c->proved_ms <= born_ms)
      connection_ping (c);
    remote_wait_changed (&r->remote);
    i = 0;
  }
  return r->remote.up && r->remote.generation == generation;
}

/* One more connection.  L; released meanwhile. */
static void
open_one_more (struct keeper *k)
{
  struct relay *r = k->relay;
  CLEANUP_FREE char *uri = strdup (r->uri), *why = NULL;
  const struct attempt attempt = {
    .uri = uri,
    .deadline_ms = clock_ms () + MORE_CONNECT_MS,
    .urgent = has_other_work,
    .urgent_opaque = r,
  };
  struct connection *c;

  pthread_mutex_unlock (&r->remote.lock);
  c = uri == NULL ? NULL : remote_connect (&r->remote, &attempt, &why);
  if (c != NULL && start_the_disk (r, c, true) != NULL) {
    connection_close (c);
    c = NULL;
  }
  pthread_mutex_lock (&r->remote.lock);
  if (c != NULL && is_same (&c->destination, &r->remote.destination) &&
      prove_same_server (r, c)) {
    remote_serve (&r->remote, c);
    return;
  }
  pthread_mutex_unlock (&r->remote.lock);
  if (c != NULL)
    connection_close (c);
  pthread_mutex_lock (&r->remote.lock);
  k->more_ms = clock_ms () + k->more_backoff_ms;
  k->more_backoff_ms *= 2;
  if (k->more_backoff_ms > MORE_LAST_MS)
    k->more_backoff_ms = MORE_LAST_MS;
}

/* L. */
static void
sleep_until_work (struct keeper *k)
{
  struct relay *r = k->relay;
  const struct timespec until = {
    .tv_sec = k->more_ms / 1000,
    .tv_nsec = k->more_ms % 1000 * 1000000,
  };

  if (wants_more (r))
    pthread_cond_clockwait (&r->work, &r->remote.lock, CLOCK_MONOTONIC, &until);
  else
    pthread_cond_wait (&r->work, &r->remote.lock);
}

/* ---- The end ----------------------------------------------------------- */

/* L. */
static bool
all_ended (struct connection *const *v, unsigned n)
{
  for (unsigned i = 0; i < n; ++i) {
    if (!v[i]->ended)
      return false;
  }
  return true;
}

/* Requests in flight end, or are made to by their waiters; a last flush, so
 * that nothing is lost if the destination dies while no proxy runs, also not
 * what a write has left that failed: the next one may take it for the disk.  L.
 */
static void
wind_up (struct relay *r)
{
  struct connection *v[REMOTE_CONNECTIONS_MAX];
  const uint64_t generation = r->remote.generation;
  int64_t until;
  unsigned n;

  while (remote_in_flight (&r->remote) > 0) {
    remote_wait_changed (&r->remote);
    remote_check (&r->remote); /* nobody waits for a ping */
  }
  if (r->remote.up && (!relay_log_empty (r->log) || r->witnesses.failed)) {
    r->remote.stop_ms = clock_ms () + STOP_FLUSH_MS;
    pthread_mutex_unlock (&r->remote.lock);
    relay_flush_once (r, generation, NULL);
    pthread_mutex_lock (&r->remote.lock);
  }

  n = remote_withdraw (&r->remote, true, v);
  pthread_mutex_unlock (&r->remote.lock);
  for (unsigned i = 0; i < n; ++i)
    connection_goodbye (v[i]);
  pthread_mutex_lock (&r->remote.lock);
  until = clock_ms () + STOP_GOODBYE_MS;
  while (!all_ended (v, n) && clock_ms () < until)
    remote_wait_changed (&r->remote);
  pthread_mutex_unlock (&r->remote.lock);
  for (unsigned i = 0; i < n; ++i)
    connection_close (v[i]);
  pthread_mutex_lock (&r->remote.lock);
}

void *
relay_keeper (void *opaque)
{
  struct keeper k = {
    .relay = opaque,
    .backoff_ms = BACKOFF_FIRST_MS,
    .more_backoff_ms = MORE_FIRST_MS,
  };
  struct relay *r = k.relay;

  pthread_mutex_lock (&r->remote.lock);
  while (!r->remote.stopping) {
    if (!r->remote.up)
      come_back (&k);
    else if (r->flush_wanted)
      flush_log (r);
    else if (remote_has_lost (&r->remote)) {
      close_lost (r);
      k.more_ms = clock_ms () + k.more_backoff_ms;
    }
    else if (wants_more (r) && clock_ms () >= k.more_ms)
      open_one_more (&k);
    else
      sleep_until_work (&k);
  }
  wind_up (r);
  pthread_mutex_unlock (&r->remote.lock);
  return NULL;
}
