/* SPDX-License-Identifier: BSD-3-Clause */

#include "nbd/connection.h"
#include "nbd/unanswered.h"

/* The oldest write in flight, and how many requests there are. */
static void
count (const struct connection *c, struct ledger_line *line)
{
  for (const struct io *io = c->ios; io != NULL; io = io->next) {
    if (io->answered)
      continue;
    line->requests++;
    if (io->writes)
      line->since_us = io->started_us; /* new ones come first */
  }
  /* Any byte of TLS may be about TLS. */
  line->requests += c->tls && line->requests > 0;
}

static void
write_line (struct connection *c, bool whole, bool framed)
{
  struct ledger_line line = {
    .slowest_us = c->slowest_us,
    .whole = whole,
    .framed = framed,
  };

  count (c, &line);
  if (c->frozen)
    return;
  if (c->line != NULL)
    ledger_write (c->line, &line);
  if (c->next_line != NULL)
    ledger_write (c->next_line, &line);
}

void
unanswered_begin (struct connection *c)
{
  write_line (c, false, false);
}

void
unanswered_end (struct connection *c)
{
  const bool whole =
    (nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE) == 0;

  /* libnbd is ready between two replies, and takes no byte more than one. */
  write_line (c, whole, c->framed && nbd_aio_is_ready (c->nbd) == 1);
}

void
unanswered_note_answer (struct connection *c, struct io *io)
{
  const int64_t us = loop_now_us () - io->started_us;

  io->answered = true;
  if (io->writes && us > c->slowest_us)
    c->slowest_us = us;
  write_line (c, false, false);
}

void
unanswered_begin_change (struct connection *c, struct ledger_line *next)
{
  c->next_line = next;
  unanswered_end (c);
}

void
unanswered_end_change (struct connection *c)
{
  c->line = c->next_line;
  c->next_line = NULL;
}

void
unanswered_freeze (struct connection *c)
{
  c->frozen = true;
}
