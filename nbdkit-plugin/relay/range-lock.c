/* SPDX-License-Identifier: BSD-3-Clause */
/* Which byte ranges of the destination are being written. */

#include <stddef.h>
#include <stdlib.h>

#include "range-lock.h"

struct range_suspect {
  uint64_t start, end;
  int64_t until;
  struct range_suspect *next;
};

void
range_lock_init (struct range_lock *l, uint32_t block_bytes)
{
  l->head.prev = l->head.next = &l->head;
  l->block_bytes = block_bytes;
  l->suspects = NULL;
  l->tickets = 0;
}

void
range_lock_destroy (struct range_lock *l)
{
  while (l->suspects != NULL) {
    struct range_suspect *s = l->suspects;

    l->suspects = s->next;
    free (s);
  }
}

void
range_lock_enter (struct range_lock *l, struct range_node *node,
                  uint64_t offset, uint64_t length)
{
  const uint64_t mask = l->block_bytes - 1;

  node->start = offset & ~mask;
  node->end = (offset + length + mask) & ~mask;
  node->ticket = ++l->tickets;
  node->prev = l->head.prev;
  node->next = &l->head;
  node->prev->next = node;
  l->head.prev = node;
}

/* Whether a suspect is in the way; those that are over are dropped. */
static bool
is_suspect (struct range_lock *l, const struct range_node *node, int64_t now)
{
  bool found = false;

  for (struct range_suspect **p = &l->suspects; *p != NULL;) {
    struct range_suspect *s = *p;

    if (s->until <= now) {
      *p = s->next;
      free (s);
      continue;
    }
    if (s->start < node->end && node->start < s->end)
      found = true;
    p = &s->next;
  }
  return found;
}

enum range_answer
range_lock_ask (struct range_lock *l, const struct range_node *node,
                int64_t now)
{
  for (const struct range_node *n = node->prev; n != &l->head; n = n->prev) {
    if (n->start < node->end && node->start < n->end)
      return RANGE_HELD;
  }
  if (l->suspects != NULL && is_suspect (l, node, now))
    return RANGE_SUSPECT;
  return RANGE_MINE;
}

void
range_lock_leave (struct range_lock *l, struct range_node *node)
{
  (void)l;
  node->prev->next = node->next;
  node->next->prev = node->prev;
}

void
range_lock_replace (struct range_node *node, struct range_node *other)
{
  *other = *node;
  other->prev->next = other;
  other->next->prev = other;
}

bool
range_lock_blocks_read (const struct range_lock *l, uint64_t offset,
                        uint64_t length, uint64_t ticket)
{
  const struct range_node *n = l->head.next;

  for (; n != &l->head && n->ticket <= ticket; n = n->next) {
    if (n->start < offset + length && offset < n->end)
      return true;
  }
  return false;
}

void
range_lock_each_suspect (const struct range_lock *l, int64_t now,
                         void (*cb) (void *opaque, uint64_t offset,
                                     uint64_t length, int64_t until),
                         void *opaque)
{
  for (const struct range_suspect *s = l->suspects; s != NULL; s = s->next) {
    if (s->until > now)
      cb (opaque, s->start, s->end - s->start, s->until);
  }
}

int
range_lock_leave_suspect (struct range_lock *l, struct range_node *node,
                          int64_t until)
{
  struct range_suspect *s = malloc (sizeof *s);

  if (s == NULL)
    return -1;
  s->start = node->start;
  s->end = node->end;
  s->until = until;
  s->next = l->suspects;
  l->suspects = s;
  range_lock_leave (l, node);
  return 0;
}

bool
range_lock_has_suspects (const struct range_lock *l, int64_t now)
{
  for (const struct range_suspect *s = l->suspects; s != NULL; s = s->next) {
    if (s->until > now)
      return true;
  }
  return false;
}

void
range_lock_suspects_until (struct range_lock *l, int64_t until)
{
  for (struct range_suspect *s = l->suspects; s != NULL; s = s->next)
    s->until = until;
}
