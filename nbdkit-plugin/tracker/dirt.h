/* SPDX-License-Identifier: BSD-3-Clause */
/* What guests' writes, zeroes and trims did, in four measures; bytes, or bytes
 * per second.
 *
 * The first two have no bound, the last two do: a chunk becomes dirty at most
 * once for each time that it is copied, so that they depend on the copying, and
 * come to nothing while all is dirty.  What was never touched before comes to
 * an end with the disk; what is dirtied again does not.
 */

#ifndef NBDMIGRATE_DIRT_H
#define NBDMIGRATE_DIRT_H

#include <stdint.h>

struct dirt {
  uint64_t changed;   /* the requests' own length */
  uint64_t touched;   /* whole chunks, dirty already or not */
  uint64_t dirtied;   /* of those: what was not dirty */
  uint64_t redirtied; /* of those: what a guest had touched before, since the
                       * session began, so that a copy was made in vain */
};

static inline void
dirt_add (struct dirt *sum, const struct dirt *d)
{
  sum->changed += d->changed;
  sum->touched += d->touched;
  sum->dirtied += d->dirtied;
  sum->redirtied += d->redirtied;
}

#endif /* NBDMIGRATE_DIRT_H */
