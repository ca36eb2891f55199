/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>

#include "disks/disks.h"

void
disks_init (struct disks *disks, const struct options *options,
            disk_decided *decided, const struct disk_observer *observe)
{
  *disks = (struct disks){
    .options = options,
    .signals = { .fd = -1 },
    .finish = options->finish,
    .max_pause_ms = options->max_pause_ms,
    .sample_seed = options->sample_seed >= 0 ? (uint64_t)options->sample_seed
                                             : random_seed (),
  };
  loop_init (&disks->loop);
  bucket_init (&disks->bucket, options->rate, loop_now_us ());
  random_init (&disks->random, disks->sample_seed);
  disks->settings = (struct disk_settings){
    .options = options,
    .loop = &disks->loop,
    .failure = &disks->failure,
    .bucket = &disks->bucket,
    .cancel_fd = -1,
    .nr_disks = options->nr_pairs,
    .sample_seed = disks->sample_seed,
    .decided = decided,
    .observe = observe,
  };
}

void
disks_free (struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    disk_close (&disks->v[i]);
  free (disks->v);
  failure_free (&disks->failure);
  loop_destroy (&disks->loop);
}

int
disks_allocate (struct disks *disks)
{
  disks->v = calloc (disks->options->nr_pairs, sizeof *disks->v);
  return disks->v ? 0 : -1;
}

int
disks_open_next (struct disks *disks)
{
  const struct options *o = disks->options;
  const size_t i = disks->n++;
  struct disk *d = &disks->v[i];

  d->disks = disks;
  disks->settings.cancel_fd = disks->signals.fd;
  return disk_open (d, &o->pairs[i],
                    o->nr_shared_bases > 0 ? o->shared_bases[i] : NULL,
                    &disks->settings);
}

bool
disks_are_moving (const struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (disk_is_moving (&disks->v[i]))
      return true;
  return false;
}

bool
disks_distrusted (const struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i)
    if (disks->v[i].distrusted)
      return true;
  return false;
}
