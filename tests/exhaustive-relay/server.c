/* SPDX-License-Identifier: BSD-3-Clause */
/* The server, the connections to it, and what can happen to them: instead of
 * remote/connection.c, connect.c, send.c and receive.c.
 *
 * A command that was sent is done and answered in one step, in any order; or an
 * error is the answer, and it was done or not.  What a flush that failed did
 * not write no later one writes, as with Linux.  When a connection ends, each
 * write without an answer was done, or never will be, or may be done late:
 * until the server has been reached again for the grace period.  A crash takes
 * what was not flushed.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "relay/internal.h"
#include "server.h"
#include "socket-life.h"
#include "socket-reset.h"

static struct server *const s = &world.server;

/* ---- The disk ----------------------------------------------------------- */

static void
put (uint64_t offset, uint64_t length, const uint8_t *data)
{
  assert (offset + length <= BLOCKS);
  memcpy (&s->now[offset], data, length);
  memset (&s->dropped[offset], 0, length);
}

static void
flush (void)
{
  for (unsigned i = 0; i < BLOCKS; i++)
    if (!s->dropped[i])
      s->hard[i] = s->now[i];
}

static void
fail_to_flush (void)
{
  for (unsigned i = 0; i < BLOCKS; i++)
    s->dropped[i] |= s->now[i] != s->hard[i];
}

/* What a write, zero or trim brings. */
static const uint8_t *
brought (const struct command *cmd, uint8_t room[BLOCKS])
{
  if (cmd->kind == COMMAND_WRITE)
    return cmd->data;
  memset (room, cmd->kind == COMMAND_ZERO ? VALUE_ZERO : VALUE_TRIMMED, BLOCKS);
  return room;
}

static void
perform (const struct command *cmd)
{
  uint8_t room[BLOCKS];

  switch (cmd->kind) {
  case COMMAND_READ:
    memcpy (cmd->data, &s->now[cmd->offset], cmd->length);
    break;
  case COMMAND_WRITE:
  case COMMAND_ZERO:
  case COMMAND_TRIM:
    put (cmd->offset, cmd->length, brought (cmd, room));
    break;
  case COMMAND_FLUSH:
    flush ();
    break;
  default:
    abort ();
  }
  if (cmd->flags & LIBNBD_CMD_FLAG_FUA)
    memcpy (&s->hard[cmd->offset], &s->now[cmd->offset], cmd->length);
}

static void
leave_late (const struct command *cmd)
{
  uint8_t room[BLOCKS];

  for (unsigned i = 0; i < LATE; i++) {
    struct late *l = &s->late[i];

    if (l->length > 0)
      continue;
    l->length = cmd->length;
    l->offset = cmd->offset;
    l->may_end = false;
    memcpy (l->data, brought (cmd, room), cmd->length);
    return;
  }
  abort (); /* or it would be one that is gone */
}

bool
server_has_late (void)
{
  for (unsigned i = 0; i < LATE; i++)
    if (s->late[i].length > 0)
      return true;
  return false;
}

bool
server_can_land (unsigned i)
{
  return i < LATE && s->late[i].length > 0;
}

void
server_land (unsigned i)
{
  put (s->late[i].offset, s->late[i].length, s->late[i].data);
  s->late[i].length = 0;
}

/* The grace period of those is over. */
void
server_jump (void)
{
  for (unsigned i = 0; i < LATE; i++)
    if (s->late[i].may_end)
      memset (&s->late[i], 0, sizeof s->late[i]);
}

/* ---- Commands ----------------------------------------------------------- */

/* 'next_out' of a command that was sent is itself. */
static bool
is_sent (const struct command *cmd)
{
  return cmd->next_out == cmd;
}

static bool
is_write (const struct command *cmd)
{
  return cmd->kind == COMMAND_WRITE || cmd->kind == COMMAND_ZERO ||
         cmd->kind == COMMAND_TRIM;
}

/* The one of this number that was sent, or NULL. */
static struct command *
find_sent (const struct wire *w, unsigned n)
{
  if (w->connection == NULL || w->dead)
    return NULL;
  for (struct command *cmd = w->connection->first; cmd != NULL; cmd = cmd->next)
    if (is_sent (cmd) && n-- == 0)
      return cmd;
  return NULL;
}

void
batch_issue (struct batch *b)
{
  for (unsigned i = 0; b->sent && i < b->n; i++) {
    struct command *cmd = &b->commands[i];

    cmd->next_out = cmd;
    connection_leave (cmd->connection);
  }
}

static void
done (struct command *cmd, int error)
{
  batch_answered (remote_command_done (cmd, error));
}

bool
server_can_answer (unsigned wire, unsigned n)
{
  return find_sent (&s->wires[wire], n) != NULL &&
         !s->wires[wire].connection->lost;
}

void
server_answer (unsigned wire, unsigned n)
{
  struct command *cmd = find_sent (&s->wires[wire], n);

  perform (cmd);
  /* Or pings, of which one has to be asked later than something else, would be
   * asked for ever.
   */
  world.clock_ms += cmd->ping;
  cmd->connection->heard_ms = world.clock_ms;
  done (cmd, 0);
}

bool
server_can_refuse (unsigned wire, unsigned n, enum fate fate)
{
  const struct command *cmd = find_sent (&s->wires[wire], n);

  return server_can_answer (wire, n) &&
         (fate == FATE_GONE || (fate == FATE_DONE && is_write (cmd)));
}

void
server_refuse (unsigned wire, unsigned n, enum fate fate)
{
  struct command *cmd = find_sent (&s->wires[wire], n);
  uint8_t room[BLOCKS];

  if (cmd->kind == COMMAND_FLUSH) {
    fail_to_flush ();
    guests_excuse (NULL, 0, 0);
  }
  else if (is_write (cmd)) {
    if (fate == FATE_DONE)
      perform (cmd);
    guests_excuse (brought (cmd, room), cmd->offset, cmd->length);
  }
  cmd->connection->heard_ms = world.clock_ms;
  done (cmd, EIO);
}

bool
server_owes_answers (void)
{
  for (unsigned i = 0; i < WIRES; i++)
    if (find_sent (&s->wires[i], 0) != NULL)
      return true;
  return false;
}

/* ---- The end of connections --------------------------------------------- */

/* From now on the server knows nothing of it. */
static void
die (struct wire *w, enum fate fate)
{
  const struct command *cmd;

  for (unsigned n = 0; (cmd = find_sent (w, n)) != NULL; n++) {
    if (!is_write (cmd))
      continue;
    if (fate == FATE_DONE)
      perform (cmd);
    else if (fate == FATE_LATE)
      leave_late (cmd);
  }
  w->dead = true;
}

static bool
has_writes (const struct wire *w)
{
  const struct command *cmd;

  for (unsigned n = 0; (cmd = find_sent (w, n)) != NULL; n++)
    if (is_write (cmd))
      return true;
  return false;
}

/* Nothing is different where there is nothing to be done. */
static bool
is_fate (const struct wire *w, enum fate fate)
{
  return fate == FATE_GONE || has_writes (w);
}

bool
server_can_cut (unsigned wire, enum fate fate)
{
  const struct wire *w = &s->wires[wire];

  return w->connection != NULL && !w->dead && !w->connection->lost &&
         is_fate (w, fate);
}

void
server_cut (unsigned wire, enum fate fate)
{
  die (&s->wires[wire], fate);
}

bool
server_can_crash (enum fate fate)
{
  bool any = false, live = false;

  for (unsigned i = 0; i < WIRES; i++)
    if (s->wires[i].connection != NULL && !s->wires[i].dead) {
      live = true;
      any |= is_fate (&s->wires[i], fate);
    }
  return fate != FATE_DONE && (any || (!live && fate == FATE_GONE));
}

void
server_crash (enum fate fate)
{
  for (unsigned i = 0; i < WIRES; i++)
    if (s->wires[i].connection != NULL)
      die (&s->wires[i], fate);
  memcpy (s->now, s->hard, sizeof s->now);
  memset (s->dropped, 0, sizeof s->dropped);
  s->crashed = true;
}

/* The client sees that a connection has ended, or that it was reset. */
bool
server_can_end (unsigned wire, enum fate fate)
{
  const struct wire *w = &s->wires[wire];
  const struct connection *c = w->connection;

  return c != NULL && !c->ended && (w->dead || c->lost) && is_fate (w, fate);
}

void
server_end (unsigned wire, enum fate fate)
{
  struct wire *w = &s->wires[wire];
  struct connection *c = w->connection;

  if (!w->dead)
    die (w, fate);
  remote_lose (c, "it was cut");
  while (c->first != NULL)
    done (c->first, ENOTCONN);
  c->ended = true;
  pthread_cond_broadcast (&c->remote->changed);
}

bool
server_must_end (void)
{
  for (unsigned i = 0; i < WIRES; i++)
    if (server_can_end (i, FATE_GONE))
      return true;
  return false;
}

/* The proxy has died. */
void
server_lose_client (enum fate fate)
{
  for (unsigned i = 0; i < WIRES; i++) {
    if (s->wires[i].connection != NULL)
      die (&s->wires[i], fate);
    s->wires[i].connection = NULL;
  }
}

/* ---- Connections -------------------------------------------------------- */

static struct wire *
wire_of (const struct connection *c)
{
  for (unsigned i = 0; i < WIRES; i++)
    if (s->wires[i].connection == c)
      return &s->wires[i];
  abort ();
}

/* One attempt may fail, which counts as a fault. */
struct connection *
remote_connect (struct remote *m, const struct attempt *a, char **why)
{
  struct connection *c;

  (void)a;
  *why = NULL;
  if (world.left.faults > 0 && thread_choose (2) == 1) {
    world.left.faults--;
    *why = strdup ("it refuses");
    return NULL;
  }
  c = calloc (1, sizeof *c);
  c->remote = m;
  c->fd = c->kick = c->call = -1;
  c->destination = (struct destination){
    .bytes = BLOCKS,
    .minimum = world.left.minimum,
    .maximum = BLOCKS,
    .zero_maximum = BLOCKS,
    .can_flush = true,
    .can_fua = true,
    .can_zero = true,
    .can_trim = true,
    .multi_conn = world.left.multi_conn,
  };
  *wire_of (NULL) = (struct wire){ .connection = c };
  for (unsigned i = 0; i < LATE; i++)
    if (s->late[i].length > 0)
      s->late[i].may_end = true;
  return c;
}

int
connection_start (struct connection *c)
{
  c->heard_ms = clock_ms ();
  c->started = true;
  return 0;
}

void
connection_goodbye (struct connection *c)
{
  if (c->in_flight == 0)
    c->ended = true;
}

void
connection_close (struct connection *c)
{
  struct remote *m = c->remote;
  struct wire *w;

  if (c->started) {
    pthread_mutex_lock (&m->lock);
    c->lost = true;
    if (c->in_flight == 0)
      c->ended = true;
    while (!c->ended || c->users > 0 || c->waiters > 0)
      remote_wait_changed (m);
    pthread_mutex_unlock (&m->lock);
  }
  w = wire_of (c);
  *w = (struct wire){ .connection = NULL };
  free (c->ping);
  free (c);
}

/* ---- Nothing of this happens here --------------------------------------- */

void
receive_by_io_thread (struct connection *c)
{
  (void)c;
}

void
receive_until_woken (struct batch *b, bool checks)
{
  batch_sleep (b, checks);
}

void
socket_reset (int fd)
{
  (void)fd;
}

int64_t
socket_unheard_ms (int fd)
{
  (void)fd;
  return 0;
}
