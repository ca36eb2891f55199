/* SPDX-License-Identifier: BSD-3-Clause */

#include "run/measure.h"
#include "run/migration.h"

void
measure (struct migration *m)
{
  uint64_t copied = 0, compared = 0, moved = 0;
  size_t i;

  for (i = 0; i < m->disks.n; ++i) {
    struct disk *d = &m->disks.v[i];
    struct copier_stats s;

    moved += d->digested_bytes;
    if (d->copier == NULL)
      continue;
    copier_get_stats (d->copier, &s);
    copied += s.copied_bytes;
    compared += s.compared_bytes;
    moved += s.moved_bytes;
    meter_busy (&m->meter, s.busy_us - d->busy_us);
    d->busy_us = s.busy_us;
  }
  if (m->disks.bucket.rate > 0)
    meter_hold (&m->meter);
  meter_update (&m->meter, copied, compared, moved, loop_now_us ());
}
