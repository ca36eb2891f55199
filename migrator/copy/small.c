/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdalign.h>
#include <stdlib.h>

#include "copy/small.h"

struct small {
  struct small *prev, *next;
  alignas (max_align_t) char data[];
};

void *
small_new (struct smalls *s, size_t bytes)
{
  struct small *x = calloc (1, sizeof *x + bytes);

  if (x == NULL)
    return NULL;
  x->next = s->first;
  if (s->first != NULL)
    s->first->prev = x;
  s->first = x;
  return x->data;
}

void
small_free (struct smalls *s, void *p)
{
  struct small *x;

  if (p == NULL)
    return;
  x = (struct small *)((char *)p - offsetof (struct small, data));
  if (x->prev != NULL)
    x->prev->next = x->next;
  else
    s->first = x->next;
  if (x->next != NULL)
    x->next->prev = x->prev;
  free (x);
}

void
small_free_all (struct smalls *s)
{
  while (s->first != NULL)
    small_free (s, s->first->data);
}
