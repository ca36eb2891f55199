/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's flush waits for no other guest's: without the filter it would not,
 * either, and each guest hears what its own connection is told.
 *
 * Nobody waits for one that waits itself, so nobody waits for ever.
 */

#include "cleanup.h"
#include "flushes.h"

void
flushes_init (struct flushes *f)
{
  *f = (struct flushes){ .begun = 0 };
  pthread_mutex_init (&f->lock, NULL);
  pthread_cond_init (&f->changed, NULL);
}

void
flushes_destroy (struct flushes *f)
{
  pthread_cond_destroy (&f->changed);
  pthread_mutex_destroy (&f->lock);
}

void
flushes_enter (struct flushes *f, struct flush_entry *entry, bool own)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  *entry = (struct flush_entry){
    .next = f->under_way,
    .number = ++f->begun,
    .own_failed = f->own_failed,
    .own = own,
  };
  f->under_way = entry;
}

/* ---- The lock must be held ---------------------------------------------- */

static bool
has_others (const struct flushes *f, const struct flush_entry *entry,
            uint64_t last)
{
  for (const struct flush_entry *o = f->under_way; o != NULL; o = o->next)
    if (!o->answered && o->number <= last && (o->own || entry->own))
      return true;
  return false;
}

static void
wait_for_others (struct flushes *f, struct flush_entry *entry)
{
  const uint64_t last = f->begun;

  entry->answered = true;
  pthread_cond_broadcast (&f->changed);
  while (has_others (f, entry, last))
    pthread_cond_wait (&f->changed, &f->lock);
}

static void
note_failure (struct flushes *f, const struct flush_entry *entry)
{
  f->failed = true;
  f->own_failed += entry->own;
}

static void
remove_entry (struct flushes *f, const struct flush_entry *entry)
{
  struct flush_entry **p = &f->under_way;

  while (*p != entry)
    p = &(*p)->next;
  *p = entry->next;
  pthread_cond_broadcast (&f->changed);
}

/* ------------------------------------------------------------------------- */

int
flushes_leave (struct flushes *f, struct flush_entry *entry, int r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  if (r == -1)
    note_failure (f, entry);
  else
    wait_for_others (f, entry);
  remove_entry (f, entry);
  return f->own_failed == entry->own_failed ? r : -1;
}

void
flushes_drop (struct flushes *f, struct flush_entry *entry, int r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  if (r == -1)
    note_failure (f, entry);
  remove_entry (f, entry);
}

bool
flushes_have_failed (struct flushes *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  return f->failed;
}
