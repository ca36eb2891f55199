/* SPDX-License-Identifier: BSD-3-Clause */
/* Random places of disks, read on both sides under leases.
 *
 * A place is in a leased chunk, so that what a guest writes there meanwhile is
 * known to the proxy, and neither a copy nor another look is under way there.
 */

#ifndef NBDMIGRATE_SAMPLE_H
#define NBDMIGRATE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "extents.h"

struct disk;
struct disks;

#define SAMPLE_BYTES 4096 /* of one place, at most */

struct spot {
  struct disk *d;
  uint64_t wish; /* where it should be; it is in the next fit chunk */
  bool exact;    /* and there, if that chunk is fit */

  struct spot *other; /* it asks for the chunk that this one wants, too */
  bool answered;
  struct extent chunk; /* leased; length 0: there is none */
  uint64_t offset;
  uint32_t bytes;
  bool read;  /* on both sides, within the time there is */
  bool wrong; /* this one, or another one that shares the chunk */
  char source[SAMPLE_BYTES], destination[SAMPLE_BYTES];
};

enum sample_lease {
  SAMPLE_DIRTY, /* chunks that are to be copied (take) */
  SAMPLE_CLEAN, /* chunks that the destination should hold (compare) */
};

/* Over which connection the destination is read. */
enum sample_over {
  SAMPLE_OVER_ANY,
  SAMPLE_OVER_READER, /* disk_reader */
  SAMPLE_OVER_RELAY,  /* all those of the proxy; its own image, "local:", as
                         with the reader */
};

struct sample {
  struct disks *disks;
  enum sample_lease lease;
  enum sample_over over;
  struct spot *v;
  size_t n, allocated;
  /* So long the destination, of one disk, may be silent: then it is lost.  0:
   * it is waited for.
   */
  int64_t silent_us;
  int64_t until_us; /* its own */
};

#define CLEANUP_SAMPLE __attribute__ ((cleanup (sample_free)))

/* One more place, one disk after the other.  Aborts if there is no memory for
 * it.
 */
extern void sample_add (struct sample *s, struct disk *d, uint64_t wish,
                        bool exact);

/* Lease the chunks and read both sides, as many as can be within some seconds:
 * the first ones that were added are read first; over the relay 'destination'
 * stays empty, and sample_differs compares digests.  -1 after failure_note.
 */
extern int sample_read (struct sample *s);

/* Whether this disk's destination is read by its proxy. */
extern bool sample_is_over_relay (const struct sample *s, const struct disk *d);

/* Whether both sides of a place that was read differ. */
extern bool sample_differs (const struct sample *s, const struct spot *p);

/* The leases end; 'wrong' tells which are found to differ (NULL: none is).
 * Those of which the proxy says that no guest wrote there meanwhile are
 * appended to *wrong_chunks: there the destination is wrong for sure.  -1 after
 * failure_note.
 */
typedef bool sample_judge (const struct sample *s, const struct spot *p);
extern int sample_give_back (struct sample *s, sample_judge *wrong,
                             struct disk **wrong_disk,
                             struct extents *wrong_chunks);

extern void sample_free (struct sample *s);

#endif /* NBDMIGRATE_SAMPLE_H */
