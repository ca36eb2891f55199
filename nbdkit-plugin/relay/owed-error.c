/* SPDX-License-Identifier: BSD-3-Clause */

#include "cleanup.h"
#include "owed-error.h"

void
owed_error_init (struct owed_error *o, bool owed,
                 int (*keep) (void *opaque, bool owed), void *opaque)
{
  *o = (struct owed_error){
    .raised = owed,
    .kept = owed,
    .keep = keep,
    .opaque = opaque,
  };
  pthread_mutex_init (&o->lock, NULL);
  pthread_mutex_init (&o->keep_lock, NULL);
}

void
owed_error_destroy (struct owed_error *o)
{
  pthread_mutex_destroy (&o->lock);
  pthread_mutex_destroy (&o->keep_lock);
}

/* The lock must be held. */
static void
changed (struct owed_error *o)
{
  if (o->keep != NULL)
    __atomic_store_n (&o->unsettled, true, __ATOMIC_RELEASE);
}

void
owed_error_raise (struct owed_error *o, uint64_t *seen)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->lock);
  const bool up_to_date = seen != NULL && *seen == o->raised;

  ++o->raised;
  if (up_to_date)
    *seen = o->raised;
  changed (o);
}

uint64_t
owed_error_seen (struct owed_error *o)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->lock);

  return o->heard;
}

bool
owed_error_tell (struct owed_error *o, uint64_t *seen)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->lock);

  if (*seen == o->raised)
    return false;
  *seen = o->raised;
  return true;
}

void
owed_error_heard (struct owed_error *o, uint64_t seen)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->lock);

  if (seen <= o->heard)
    return;
  o->heard = seen;
  changed (o);
}

uint64_t
owed_error_count (struct owed_error *o)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->lock);

  return o->raised;
}

/* Whether one is owed that nobody has heard of. */
static bool
take_change (struct owed_error *o)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->lock);

  __atomic_store_n (&o->unsettled, false, __ATOMIC_RELEASE);
  return o->heard != o->raised;
}

void
owed_error_settle (struct owed_error *o)
{
  bool owed;

  if (!__atomic_load_n (&o->unsettled, __ATOMIC_ACQUIRE))
    return;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->keep_lock);
  owed = take_change (o);
  if (owed == o->kept)
    return;
  if (o->keep (o->opaque, owed) == 0)
    o->kept = owed;
  else
    __atomic_store_n (&o->unsettled, true, __ATOMIC_RELEASE);
}
