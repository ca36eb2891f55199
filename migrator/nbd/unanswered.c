/* SPDX-License-Identifier: BSD-3-Clause */

#include "nbd/connection.h"
#include "nbd/unanswered.h"

/* The oldest write in flight, and how many requests there are. */
static void
count (const struct connection *c, struct ledger_line *line)
{
  for (const struct io *io = c->ios; io != NULL; io = io->next) {
    if (!io->given || io->answered)
      continue;
    line->requests++;
    if (io->writes)
      line->since_us = io->started_us; /* new ones come first */
  }
  /* Any byte of TLS may be about TLS. */
  line->requests += c->tls && line->requests > 0;
}

/* With the lock. */
static void
write_line (struct connection *c)
{
  struct ledger_line line = {
    .slowest_us = c->slowest_us,
    .whole = c->whole,
    .framed = c->between,
  };

  count (c, &line);
  if (c->frozen)
    return;
  if (c->line != NULL)
    ledger_write (c->line, &line);
  if (c->next_line != NULL)
    ledger_write (c->next_line, &line);
}

/* The same; libnbd is at work. */
static void
write_line_at_work (struct connection *c)
{
  c->whole = c->between = false;
  write_line (c);
}

void
unanswered_begin (struct connection *c, struct io *io)
{
  pthread_mutex_lock (&c->lock);
  if (io != NULL) {
    io->given = true;
    io->answered = false;
  }
  write_line_at_work (c);
  pthread_mutex_unlock (&c->lock);
}

void
unanswered_end (struct connection *c)
{
  const bool whole =
    (nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE) == 0;
  /* libnbd is ready between two replies, and takes no byte more than one. */
  const bool between = c->framed && nbd_aio_is_ready (c->nbd) == 1;

  pthread_mutex_lock (&c->lock);
  c->whole = whole;
  c->between = between;
  write_line (c);
  pthread_mutex_unlock (&c->lock);
}

void
unanswered_note_answer (struct connection *c, struct io *io)
{
  const int64_t us = loop_now_us () - io->started_us;

  pthread_mutex_lock (&c->lock);
  io->answered = true;
  if (io->writes && us > c->slowest_us)
    c->slowest_us = us;
  write_line_at_work (c);
  pthread_mutex_unlock (&c->lock);
}

void
unanswered_begin_change (struct connection *c, struct ledger_line *next)
{
  pthread_mutex_lock (&c->lock);
  c->next_line = next;
  write_line (c);
  pthread_mutex_unlock (&c->lock);
}

void
unanswered_end_change (struct connection *c)
{
  pthread_mutex_lock (&c->lock);
  c->line = c->next_line;
  c->next_line = NULL;
  pthread_mutex_unlock (&c->lock);
}

void
unanswered_set_line (struct connection *c, struct ledger_line *line)
{
  pthread_mutex_lock (&c->lock);
  c->line = line;
  write_line (c);
  pthread_mutex_unlock (&c->lock);
}

void
unanswered_freeze (struct connection *c)
{
  pthread_mutex_lock (&c->lock);
  c->frozen = true;
  pthread_mutex_unlock (&c->lock);
}
