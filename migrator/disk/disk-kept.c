/* SPDX-License-Identifier: BSD-3-Clause */
/* A random choice of what was copied as data, to be looked at in the end. */

#include "base/random.h"
#include "disk/disk.h"

static struct kept *
largest (struct disk *d)
{
  struct kept *most = &d->kept[0];
  unsigned i;

  for (i = 1; i < d->nr_kept; ++i)
    if (d->kept[i].hash > most->hash)
      most = &d->kept[i];
  return most;
}

/* Of all that is written those with the smallest hashes are kept: a choice that
 * does not depend on the order of the answers, nor on how often something is
 * written again, so that the seed repeats it.
 */
void
disk_wrote (void *opaque, uint64_t offset, uint64_t length)
{
  struct disk *d = opaque;
  struct kept k = { random_hash (offset, d->settings->sample_seed), 0 };
  struct kept *to = d->nr_kept < DISK_KEPT ? &d->kept[d->nr_kept] : largest (d);
  unsigned i;

  if (offset >= d->disk_bytes) /* the rest of the destination's block */
    return;
  if (length > d->disk_bytes - offset)
    length = d->disk_bytes - offset;
  if (d->nr_kept == DISK_KEPT && k.hash >= to->hash)
    return;
  for (i = 0; i < d->nr_kept; ++i)
    if (d->kept[i].hash == k.hash)
      return;
  k.offset = offset + k.hash %
                        ((length + DISK_KEPT_BYTES - 1) / DISK_KEPT_BYTES) *
                        DISK_KEPT_BYTES;
  *to = k;
  if (d->nr_kept < DISK_KEPT)
    d->nr_kept++;
}
