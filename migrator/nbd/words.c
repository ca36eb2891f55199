/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#include "nbd/connection.h"
#include "nbd/words.h"
#include "printable.h"

/* Of libnbd's message, which ends with the text. */
#define HEARD "structured error server message: "

#define WORDS_MAX 300 /* bytes; a server may send 4096 */
#define DOTS "..."

/* Reads through shared memory are not asked for twice: their slot is in use.
 * Nor is what has another way out than to fail: there the answer is a no.
 */
bool
words_are_wanted (const struct connection *c, const struct io *io)
{
  switch (io->kind) {
  case IO_READ:
  case IO_WRITE:
  case IO_ZERO:
  case IO_FLUSH:
    break;
  case IO_CACHE:
  case IO_STATUS:
    return false;
  }
  switch (io->error) {
  case 0:
  case EINVAL:
  case EOPNOTSUPP:
  case ESHUTDOWN:
    return false;
  }
  return !io->again && !io->probe && !io->lost && connection_alive (c);
}

static int
hear (void *opaque, const char *context, const char *message)
{
  struct connection *c = opaque;

  (void)context;
  if (strncmp (message, HEARD, strlen (HEARD)) == 0) {
    free (c->words);
    c->words = strdup (message + strlen (HEARD));
  }
  return 0;
}

void
words_listen (struct connection *c)
{
  const nbd_debug_callback callback = { .callback = hear, .user_data = c };

  /* Without it there is only the error's number. */
  if (nbd_set_debug_callback (c->nbd, callback) == 0)
    nbd_set_debug (c->nbd, true);
}

void
words_take (struct connection *c, struct io *io)
{
  free (io->words);
  io->words = c->words;
  c->words = NULL;
}

/* One line, not too long. */
static void
make_fit (char *words)
{
  if (strlen (words) > WORDS_MAX)
    strcpy (words + WORDS_MAX - strlen (DOTS), DOTS);
  make_printable (words, ' ');
}

char *
words_of (const struct io *io)
{
  const char *why = io->connection->why;
  char *text;
  int r;

  if (io->lost)
    r = asprintf (&text, "the connection broke: %s", why ? why : "no memory");
  else if (io->words == NULL || *io->words == '\0')
    r = asprintf (&text, "the server answered: %s", strerror (io->error));
  else {
    make_fit (io->words);
    r = asprintf (&text, "the server answered: %s (\"%s\")",
                  strerror (io->error), io->words);
  }
  return r == -1 ? NULL : text;
}
