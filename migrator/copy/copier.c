/* SPDX-License-Identifier: BSD-3-Clause */
/* What the caller of the copy engine says and asks (copier.h). */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "cleanup.h"
#include "copy/copier-internal.h"
#include "nbd/words.h"
#include "shared-memory.h"
#include "zero-align.h"

/* Ranges shorter than this are read without asking: a question costs as much
 * as the answer, and zeroes are found in the data.
 */
#define LOOKUP_BYTES_MIN (1024 * 1024)

/* A shorter disk is asked for its zeroes at once: that takes 7 ms at most. */
#define UNASKED_BYTES_MIN (UINT64_C (256) * 1024 * 1024)

/* Shorter runs of zeroes in data are written as data: a request costs more. */
#define ZERO_UNIT (64 * 1024)

#define GRAIN 4096 /* what file systems allocate */

/* ---- life -------------------------------------------------------------- */

struct copier *
copier_new (struct loop *loop, struct endpoint *source,
            struct endpoint *destination, const struct copier_options *options)
{
  struct copier *c = calloc (1, sizeof *c);

  if (c == NULL)
    return NULL;
  c->loop = loop;
  c->source = source;
  c->destination = destination;
  c->options = *options;
  c->asks = source->disk_bytes < UNASKED_BYTES_MIN;
  c->zero_unit = ZERO_UNIT;
  if (c->zero_unit < destination->minimum_bytes)
    c->zero_unit = destination->minimum_bytes;
  if (c->zero_unit < source->minimum_bytes)
    c->zero_unit = source->minimum_bytes;
  c->grain = GRAIN;
  if (c->grain < destination->minimum_bytes)
    c->grain = destination->minimum_bytes;
  if (c->grain < source->minimum_bytes)
    c->grain = source->minimum_bytes;
  copier_set_paces (c);
  queue_init (&c->unknown);
  queue_init (&c->ready);
  c->source_ops.last = &c->source_ops.first;
  c->destination_ops.last = &c->destination_ops.first;
  c->reader_ops.last = &c->reader_ops.first;
  c->obey_rate = true;
  c->lookups_max = 1;
  c->zero_bytes_max = destination->zero_maximum_bytes;
  c->zero_align = ZERO_ALIGN_ANY;
  c->random = options->sample_seed;
  c->buffers = buffers_new (options->buffer_bytes);
  c->blank = blank_new (c);
  if (c->buffers != NULL && c->blank != NULL)
    return c;
  copier_free (c);
  return NULL;
}

void
copier_free (struct copier *c)
{
  if (c == NULL)
    return;
  queue_free (&c->unknown);
  queue_free (&c->ready);
  lookups_free (c);
  blank_free (c->blank);
  small_free_all (&c->smalls);
  copier_free_parts (c);
  buffers_free (c->buffers);
  free (c->error);
  free (c);
}

/* ---- what the caller says and asks ------------------------------------- */

int
copier_shared_fd (const struct copier *c, const char **why)
{
  return buffers_fd (c->buffers, why);
}

void
copier_share (struct copier *c, bool shared, const char *why)
{
  c->shared = shared;
  c->not_shared = why;
  copier_set_paces (c);
  buffers_close_fd (c->buffers);
}

/* In the middle of the copying.  From now on answers of the source carry data:
 * as few of them are in flight as if it had been so from the beginning.
 */
static void
stop_sharing (struct copier *c, const char *why)
{
  if (!c->shared)
    return;
  c->shared = false;
  c->not_shared = why;
  copier_set_source_pace (c);
}

bool
copier_was_refused (const struct io *io)
{
  return !io->lost && (io->error == EINVAL || io->error == EOPNOTSUPP);
}

/* R3: the chunks are leased. */
struct shared_slot *
copier_read_source (struct copier *c, struct connection *conn, struct io *io,
                    char *buf, uint32_t length, uint64_t offset)
{
  struct shared_slot *slot = NULL;
  struct connection *other;

  if (c->shared && conn->can_cache)
    slot = buffers_post (c->buffers, offset, length, buf);
  if (slot != NULL) {
    connection_cache (conn, io, length, offset);
    return slot;
  }
  /* Its answer carries data, see copier-run.c; this is rare. */
  other = endpoint_idle (c->source, UINT_MAX, 1);
  connection_read (other != NULL ? other : conn, io, buf, length, offset);
  return NULL;
}

bool
copier_collect (struct copier *c, struct shared_slot *slot, struct io *io,
                bool *in_use)
{
  const enum shared_state state = shared_memory_collect (slot);

  if (state == SHARED_POSTED && (io->error == 0 || copier_was_refused (io))) {
    stop_sharing (c, "a filter above the migrate filter, or a process in "
                     "between, answers instead");
    return false;
  }
  if (state != SHARED_TAKEN)
    return true;
  *in_use = true;
  if (io->error == 0)
    io->error = EBUSY;
  return true;
}

bool
copier_is_shared (const struct copier *c, const char **why)
{
  *why = c->shared ? NULL : c->not_shared;
  return c->shared;
}

static bool
must_ask (const struct copier *c, uint64_t length, bool touched)
{
  if (lookup_endpoint (c, touched) == c->options.base)
    return true;
  return !c->distrusted && c->source->has_allocation &&
         length >= LOOKUP_BYTES_MIN;
}

uint64_t
copier_known_data (const struct copier *c, uint64_t offset)
{
  return offset >= c->data_begin && offset < c->data_end
           ? (c->data_end - offset) / c->grain * c->grain
           : 0;
}

int
copier_add (struct copier *c, uint64_t offset, uint64_t length, bool touched)
{
  uint64_t data = length;

  if (must_ask (c, length, touched))
    data = lookup_endpoint (c, touched) == c->options.base
             ? 0
             : copier_known_data (c, offset);
  if (data > length)
    data = length;
  if (data > 0 &&
      queue_append (&c->ready, offset, data, SEGMENT_DATA, touched) == -1)
    return -1;
  if (data == length)
    return 0;
  return queue_append (&c->unknown, offset + data, length - data, SEGMENT_DATA,
                       touched);
}

int
copier_add_compare (struct copier *c, uint64_t offset, uint64_t length)
{
  return queue_append (&c->ready, offset, length, SEGMENT_COMPARE, true);
}

void
copier_compare_over_reader (struct copier *c, bool over_reader)
{
  c->over_reader = over_reader && c->options.reader != NULL;
}

uint64_t
copier_backlog (const struct copier *c)
{
  return c->unknown.bytes + c->ready.bytes;
}

bool
copier_is_moving (const struct copier *c)
{
  return c->jobs > 0;
}

bool
copier_has_ended_all (const struct copier *c)
{
  return copier_backlog (c) == 0 && c->jobs == 0 && c->lookups == NULL;
}

bool
copier_idle (const struct copier *c)
{
  return copier_has_ended_all (c) && c->flushes_beside == 0 && !blank_busy (c);
}

void
copier_note_distance (struct copier *c)
{
  copier_set_paces (c);
}

void
copier_note_more_connections (struct copier *c)
{
  copier_set_source_pace (c);
}

void
copier_note_loss (struct copier *c)
{
  blank_forget (c);
}

/* What is queued as zero is read. */
void
copier_stop_asking (struct copier *c)
{
  struct segment *s;

  c->distrusted = true;
  for (s = c->ready.first; s != NULL; s = s->next)
    if (s->kind == SEGMENT_ZERO)
      s->kind = SEGMENT_DATA;
}

void
copier_distrust (struct copier *c, uint64_t offset)
{
  copier_stop_asking (c);
  c->options.distrusted (c->options.opaque, offset);
}

void
copier_obey_rate (struct copier *c, bool obey)
{
  c->obey_rate = obey;
}

bool
copier_obeys_rate (const struct copier *c)
{
  return c->obey_rate;
}

void
copier_set_narrow (struct copier *c, bool narrow)
{
  c->narrow = narrow;
}

const char *
copier_error (const struct copier *c)
{
  return c->error;
}

bool
copier_has_lost (const struct copier *c)
{
  return c->error_is_loss;
}

void
copier_interrupt (struct copier *c, const char *why)
{
  if (c->error != NULL)
    return;
  c->error = copy_text (why);
  c->error_is_loss = true;
}

/* That a flush failed says nothing of what is written from now on: what it was
 * to cover is dirty again (R6a).
 */
void
copier_go_on (struct copier *c)
{
  assert (c->error_is_loss && !c->flushing);
  free (c->error);
  c->error = NULL;
  c->error_is_loss = c->flush_failed = c->owes_flush = false;
  copier_note_loss (c);
}

void
copier_get_stats (const struct copier *c, struct copier_stats *s)
{
  *s = c->stats;
  if (c->jobs > 0)
    s->busy_us += (uint64_t)(loop_now_us () - c->busy_since_us);
}

/* Only the first error is kept: later ones usually follow from it.  But a loss
 * may pass, and no other error does.  A length of 0: it is about the whole
 * disk.
 */
void
copier_fail (struct copier *c, const char *what, const struct endpoint *where,
             uint64_t offset, uint64_t length, const struct io *io)
{
  const bool loss = io_tells_loss (io) && where == c->destination;
  CLEANUP_FREE char *why = NULL;
  int r;

  if (c->error != NULL && (loss || !c->error_is_loss))
    return;
  why = words_of (io);
  if (why == NULL)
    no_memory ();
  free (c->error);
  c->error_is_loss = loss;
  if (length == 0)
    r = asprintf (&c->error, "%s %s: %s", what, where->uri, why);
  else
    r = asprintf (&c->error,
                  "%s %s at offset %" PRIu64 " (%" PRIu64 " bytes): %s", what,
                  where->uri, offset, length, why);
  if (r == -1)
    no_memory (); /* it would count as no error */
}
