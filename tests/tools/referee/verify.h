/* SPDX-License-Identifier: BSD-3-Clause */
/* `referee verify`: hold disks against the record of a guest. */

#ifndef REFEREE_VERIFY_H
#define REFEREE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

struct verify_options {
  const char *uris[LAYOUT_DISKS_MAX];
  const char *bases[LAYOUT_DISKS_MAX];
  uint32_t disks, nr_bases;
  const char *log;
  const char *initial; /* instead of the record's, or NULL */
  bool cut;            /* a point-in-time copy, not the end of all */
  int64_t cut_after_us, cut_before_us;
};

/* What has been seen of the disks so far. */
struct verdict {
  struct record record;
  const struct verify_options *o;
  struct cut *cut; /* NULL: every cell must be in its last state */
  uint64_t cells, bytes, wrong;
};

/* verify.c.  Returns the exit status. */
extern int verify_run (const struct verify_options *o);

/* verify-read.c: read the disk and pass each cell and each part of what no
 * cell covers to the following two.
 */
extern void verify_read (struct verdict *v, uint32_t disk);
extern void verify_cell (struct verdict *v, size_t cell, const uint8_t *buf);
extern void verify_gap (struct verdict *v, uint32_t disk, uint64_t offset,
                        const uint8_t *buf, uint32_t length);

/* ---- cut.c: is there one instant that all cells agree with? ------------- */

extern struct cut *cut_new (const struct record *r, int64_t after_us,
                            int64_t before_us);
extern void cut_free (struct cut *c);

/* Look at what a cell holds.  False (and a message) if no instant between the
 * bounds explains it.
 */
extern bool cut_cell (struct cut *c, size_t cell, const uint8_t *buf);

/* When all cells were seen: how many contradict the rest (with a message each,
 * for the first few).  *when_us is an instant that explains the most.
 */
extern uint64_t cut_conclude (struct cut *c, int64_t *when_us);

#endif /* REFEREE_VERIFY_H */
