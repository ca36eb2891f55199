/* SPDX-License-Identifier: BSD-3-Clause */
/* From parts to chunks.
 *
 * Leases are of whole chunks, but on a large disk a chunk is long: where a
 * hole begins inside one, its data and its zeroes are parts of different jobs.
 * A chunk has ended when all of its parts have, and as the worst of them did.
 * Chunks that are only partly done are kept in a small hash table; only
 * neighbours in the queue are, so that its chains stay short.
 */

#include <stdlib.h>

#include "base/no-memory.h"
#include "copy/copier-internal.h"

struct part {
  uint64_t chunk; /* its number */
  uint64_t left;  /* bytes not yet ended */
  enum copy_outcome worst;
  struct part *next;
};

static uint64_t
chunk_length (const struct copier *c, uint64_t chunk)
{
  const uint64_t bytes = c->options.chunk_bytes;
  const uint64_t rest = c->source->disk_bytes - chunk * bytes;

  return rest < bytes ? rest : bytes;
}

/* The entry of a chunk, made if there is none yet; where it hangs. */
static struct part **
find (struct copier *c, uint64_t chunk)
{
  struct part **p = &c->parts[chunk % COPIER_PARTS];

  while (*p != NULL && (*p)->chunk != chunk)
    p = &(*p)->next;
  if (*p != NULL)
    return p;
  *p = malloc (sizeof **p);
  if (*p == NULL)
    no_memory (); /* a leased range must not be forgotten */
  **p = (struct part){ chunk, chunk_length (c, chunk), COPY_SKIPPED, NULL };
  return p;
}

static void
add_part (struct copier *c, uint64_t offset, uint64_t length,
          enum copy_outcome outcome)
{
  const uint64_t chunk = offset / c->options.chunk_bytes;
  struct part **where = find (c, chunk);
  struct part *p = *where;

  if (outcome > p->worst) /* skipped, done, failed, unknown */
    p->worst = outcome;
  p->left -= length;
  if (p->left > 0)
    return;
  outcome = p->worst;
  *where = p->next;
  free (p);
  c->options.ended (c->options.opaque, chunk * c->options.chunk_bytes,
                    chunk_length (c, chunk), outcome);
}

void
copier_ended_range (struct copier *c, uint64_t offset, uint64_t length,
                    enum copy_outcome outcome)
{
  const uint64_t chunk = c->options.chunk_bytes;
  const uint64_t end = offset + length;
  const bool to_the_end = end == c->source->disk_bytes;
  const uint64_t first = (offset + chunk - 1) / chunk * chunk;
  const uint64_t last = to_the_end ? end : end / chunk * chunk;

  if (first > last) { /* inside one chunk */
    add_part (c, offset, length, outcome);
    return;
  }
  if (first > offset)
    add_part (c, offset, first - offset, outcome);
  if (last > first)
    c->options.ended (c->options.opaque, first, last - first, outcome);
  if (end > last)
    add_part (c, last, end - last, outcome);
}

void
copier_free_parts (struct copier *c)
{
  size_t i;

  for (i = 0; i < COPIER_PARTS; ++i)
    while (c->parts[i] != NULL) {
      struct part *p = c->parts[i];

      c->parts[i] = p->next;
      free (p);
    }
}
