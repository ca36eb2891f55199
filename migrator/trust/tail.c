/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "disks/disks.h"
#include "trust/look.h"
#include "trust/tail.h"

/* The error is the answer to one small read: say what it means. */
static void
explain (struct failure *f, const struct disk *d, uint32_t tail)
{
  CLEANUP_FREE char *why = f->why;

  f->why = NULL;
  failure_note (f,
                "the source %s cannot be copied whole: its %" PRIu64 " bytes "
                "are no multiple of its server's minimum block, %" PRIu32
                " bytes, and its last %" PRIu32 " bytes cannot be read (%s); "
                "give the disk a size that is one",
                d->pair->source, d->disk_bytes, d->source->minimum_bytes, tail,
                why ? why : "no memory");
}

static int
check_disk (struct disks *disks, const struct disk *d)
{
  const uint32_t tail = (uint32_t)(d->disk_bytes % d->source->minimum_bytes);
  CLEANUP_LOOKS struct looks p = LOOKS_EMPTY;

  if (tail == 0)
    return 0;
  looks_add (&p, LOOK_READ, d->source, NULL, d->disk_bytes - tail, tail, NULL);
  if (looks_run (disks, &p) == 0)
    return 0;
  if (disks->failure.stop == STOP_FAILED)
    explain (&disks->failure, d, tail);
  return -1;
}

int
tail_check (struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (check_disk (disks, &disks->v[i]) == -1)
      return -1;
  return 0;
}
