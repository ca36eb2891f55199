/* SPDX-License-Identifier: BSD-3-Clause */
/* Is this still the disk?  Asked of each connection before it is used
 * (witness.h).
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

_Static_assert(WITNESSES <= BATCH_MAX, "all are asked for at once");

/* What was overwritten meanwhile proves nothing any more. */
static bool
is_current (struct relay *r, const struct witness *p)
{
  bool found = false;

  pthread_mutex_lock (&r->remote.lock);
  for (size_t i = 0; i < WITNESSES; ++i) {
    const struct witness *const w = &r->witnesses.v[i];

    if (w->length >= p->length && w->offset == p->offset &&
        memcmp (w->data, p->data, p->length) == 0)
      found = true;
  }
  pthread_mutex_unlock (&r->remote.lock);
  return found;
}

struct piece {
  struct witness witness;
  uint8_t *blocks; /* those of the server that hold it */
  size_t skip;     /* bytes of them before it */
  int error;       /* it was not read */
};

static bool
is_equal (const struct piece *p)
{
  return memcmp (p->blocks + p->skip, p->witness.data, p->witness.length) == 0;
}

/* Ask for whole blocks of this server, which it may have others than were known
 * when the piece was taken.  A piece that was read across them may need more
 * than the server gives at once: as much of it must do.  NULL: no memory.
 */
static const struct command *
ask (struct batch *b, const struct destination *d, struct piece *p)
{
  struct witness *const w = &p->witness;
  const uint64_t mask = d->minimum - 1;
  const uint64_t start = w->offset & ~mask;
  uint64_t end = (w->offset + w->length + mask) & ~mask;

  if (end - start > d->maximum) {
    end = start + d->maximum;
    w->length = end - w->offset;
  }
  p->skip = w->offset - start;
  p->blocks = malloc (end - start);
  if (p->blocks == NULL)
    return NULL;
  return batch_add (b, COMMAND_READ, 0, start, end - start, p->blocks);
}

static size_t
list_pieces (struct relay *r, struct piece *v)
{
  struct witness list[WITNESSES];
  size_t n;

  pthread_mutex_lock (&r->remote.lock);
  n = witness_list (&r->witnesses, list);
  pthread_mutex_unlock (&r->remote.lock);
  for (size_t i = 0; i < n; ++i)
    v[i].witness = list[i];
  return n;
}

/* 0 or REMOTE_LOST.  Each has its own outcome: an error says nothing about
 * whose disk it is.
 */
static int
read_pieces (struct relay *r, struct connection *c, struct piece *v, size_t n)
{
  const struct command *asked[WITNESSES] = { NULL };
  struct batch b;
  int result;

  batch_init (&b, 0);
  for (size_t i = 0; i < n; ++i)
    asked[i] = ask (&b, &c->destination, &v[i]);
  if (b.n == 0)
    result = 0;
  else {
    batch_send (&r->remote, &b, c);
    result = batch_wait (&r->remote, &b);
  }
  for (size_t i = 0; i < n; ++i)
    v[i].error = asked[i] != NULL ? asked[i]->error : ENOMEM;
  batch_destroy (&b);
  return result < 0 ? REMOTE_LOST : 0;
}

/* Whether all that were read are as they must be, and there is one. */
static int
compare (struct relay *r, const struct piece *v, size_t n,
         struct recognition *k)
{
  size_t equal = 0;

  for (size_t i = 0; i < n; ++i) {
    const struct piece *const p = &v[i];

    if (p->error != 0) {
      if (k->error == 0)
        k->error = p->error;
      continue;
    }
    k->read++;
    if (is_equal (p))
      equal++;
    else if (is_current (r, &p->witness)) {
      k->offset = p->witness.offset;
      return ESTALE;
    }
  }
  return equal > 0 ? 0 : EAGAIN;
}

static void
free_pieces (struct piece *v, size_t n)
{
  for (size_t i = 0; i < n; ++i)
    free (v[i].blocks);
}

int
relay_recognise (struct relay *r, struct connection *c, struct recognition *k)
{
  struct piece v[WITNESSES] = { { .blocks = NULL } };
  const size_t n = list_pieces (r, v);
  int result = 0;

  *k = (struct recognition){ .remembered = n };
  if (n > 0) {
    result = read_pieces (r, c, v, n);
    if (result == 0)
      result = compare (r, v, n, k);
  }
  free_pieces (v, n);
  return result;
}
