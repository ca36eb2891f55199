/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the decision to try the pause and the gate lies what the pause has no
 * time for: round trips to all servers, reading samples back.  Guests go on
 * writing meanwhile, and what is dirty when the gate is shut is what they wait
 * for.
 *
 * So at last there are rounds with nothing beside them, one right after the
 * other: each copies what was written during the one before, takes a fraction
 * of its time, and leaves a fraction of what it left.  A flush comes first,
 * beside the copying (converge.c), so that the one in the pause has as little
 * to do as can be.
 */

#include "run/approach.h"
#include "run/converge.h"
#include "run/migration.h"
#include "run/pass.h"

/* As long as each leaves at most so much of what the one before has left.  All
 * of them together take no more than four times as long as the first one.
 */
#define LEFT_PERCENT 75

/* Of a second of writing ten leave less than 60 ms, and half of that or less
 * where the copy is not as slow as could be.
 */
#define ROUNDS 10

/* A rate makes these rounds longer than the pause, which does not obey it. */
static bool
is_worth_it (const struct migration *m, uint64_t before)
{
  const uint64_t remaining = pass_remaining (m);

  return m->disks.bucket.rate == 0 && remaining > 0 &&
         remaining <= before / 100 * LEFT_PERCENT;
}

int
approach (struct migration *m)
{
  uint64_t before = UINT64_MAX;
  unsigned n;

  if (converge_predict (m) == -1)
    return -1;
  for (n = 0; n < ROUNDS && is_worth_it (m, before); ++n) {
    before = pass_remaining (m);
    if (!pass_run (m, PASS_COPY, 0) || converge_predict (m) == -1)
      return -1;
  }
  return 0;
}
