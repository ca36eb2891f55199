/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "shared-memory.h"
#include "shared-reads.h"

struct mapping {
  struct shared_memory memory;
  unsigned users; /* the session and requests, under the lock */
};

void
shared_reads_init (struct shared_reads *s)
{
  *s = (struct shared_reads){ .mapping = NULL };
  pthread_mutex_init (&s->lock, NULL);
}

/* The lock must be held. */
static void
leave (struct mapping *m)
{
  if (--m->users > 0)
    return;
  shared_memory_unmap (&m->memory);
  free (m);
}

void
shared_reads_end (struct shared_reads *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);

  if (s->mapping != NULL)
    leave (s->mapping);
  s->mapping = NULL;
  s->pid = 0;
}

void
shared_reads_destroy (struct shared_reads *s)
{
  shared_reads_end (s);
  pthread_mutex_destroy (&s->lock);
}

const char *
shared_reads_begin (struct shared_reads *s, int fd, int64_t pid)
{
  struct mapping *m;
  const char *why;

  if (pid <= 0)
    return "the process at the other end is not known here";
  m = calloc (1, sizeof *m);
  if (m == NULL)
    return strerror (errno);
  why = shared_memory_map (&m->memory, fd);
  if (why != NULL) {
    free (m);
    return why;
  }
  m->users = 1;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  assert (s->mapping == NULL); /* one session a disk (R16) */
  s->mapping = m;
  s->pid = pid;
  return NULL;
}

bool
shared_reads_take (struct shared_reads *s, int64_t pid, uint64_t offset,
                   uint32_t length, struct shared_read *read)
{
  if (pid == 0)
    return false;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  if (s->mapping == NULL || s->pid != pid)
    return false;
  read->slot =
    shared_memory_take (&s->mapping->memory, offset, length, &read->where);
  if (read->slot == NULL)
    return false;
  read->mapping = s->mapping;
  read->mapping->users++;
  return true;
}

void
shared_reads_ended (struct shared_reads *s, struct shared_read *read,
                    bool filled)
{
  shared_memory_ended (read->slot, filled);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  leave (read->mapping);
}
