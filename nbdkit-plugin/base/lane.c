/* SPDX-License-Identifier: BSD-3-Clause */

#include "lane.h"

unsigned
lane_of_thread (void)
{
  static unsigned threads;      /* atomic */
  static __thread unsigned own; /* plus 1 */

  if (own == 0)
    own = __atomic_fetch_add (&threads, 1, __ATOMIC_RELAXED) % LANES + 1;
  return own - 1;
}
