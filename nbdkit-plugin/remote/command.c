/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands on connections: send some, wait for all of them. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/clock.h"
#include "remote.h"

/* A connection takes so many commands before the next one is used: answers come
 * together, and fewer connections need a flush.  One with much data is worth
 * many: it would hold up the others, and several threads can send and receive
 * such ones at once, each over a connection of its own.
 */
#ifndef FILL_FIRST /* tests/exhaustive-relay says otherwise */
#define FILL_FIRST 16
#endif
#define DATA_OF_ONE 16384

void
batch_init (struct batch *b, uint64_t generation)
{
  b->n = 0;
  b->woken = false;
  b->waits = false;
  b->sleeps = false;
  b->receives = false;
  b->receiver = NULL;
  b->sent = false;
  b->silent = false;
  b->unknown = false;
  b->finish = NULL;
  b->pending = 0;
  b->result = 0;
  b->generation = generation;
}

void
batch_destroy (struct batch *b)
{
  assert (b->n == 0 || !b->sent || b->pending == 0);
}

struct command *
batch_add (struct batch *b, enum command_kind kind, uint32_t flags,
           uint64_t offset, uint64_t length, void *data)
{
  struct command *cmd = &b->commands[b->n++];

  assert (b->n <= BATCH_MAX);
  *cmd = (struct command){
    .kind = kind,
    .flags = flags,
    .offset = offset,
    .length = length,
    .data = data,
    .batch = b,
  };
  return cmd;
}

static bool
is_write_type (enum command_kind kind)
{
  return kind == COMMAND_WRITE || kind == COMMAND_ZERO || kind == COMMAND_TRIM;
}

/* ---- Where to ---------------------------------------------------------- */

static unsigned
weight (const struct command *cmd)
{
  const bool has_data = cmd->kind == COMMAND_READ || cmd->kind == COMMAND_WRITE;

  return 1 + (has_data ? cmd->length / DATA_OF_ONE : 0);
}

static struct connection *
choose_connection (const struct remote *m, int64_t now)
{
  struct connection *best = NULL;

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    struct connection *c = m->connections[i];

    if (!connection_is_usable (c, now))
      continue;
    if (c->load < FILL_FIRST)
      return c;
    if (best == NULL || c->load < best->load)
      best = c;
  }
  return best;
}

/* A flush carries no data and waits for none: it may go to one that is silent.
 */
static struct connection *
choose_for_flush (const struct remote *m)
{
  for (unsigned i = 0; i < m->nr_connections; ++i) {
    if (!connection_is_given_up (m->connections[i]))
      return m->connections[i];
  }
  return NULL;
}

static void
link_command (struct command *cmd, struct connection *c, int64_t now)
{
  cmd->connection = c;
  cmd->prev = NULL;
  cmd->next = c->first;
  if (c->first != NULL)
    c->first->prev = cmd;
  else
    c->last = cmd;
  c->first = cmd;
  cmd->sent_ms = now;
  if (cmd->kind == COMMAND_FLUSH)
    ++c->flushes;
  else if (c->in_flight == c->flushes) /* silence begins now at the earliest */
    __atomic_store_n (&c->heard_ms, now, __ATOMIC_RELAXED);
  if (is_write_type (cmd->kind))
    ++c->writes;
  ++c->in_flight;
  c->load += weight (cmd);
  __atomic_fetch_add (&c->users, 1, __ATOMIC_RELAXED);
  cmd->issued = true;
  ++cmd->batch->pending;
  if (cmd->batch->receiver == NULL) {
    __atomic_fetch_add (&c->others, 1, __ATOMIC_RELAXED);
    receive_by_io_thread (c);
  }
}

void
batch_link (struct remote *m, struct batch *b, struct connection *only)
{
  const int64_t now = clock_ms ();

  if (only != NULL ? connection_is_given_up (only)
                   : !m->up || m->generation != b->generation)
    return;
  b->remote = m;
  b->bit = UINT32_C (1) << (m->next_bit++ % 32);
  for (unsigned i = 0; i < b->n; ++i) {
    struct command *cmd = &b->commands[i];
    struct connection *c = only != NULL              ? only
                           : cmd->connection != NULL ? cmd->connection
                           : cmd->kind == COMMAND_FLUSH
                             ? choose_for_flush (m)
                             : choose_connection (m, now);

    if (c == NULL) {
      assert (i == 0); /* linking one makes no other connection silent */
      b->silent = true;
      return;
    }
    if (b->n == 1 && !cmd->ping && !b->sleeps) {
      b->receiver = c;
      __atomic_fetch_add (&c->waiters, 1, __ATOMIC_RELAXED);
    }
    link_command (cmd, c, now);
    b->sent = true;
  }
}

void
batch_send (struct remote *m, struct batch *b, struct connection *only)
{
  pthread_mutex_lock (&m->lock);
  batch_link (m, b, only);
  pthread_mutex_unlock (&m->lock);
  batch_issue (b);
}

/* ---- Answers ----------------------------------------------------------- */

static void
unlink_command (struct command *cmd)
{
  struct connection *c = cmd->connection;

  if (cmd->prev != NULL)
    cmd->prev->next = cmd->next;
  else
    c->first = cmd->next;
  if (cmd->next != NULL)
    cmd->next->prev = cmd->prev;
  else
    c->last = cmd->prev;
  if (cmd->batch->receiver == NULL)
    __atomic_fetch_sub (&c->others, 1, __ATOMIC_RELAXED);
  --c->in_flight;
  c->load -= weight (cmd);
  if (cmd->kind == COMMAND_FLUSH)
    --c->flushes;
  if (is_write_type (cmd->kind))
    --c->writes;
}

/* The longest that this server took.  A flush takes what a disk needs to write
 * out its cache, which says nothing of other requests.
 */
static void
note_delay (struct remote *m, const struct command *cmd, int64_t now)
{
  if (cmd->kind != COMMAND_FLUSH && now - cmd->sent_ms > m->longest_ms)
    m->longest_ms = now - cmd->sent_ms;
}

int64_t
remote_longest_ms (struct remote *m)
{
  const int64_t now = clock_ms ();

  for (unsigned i = 0; i < m->nr_connections; ++i) {
    const struct command *cmd = m->connections[i]->first;

    for (; cmd != NULL; cmd = cmd->next)
      note_delay (m, cmd, now);
  }
  return m->longest_ms;
}

/* A server that is shutting down says so before it closes: that is a loss, and
 * no answer to the request.
 */
static bool
means_lost (int error)
{
  return error == ENOTCONN || error == ESHUTDOWN;
}

struct batch *
remote_command_done (struct command *cmd, int error)
{
  struct connection *c = cmd->connection;
  struct remote *m = c->remote;
  struct batch *b = cmd->batch;
  const bool answered = cmd->issued && !means_lost (error);

  if (cmd->done)
    return NULL;
  if (cmd->ping && !answered)
    ++m->pings_lost;
  if (answered) {
    note_delay (m, cmd, __atomic_load_n (&c->heard_ms, __ATOMIC_RELAXED));
    if (cmd->sent_ms > c->proved_ms)
      c->proved_ms = cmd->sent_ms;
  }
  if (means_lost (error)) {
    /* So old it was, and not answered yet. */
    note_delay (m, cmd, clock_ms ());
    remote_lose (c, error == ESHUTDOWN ? "the server is shutting down" : NULL);
    b->result = REMOTE_LOST;
    if (is_write_type (cmd->kind) && cmd->issued)
      b->unknown = true;
  }
  else if (error != 0 && b->result == 0)
    b->result = error;
  if (is_write_type (cmd->kind))
    ++c->acknowledged;
  /* A flush carries in 'offset' what it covers. */
  if (cmd->kind == COMMAND_FLUSH && error == 0 && cmd->offset > c->flushed)
    c->flushed = cmd->offset;
  unlink_command (cmd);
  cmd->error = means_lost (error) ? REMOTE_LOST : error;
  cmd->done = true;
  if (c->retired && c->writes == 0 &&
      !__atomic_load_n (&c->lost, __ATOMIC_RELAXED))
    remote_lose (c, NULL);
  if (m->stopping || m->silence_waiters > 0 || cmd->ping)
    pthread_cond_broadcast (&m->changed);
  if (--b->pending > 0 || cmd->ping)
    return NULL;
  if (b->finish != NULL)
    b->finish (b);
  return b;
}

/* Whoever waits may return, and the batch be gone, from then on. */
static uint32_t
mark_woken (struct batch *b)
{
  const uint32_t bit = b->bit;

  __atomic_store_n (&b->woken, true, __ATOMIC_RELEASE);
  return bit;
}

void
batch_wake (struct batch *b)
{
  struct remote *m;

  if (b == NULL)
    return;
  m = b->remote;
  bell_ring (&m->bell, mark_woken (b));
}

/* ---- Waking several together ------------------------------------------- */

/* A thread that is woken for each answer takes the processor from the one that
 * receives them, and has one answer to pass on: all of them sleep and wake for
 * every request.  So what has come is received first.
 */
static _Thread_local struct gathered *gathered;

/* What takes a while to receive is worth a wake-up. */
#define GATHER_BYTES 65536

void
batch_gather (struct gathered *g)
{
  gathered = g;
}

void
batch_wake_gathered (struct remote *m, struct gathered *g, uint32_t bits)
{
  struct batch *b = g->first;

  g->first = NULL;
  g->n = 0;
  while (b != NULL) {
    struct batch *next = b->next_gathered;

    bits |= mark_woken (b);
    b = next;
  }
  if (g->own_answered)
    mark_woken (g->own);
  if (bits != 0)
    bell_ring (&m->bell, bits);
}

void
batch_answered (struct batch *b)
{
  if (b == NULL)
    return;
  if (gathered != NULL && gathered->own == b) {
    gathered->own_answered = true;
    return;
  }
  if (gathered == NULL || b->commands[0].length > GATHER_BYTES) {
    batch_wake (b);
    return;
  }
  b->next_gathered = gathered->first;
  gathered->first = b;
  ++gathered->n;
}

/* ---- Waiting ----------------------------------------------------------- */

static void
check_connections (const struct batch *b)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&b->remote->lock);

  for (unsigned i = 0; i < b->n; ++i) {
    if (!b->commands[i].done)
      connection_check (b->commands[i].connection, clock_ms ());
  }
}

static bool
may_sleep (const struct batch *b)
{
  return !__atomic_load_n (&b->woken, __ATOMIC_ACQUIRE) &&
         !__atomic_load_n (&b->receives, __ATOMIC_ACQUIRE);
}

/* In milliseconds of the monotonic clock; INT64_MAX: for any time.  False: it
 * is that late.
 */
static bool
sleep_until (struct batch *b, int64_t until_ms)
{
  struct bell *bell = &b->remote->bell;

  for (;;) {
    const uint32_t look = bell_look (bell);
    const int64_t left = until_ms == INT64_MAX ? -1 : until_ms - clock_ms ();

    if (!may_sleep (b))
      return true;
    if (left <= 0 && until_ms != INT64_MAX)
      return false;
    bell_wait (bell, look, b->bit, (int)left);
  }
}

void
batch_sleep (struct batch *b, bool checks)
{
  while (!sleep_until (b, checks ? clock_ms () + REMOTE_SLICE_MS : INT64_MAX))
    check_connections (b);
}

/* This thread does not look at the connection any more. */
static void
leave_connection (struct remote *m, struct connection *c)
{
  if (!__atomic_load_n (&c->lost, __ATOMIC_RELAXED)) {
    __atomic_fetch_sub (&c->waiters, 1, __ATOMIC_RELEASE);
    return;
  }
  pthread_mutex_lock (&m->lock);
  __atomic_fetch_sub (&c->waiters, 1, __ATOMIC_RELEASE);
  pthread_cond_broadcast (&m->changed); /* somebody may be closing it */
  pthread_mutex_unlock (&m->lock);
}

static void
wait_finished (struct remote *m, struct batch *b, bool checks)
{
  if (b->receiver == NULL)
    batch_sleep (b, checks);
  else {
    receive_until_woken (b, checks);
    leave_connection (m, b->receiver);
  }
  assert (__atomic_load_n (&b->woken, __ATOMIC_ACQUIRE));
}

void
batch_await (struct remote *m, struct batch *b)
{
  wait_finished (m, b, false);
}

/* It is woken. */
static int
take_result (struct remote *m, struct batch *b)
{
  int result = b->silent ? REMOTE_SILENT : REMOTE_LOST;

  if (b->sent) {
    /* The connections may be gone: what was answered does not keep them.  The
     * lock also orders what the receiver did before what follows.
     */
    pthread_mutex_lock (&m->lock);
    result = b->result;
    pthread_mutex_unlock (&m->lock);
  }
  b->n = 0;
  b->sent = b->silent = b->woken = b->waits = false;
  b->receiver = NULL;
  b->result = 0;
  return result;
}

int
batch_wait (struct remote *m, struct batch *b)
{
  if (b->sent && b->n > 0)
    wait_finished (m, b, true);
  return take_result (m, b);
}

bool
batch_wait_until (struct remote *m, struct batch *b, int64_t until_ms,
                  int *result)
{
  int64_t now = clock_ms ();

  assert (b->receiver == NULL);
  while (b->sent && b->n > 0) {
    const bool is_last = until_ms - now < REMOTE_SLICE_MS;

    if (sleep_until (b, is_last ? until_ms : now + REMOTE_SLICE_MS))
      break;
    check_connections (b); /* also where each wait is shorter than a slice */
    if (is_last)
      return false;
    now = clock_ms ();
  }
  *result = take_result (m, b);
  return true;
}
