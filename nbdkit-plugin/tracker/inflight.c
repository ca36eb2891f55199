/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <stddef.h>

#include "inflight.h"

void
inflight_init (struct inflight *l)
{
  *l = (struct inflight){ .head = { .prev = &l->head, .next = &l->head } };
}

void
inflight_add (struct inflight *l, struct inflight_node *node, uint64_t offset,
              uint64_t length)
{
  assert (offset <= UINT64_MAX - length);

  *node = (struct inflight_node){
    .offset = offset, .length = length, .prev = l->head.prev, .next = &l->head
  };
  node->prev->next = node;
  l->head.prev = node;
  l->requests++;
  l->bytes += length;
}

void
inflight_remove (struct inflight *l, struct inflight_node *node)
{
  assert (l->requests > 0 && l->bytes >= node->length);
  assert (node->prev->next == node && node->next->prev == node);

  node->prev->next = node->next;
  node->next->prev = node->prev;
  node->prev = node->next = NULL;
  l->requests--;
  l->bytes -= node->length;
  l->mirrored -= node->mirrored;
}

void
inflight_mirror (struct inflight *l, struct inflight_node *node)
{
  assert (!node->mirrored);
  node->mirrored = true;
  l->mirrored++;
}

void
inflight_conflict (struct inflight *l)
{
  for (struct inflight_node *n = l->head.next; l->mirrored > 0 && n != &l->head;
       n = n->next)
    n->conflict = true;
}

bool
inflight_overlaps (const struct inflight *l, uint64_t offset, uint64_t length)
{
  if (length == 0)
    return false;
  for (const struct inflight_node *n = l->head.next; n != &l->head;
       n = n->next) {
    /* Written so that nothing overflows at the end of the number range. */
    if (n->offset < offset ? offset - n->offset < n->length
                           : n->length > 0 && n->offset - offset < length)
      return true;
  }
  return false;
}

uint64_t
inflight_first (const struct inflight *l, uint64_t offset, uint64_t length)
{
  uint64_t first = offset + length;

  for (const struct inflight_node *n = l->head.next; n != &l->head;
       n = n->next) {
    const uint64_t begin = n->offset > offset ? n->offset : offset;

    if (begin < first && n->offset + n->length > begin)
      first = begin;
  }
  return first;
}
