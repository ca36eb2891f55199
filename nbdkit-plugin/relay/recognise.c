/* SPDX-License-Identifier: BSD-3-Clause */
/* Is this still the disk?  Asked of each connection before it is used
 * (witness.h).
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

_Static_assert(WITNESSES <= BATCH_MAX, "all are asked for at once");

/* Only what this server can read: it may have other blocks by now. */
static bool
can_read (const struct destination *d, const struct witness *p)
{
  return p->offset % d->minimum == 0 && p->length % d->minimum == 0 &&
         p->length <= d->maximum;
}

/* What was overwritten meanwhile proves nothing any more. */
static bool
is_current (struct relay *r, const struct witness *p)
{
  bool found = false;

  pthread_mutex_lock (&r->remote.lock);
  for (size_t i = 0; i < WITNESSES; ++i) {
    const struct witness *const w = &r->witnesses.v[i];

    if (w->length == p->length && w->offset == p->offset &&
        memcmp (w->data, p->data, p->length) == 0)
      found = true;
  }
  pthread_mutex_unlock (&r->remote.lock);
  return found;
}

/* The first that differs and must not, or NULL. */
static const struct witness *
find_stranger (struct relay *r, const struct witness *v,
               uint8_t (*read)[WITNESS_BYTES], const bool *asked, size_t n)
{
  for (size_t i = 0; i < n; ++i) {
    if (asked[i] && memcmp (v[i].data, read[i], v[i].length) != 0 &&
        is_current (r, &v[i]))
      return &v[i];
  }
  return NULL;
}

int
relay_recognise (struct relay *r, struct connection *c, uint64_t *offset)
{
  struct witness v[WITNESSES];
  uint8_t read[WITNESSES][WITNESS_BYTES];
  bool asked[WITNESSES] = { false };
  const struct witness *stranger;
  struct batch b;
  size_t n;
  int result;

  pthread_mutex_lock (&r->remote.lock);
  n = witness_list (&r->witnesses, v);
  pthread_mutex_unlock (&r->remote.lock);
  batch_init (&b, 0);
  for (size_t i = 0; i < n; ++i) {
    asked[i] = can_read (&c->destination, &v[i]);
    if (asked[i])
      batch_add (&b, COMMAND_READ, 0, v[i].offset, v[i].length, read[i]);
  }
  if (b.n > 0)
    batch_send (&r->remote, &b, c);
  result = b.n > 0 ? batch_wait (&r->remote, &b) : 0;
  batch_destroy (&b);
  /* An error of the server's says nothing about whose disk it is. */
  if (result != 0)
    return result == REMOTE_LOST ? REMOTE_LOST : 0;
  stranger = find_stranger (r, v, read, asked, n);
  if (stranger == NULL)
    return 0;
  *offset = stranger->offset;
  return ESTALE;
}
