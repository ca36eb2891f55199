/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's flush waits for no other guest's: without the filter it would not,
 * either, and each guest hears what its own connection is told.
 *
 * Nobody waits for one that waits itself, so nobody waits for ever.
 *
 * Why no loss is missed.  'unflushed' is set before a write begins and when it
 * is done; who begins a flush takes it along, and a guest's that fails puts it
 * back.  When a flush of the filter's has failed, a write that it may have lost
 * had begun before, so 'unflushed' is set, or a flush has taken it since that
 * is still there, itself or one that waits for it; or one of the filter's has
 * failed and taken it, and the guests are owed the error already.
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

/* The usual write finds it set, and leaves the cache line to all. */
void
flushes_wrote (struct flushes *f)
{
  if (!__atomic_load_n (&f->unflushed, __ATOMIC_SEQ_CST))
    __atomic_store_n (&f->unflushed, true, __ATOMIC_SEQ_CST);
}

static bool
take_unflushed (struct flushes *f)
{
  return __atomic_exchange_n (&f->unflushed, false, __ATOMIC_SEQ_CST);
}

void
flushes_enter (struct flushes *f, struct flush_entry *entry,
               enum flush_kind kind)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  *entry = (struct flush_entry){
    .next = f->under_way,
    .number = ++f->begun,
    .own_failed = f->own_failed,
    .kind = kind,
    .unflushed = kind != FLUSH_FUA && take_unflushed (f),
  };
  f->under_way = entry;
}

/* ---- The lock must be held ---------------------------------------------- */

static bool
has_others (const struct flushes *f, const struct flush_entry *entry,
            uint64_t last)
{
  for (const struct flush_entry *o = f->under_way; o != NULL; o = o->next)
    if (!o->waits && o->number <= last &&
        (o->kind == FLUSH_OWN || entry->kind == FLUSH_OWN))
      return true;
  return false;
}

static void
wait_for_others (struct flushes *f, struct flush_entry *entry)
{
  const uint64_t last = f->begun;

  entry->waits = true;
  pthread_cond_broadcast (&f->changed);
  while (has_others (f, entry, last) && !f->stopping)
    pthread_cond_wait (&f->changed, &f->lock);
  entry->stopped = has_others (f, entry, last);
}

/* Whether this one, which has failed, may have lost something of anybody's. */
static bool
has_lost (const struct flushes *f)
{
  for (const struct flush_entry *o = f->under_way; o != NULL; o = o->next)
    if (o->unflushed || o->kind == FLUSH_FUA)
      return true;
  return __atomic_load_n (&f->unflushed, __ATOMIC_SEQ_CST);
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

/* A guest's that fails tells that guest; whether it has lost something is then
 * not asked, since with multi-conn another one's may have succeeded, at another
 * server.
 */
bool
flushes_answered (struct flushes *f, struct flush_entry *entry, int r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  const bool own = entry->kind == FLUSH_OWN;
  const bool lost = r == -1 && (!own || has_lost (f));

  entry->answered = true;
  entry->answer = r;
  if (r == -1 && own)
    f->own_failed++;
  if (r == -1 && !own && entry->unflushed)
    flushes_wrote (f);
  f->failed |= lost;
  return own && lost;
}

int
flushes_leave (struct flushes *f, struct flush_entry *entry)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

#ifdef PLANT_BUG_flush_waits_for_none
  if (false)
#else
  if (entry->answer == 0)
#endif
    wait_for_others (f, entry);
  remove_entry (f, entry);
  return f->own_failed == entry->own_failed && !entry->stopped ? entry->answer
                                                               : -1;
}

void
flushes_drop (struct flushes *f, struct flush_entry *entry)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  remove_entry (f, entry);
}

void
flushes_stop (struct flushes *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  f->stopping = true;
  pthread_cond_broadcast (&f->changed);
}

bool
flushes_lose (struct flushes *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  bool lost = take_unflushed (f);

  for (const struct flush_entry *o = f->under_way; o != NULL; o = o->next)
    lost |= o->unflushed && !o->answered;
  return lost;
}

bool
flushes_have_failed (struct flushes *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  return f->failed;
}
