/* SPDX-License-Identifier: BSD-3-Clause */

#include <string.h>

#include "witness.h"

/* While all places are taken, one is given away after so many writes. */
#define EVERY 16

/* Of those that were flushed, so many are not given away: what takes their
 * places proves nothing before it is flushed.
 */
#define FLUSHED_LEAST (WITNESSES - 4)

static bool
overlaps (const struct witness *p, uint64_t offset, uint64_t length)
{
  return p->length > 0 && p->offset < offset + length &&
         offset < p->offset + p->length;
}

void
witness_forget (struct witnesses *w, uint64_t offset, uint64_t length)
{
  w->writes++;
  for (size_t i = 0; i < WITNESSES; ++i) {
    if (overlaps (&w->v[i], offset, length))
      w->v[i].length = 0;
  }
}

void
witness_owner (struct witnesses *w, bool ours)
{
  w->not_ours = !ours;
  if (!ours)
    witness_forget (w, 0, UINT64_MAX);
}

void
witness_inherit (struct witnesses *w)
{
  w->inherited = true;
}

/* ---- Taking one -------------------------------------------------------- */

static bool
is_zero (const uint8_t *p, size_t length)
{
  return p[0] == 0 && memcmp (p, p + 1, length - 1) == 0;
}

/* All places are taken. */
static unsigned
count_flushed (const struct witnesses *w)
{
  unsigned n = 0;

  for (size_t i = 0; i < WITNESSES; ++i)
    n += w->v[i].flushed;
  return n;
}

/* There is one. */
static struct witness *
next_flushed (struct witnesses *w)
{
  struct witness *p;

  do
    p = &w->v[w->next++ % WITNESSES];
  while (!p->flushed);
  return p;
}

/* A free place; with none, now and then one that was flushed, so that what is
 * remembered is not all of the first minutes.  NULL: no place.  (Many writes
 * may be answered while none begins.)
 */
static struct witness *
find_place (struct witnesses *w)
{
  for (size_t i = 0; i < WITNESSES; ++i) {
    if (w->v[i].length == 0)
      return &w->v[i];
  }
  if (w->writes - w->given_away < EVERY || count_flushed (w) <= FLUSHED_LEAST)
    return NULL;
  w->given_away = w->writes;
  return next_flushed (w);
}

/* The beginning of a range; NULL: there is nothing to be taken. */
static struct witness *
take (struct witnesses *w, const uint8_t *data, uint64_t offset,
      uint64_t length)
{
  const uint64_t n = length < WITNESS_BYTES ? length : WITNESS_BYTES;
  struct witness *p;

  if (n == 0 || is_zero (data, n))
    return NULL;
  p = find_place (w);
  if (p == NULL)
    return NULL;
  *p = (struct witness){ .offset = offset, .length = n };
  memcpy (p->data, data, n);
  return p;
}

void
witness_written (struct witnesses *w, const uint8_t *data, uint64_t offset,
                 uint64_t length)
{
  take (w, data, offset, length);
}

void
witness_trimmed (struct witnesses *w)
{
  w->trimmed = true;
}

void
witness_write_failed (struct witnesses *w)
{
  w->failed = true;
}

bool
witness_wants_reads (const struct witnesses *w)
{
  return !w->trimmed && !w->failed && !w->not_ours && !w->inherited &&
         w->v[WITNESSES - 1].length == 0;
}

void
witness_read (struct witnesses *w, const uint8_t *data, uint64_t offset,
              uint64_t length)
{
  struct witness *p;

  if (w->failed || w->not_ours || w->inherited)
    return;
  for (size_t i = 0; i < WITNESSES; ++i) {
    if (overlaps (&w->v[i], offset, length))
      return;
  }
  p = take (w, data, offset, length);
  if (p != NULL)
    p->flushed = true;
}

/* ---- Flushes ----------------------------------------------------------- */

void
witness_flush_begin (struct witnesses *w, uint64_t mark, bool late)
{
  if (w->inherited && w->inherited_end == 0 && !late)
    w->inherited_end = mark;
  for (size_t i = 0; i < WITNESSES; ++i) {
    if (w->v[i].flush == 0)
      w->v[i].flush = mark;
  }
}

bool
witness_flush_end (struct witnesses *w, uint64_t mark)
{
  const bool covered =
    w->inherited && w->inherited_end != 0 && w->inherited_end <= mark;

  for (size_t i = 0; i < WITNESSES; ++i) {
    struct witness *const p = &w->v[i];

    if (p->flush != 0 && p->flush <= mark)
      p->flushed = true;
  }
  if (covered)
    w->inherited = false;
  return covered;
}

void
witness_flush_failed (struct witnesses *w)
{
  w->failed = true;
  for (size_t i = 0; i < WITNESSES; ++i) {
    if (!w->v[i].flushed)
      w->v[i].length = 0;
  }
}

void
witness_restore (struct witnesses *w, const uint8_t *data, uint64_t offset,
                 uint64_t length)
{
  for (size_t i = 0; i < WITNESSES && length <= WITNESS_BYTES; ++i) {
    struct witness *const p = &w->v[i];

    if (p->length > 0)
      continue;
    *p =
      (struct witness){ .offset = offset, .length = length, .flushed = true };
    memcpy (p->data, data, length);
    return;
  }
}

size_t
witness_list (const struct witnesses *w, struct witness out[WITNESSES])
{
  size_t n = 0;

  for (size_t i = 0; i < WITNESSES; ++i) {
    if (w->v[i].length > 0 && w->v[i].flushed)
      out[n++] = w->v[i];
  }
  return n;
}
