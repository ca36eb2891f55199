/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands are sent: by one thread at a time for each connection.
 *
 * libnbd has a lock for each handle, and sends, with two system calls for a
 * write, while it holds it.  Threads that all send for themselves sleep and
 * wake one another there; measured, an eighth of what a relayed write costs. So
 * a thread puts its command into the connection's outbox; if that was empty it
 * is the sender, and sends what has come until nothing is left.  The others go
 * and wait for their answers.
 *
 * A sender that others keep busy would not see its own answer: after a few
 * rounds it leaves the rest to the receiver (receive.c).
 *
 * The outbox is a list, newest first.  It ends with 'sending' as long as there
 * is a sender.  A command counts as a user of its connection until it is sent
 * (remote.h); so it stays, with its batch, until then.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "remote.h"

#define SEND_ROUNDS 4 /* each of what has come in the one before */

static struct command sending;

/* ---- What libnbd calls ------------------------------------------------- */

static int
completed (void *opaque, int *error)
{
  struct command *cmd = opaque;
  struct connection *c = cmd->connection;
  struct remote *m = c->remote;
  struct batch *b;

  pthread_mutex_lock (&m->lock);
  b = remote_command_done (cmd, *error);
  if (b != NULL)
    receive_answered (c, b);
  pthread_mutex_unlock (&m->lock);
  batch_answered (b);
  return 1;
}

/* Collect the extents of base:allocation. */
static int
extent (void *opaque, const char *context, uint64_t offset, uint32_t *entries,
        size_t nr_entries, int *error)
{
  struct extent_list *list = ((struct command *)opaque)->extents;
  const size_t n = list->n + nr_entries / 2;
  void *v;

  (void)offset;
  if (*error != 0 || strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  v = realloc (list->v, n * sizeof *list->v);
  if (v == NULL) {
    *error = ENOMEM;
    return -1;
  }
  list->v = v;
  for (size_t i = 0; i + 1 < nr_entries; i += 2, ++list->n) {
    list->v[list->n].length = entries[i];
    list->v[list->n].flags = entries[i + 1];
  }
  return 0;
}

static int64_t
issue_to_libnbd (struct command *cmd)
{
  struct nbd_handle *nbd = cmd->connection->nbd;
  const nbd_completion_callback done = {
    .callback = completed,
    .user_data = cmd,
  };
  const nbd_extent_callback extents = {
    .callback = extent,
    .user_data = cmd,
  };

  switch (cmd->kind) {
  case COMMAND_READ:
    return nbd_aio_pread (nbd, cmd->data, cmd->length, cmd->offset, done,
                          cmd->flags);
  case COMMAND_WRITE:
    return nbd_aio_pwrite (nbd, cmd->data, cmd->length, cmd->offset, done,
                           cmd->flags);
  case COMMAND_ZERO:
    return nbd_aio_zero (nbd, cmd->length, cmd->offset, done, cmd->flags);
  case COMMAND_TRIM:
    return nbd_aio_trim (nbd, cmd->length, cmd->offset, done, cmd->flags);
  case COMMAND_FLUSH:
    return nbd_aio_flush (nbd, done, cmd->flags);
  case COMMAND_CACHE:
    return nbd_aio_cache (nbd, cmd->length, cmd->offset, done, cmd->flags);
  case COMMAND_STATUS:
    return nbd_aio_block_status (nbd, cmd->length, cmd->offset, extents, done,
                                 cmd->flags);
  }
  abort ();
}

/* ---- Sending ----------------------------------------------------------- */

/* From the call of libnbd on the command may be gone. */
static void
issue (struct command *cmd)
{
  struct connection *c = cmd->connection;
  struct batch *b;
  int error;

  if (issue_to_libnbd (cmd) != -1)
    return;
  error = nbd_get_errno ();
  if (error == 0)
    error = EIO;
  if (!nbd_aio_is_ready (c->nbd) && !nbd_aio_is_processing (c->nbd))
    error = ENOTCONN;
  pthread_mutex_lock (&c->remote->lock);
  cmd->issued = false;
  b = remote_command_done (cmd, error);
  pthread_mutex_unlock (&c->remote->lock);
  batch_wake (b);
  connection_kick (c); /* its thread may be the receiver */
}

/* True: there was no sender, the caller is it. */
static bool
put (struct command *cmd)
{
  struct command **outbox = &cmd->connection->outbox;
  struct command *old = __atomic_load_n (outbox, __ATOMIC_RELAXED);

  do
    cmd->next_out = old;
  while (!__atomic_compare_exchange_n (outbox, &old, cmd, true,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  return old == NULL;
}

/* All that is there, oldest first. */
static struct command *
take (struct connection *c)
{
  struct command *cmd =
    __atomic_exchange_n (&c->outbox, &sending, __ATOMIC_ACQ_REL);
  struct command *list = NULL;

  while (cmd != NULL && cmd != &sending) {
    struct command *next = cmd->next_out;

    cmd->next_out = list;
    list = cmd;
    cmd = next;
  }
  return list;
}

/* The sender's.  True: there is no sender any more; false: more has come. */
static bool
send_round (struct connection *c)
{
  struct command *cmd = take (c), *idle = &sending;

  while (cmd != NULL) {
    struct command *next = cmd->next_out;

    issue (cmd);
    connection_leave (c);
    cmd = next;
  }
  if (nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE)
    connection_kick (c);
  return __atomic_compare_exchange_n (&c->outbox, &idle, NULL, false,
                                      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void
send_some (struct connection *c)
{
  for (unsigned i = 0; i < SEND_ROUNDS; ++i) {
    if (send_round (c))
      return;
  }
  __atomic_store_n (&c->must_send, true, __ATOMIC_RELEASE);
  connection_kick (c);
}

bool
connection_send (struct connection *c)
{
  if (!__atomic_exchange_n (&c->must_send, false, __ATOMIC_ACQ_REL) ||
      send_round (c))
    return false;
  __atomic_store_n (&c->must_send, true, __ATOMIC_RELEASE);
  return true;
}

void
batch_issue (struct batch *b)
{
  const unsigned n = b->sent ? b->n : 0;

  for (unsigned i = 0; i < n; ++i) {
    struct connection *c = b->commands[i].connection;

    __atomic_fetch_add (&c->users, 1, __ATOMIC_RELAXED);
    if (put (&b->commands[i]))
      send_some (c);
    connection_leave (c);
  }
}
