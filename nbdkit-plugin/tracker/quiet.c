/* SPDX-License-Identifier: BSD-3-Clause */
/* Which chunks are the same on both sides, and stay so for a while (R14).
 *
 * A chunk is quiet that was clean, with no request in the list, when
 * tracker_note_quiet came to it, and that no guest has touched since.  What the
 * destination has of it was read before that call; so a flush of the source
 * that begins after the call makes that durable at the source, too, unless a
 * guest writes there again, and then the chunk is not quiet.
 *
 * Both go through the disk in steps, so that guests wait for one of them at
 * most.
 */

#include "cleanup.h"
#include "internal.h"

#define STEP_WORDS 1024 /* 65536 chunks */

/* Whether the bits and the list tell everything that may be different. */
static bool
is_known (struct tracker *t)
{
  return t->tracking && tracker_is_settled (t) &&
         tracker_owner (t) == OWNER_SOURCE;
}

static uint64_t
words_of (const struct tracker *t)
{
  return (t->chunks.n + 63) / 64;
}

static size_t
step_at (const struct tracker *t, uint64_t word)
{
  const uint64_t left = words_of (t) - word;

  return left < STEP_WORDS ? left : STEP_WORDS;
}

bool
tracker_note_quiet (struct tracker *t, bool touched_too)
{
  for (uint64_t word = 0;; word += STEP_WORDS) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

    if (!is_known (t))
      return false;
    if (word >= words_of (t))
      return true;
    chunks_note_quiet (&t->chunks, &t->in_flight, touched_too, word,
                       step_at (t, word));
  }
}

void
tracker_give_quiet (struct tracker *t, uint64_t chunk_bytes,
                    tracker_quiet_taker *take, void *opaque)
{
  uint64_t bits[STEP_WORDS];

  for (uint64_t word = 0;; word += STEP_WORDS) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

    if (!is_known (t) || word >= words_of (t) ||
        chunk_bytes != UINT64_C (1) << t->chunks.shift)
      return;

    const size_t n = step_at (t, word);

    chunks_quiet (&t->chunks, &t->in_flight, word, n, bits);
    take (opaque, word, bits, n);
  }
}

void
tracker_source_lost (struct tracker *t, uint64_t chunk_bytes, uint64_t word,
                     const uint64_t *bits, size_t n)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  if (!t->tracking || tracker_owner (t) != OWNER_SOURCE)
    return;
  if (chunk_bytes == UINT64_C (1) << t->chunks.shift)
    chunks_mark_words (&t->chunks, word, bits, n);
  else
    chunks_mark_all (&t->chunks);
}

void
tracker_restore (struct tracker *t, const uint64_t *dirty, bool quarantined)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&t->lock);

  chunks_restore (&t->chunks, dirty, quarantined);
  if (quarantined)
    tracker_quarantined (t);
  atomic_store (&t->tracking, true); /* R1: no request has come yet */
}
