/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that nbdmigrate and the filter share, so that what is read need not
 * travel through a socket (a memfd, sent with 'begin').
 *
 * It begins with slots, and the rest holds data.  A slot says where the bytes
 * of one request are to be put: nbdmigrate fills one in (posts it) and sends an
 * NBD_CMD_CACHE of just these bytes; the filter takes the slot, reads to the
 * place that it names, marks it as filled and answers.
 *
 *   FREE -> POSTED -> TAKEN -> FILLED -> FREE
 *            ^ +------- | -------------->
 *            +----------+ could not be read
 *
 * A slot whose range could not be read is posted again, not filled: whoever
 * asks once more (nbdkit-retry-request-filter above ours) has it read then, and
 * no good answer of another request can be taken for that of this one.
 *
 * A slot is used again and again, so its state has a count beside it, which
 * whoever posts it changes.  The filter takes it only if the count is the one
 * that it read the range with: who has seen an earlier range there takes
 * nothing, not even for a moment, from who asks for the present one.
 *
 * The request alone would not do.  A filter above ours may answer it by itself
 * (nbdkit-cache-filter), or send one of its own (nbdkit-readahead-filter): only
 * the slot proves that these bytes were read, and keeps others from writing.
 *
 * The filter may find anything in a slot: it believes nothing but the place,
 * and that only if it is inside the memory.  Offsets and lengths are in bytes.
 */

#ifndef NBDMIGRATE_SHARED_MEMORY_H
#define NBDMIGRATE_SHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARED_SLOTS 256 /* requests in flight at most */

/* Bytes of data: a multiple of the unit. */
#define SHARED_UNIT (UINT32_C (64) << 10)
#define SHARED_BYTES_MAX (UINT32_C (64) << 20)

/* The lowest bits of the word 'state'; the others count. */
enum shared_state {
  SHARED_FREE,
  SHARED_POSTED,
  SHARED_TAKEN,
  SHARED_FILLED,
};
#define SHARED_STATE_MASK UINT32_C (3)

struct shared_slot {
  uint64_t offset; /* of the disk */
  uint32_t length;
  uint32_t place; /* in the data */
  uint32_t state; /* and a count; atomic */
  uint32_t unused[3];
};

/* A mapping of it. */
struct shared_memory {
  struct shared_slot *slots;
  char *data;
  uint32_t bytes; /* of data */
};

extern void shared_memory_unmap (struct shared_memory *m);

/* Without the count. */
extern enum shared_state shared_memory_state (const struct shared_slot *slot);

/* ---- nbdmigrate's; one thread at a time -------------------------------- */

/* So many bytes of data; *fd is to be sent.  -1 with errno set. */
extern int shared_memory_create (struct shared_memory *m, uint32_t bytes,
                                 int *fd);

/* 'where' is in the data, with room for so many bytes.  NULL: all slots are in
 * use.
 */
extern struct shared_slot *shared_memory_post (struct shared_memory *m,
                                               uint64_t offset, uint32_t length,
                                               const void *where);

/* The request has ended, in whatever way.  SHARED_FILLED: the bytes are there;
 * SHARED_POSTED: nobody has read them, nor will; in both cases
 * the slot is free again.  SHARED_TAKEN: somebody may still write there, so
 * neither the slot nor the place may be used any more.
 */
extern enum shared_state shared_memory_collect (struct shared_slot *slot);

/* ---- the filter's; any number of threads ------------------------------- */

/* Map what was sent; the descriptor stays the caller's.  NULL, or why not: a
 * static text, or strerror's.
 */
extern const char *shared_memory_map (struct shared_memory *m, int fd);

/* The slot that was posted for just this range, which is the caller's then
 * until it has ended; *where is the place.  NULL: there is none.
 */
extern struct shared_slot *shared_memory_take (const struct shared_memory *m,
                                               uint64_t offset, uint32_t length,
                                               void **where);
extern void shared_memory_ended (struct shared_slot *slot, bool filled);

#endif /* NBDMIGRATE_SHARED_MEMORY_H */
