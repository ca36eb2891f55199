/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks of a migration together, and the loop that moves them.
 *
 * One thread.  drive.h is a round of the loop and questions to all proxies;
 * gates.h shuts the gates of all.  Who cuts over, and when, stands above this.
 */

#ifndef NBDMIGRATE_DISKS_H
#define NBDMIGRATE_DISKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/failure.h"
#include "base/loop.h"
#include "base/options.h"
#include "base/random.h"
#include "disk/disk.h"
#include "policy/bucket.h"

struct disks {
  const struct options *options;
  struct disk *v; /* owned */
  size_t n;
  struct disk_settings settings; /* of each, pointing to what is here */

  struct loop loop;
  struct failure failure;
  int64_t stopped_us;   /* when it was seen to have stopped; 0: it was not */
  struct watch signals; /* a signalfd */
  struct bucket bucket;
  struct random random; /* begun with the seed */
  uint64_t sample_seed;
  int64_t round_us;   /* when the present round began; 0: no session yet */
  int64_t longest_us; /* a round has taken, with all sessions begun */
  size_t turn;        /* which disk is served first in the next round */

  /* In force; wishes may change them. */
  enum finish finish;
  uint64_t max_pause_ms;

  bool in_pause; /* a proxy is waited for longer */

  /* Of those who look on: called in each round, before anything is started and
   * at its end.
   */
  void (*before_round) (struct disks *disks, int64_t now_us);
  void (*after_round) (struct disks *disks, int64_t now_us);
};

/* Empty, with what the options say; the observers as in disk/disk.h. */
extern void disks_init (struct disks *disks, const struct options *options,
                        disk_decided *decided,
                        const struct disk_observer *observe);
extern void disks_free (struct disks *disks);

/* Make room for all pairs; n stays 0.  -1: no memory. */
extern int disks_allocate (struct disks *disks);

/* Open the next pair.  -1 after failure_note; it is one of the disks then, too,
 * and says how far it came.
 */
extern int disks_open_next (struct disks *disks);

/* Once all are open: -1 after saying which disk was named twice. */
extern int disks_check_unique (struct disks *disks);

/* Whether requests of the copying are under way, of any disk. */
extern bool disks_are_moving (const struct disks *disks);

/* Whether what was copied must not count in a later run. */
extern bool disks_distrusted (const struct disks *disks);

#endif /* NBDMIGRATE_DISKS_H */
