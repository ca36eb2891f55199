/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/throttle.h"

_Static_assert(THROTTLE_SOFT_PERCENT < 100 && THROTTLE_DOWN_PERCENT < 100,
               "a step down is one");
_Static_assert(THROTTLE_UP_PERCENT > 100, "a step up is one");
_Static_assert(THROTTLE_SLACK_PERCENT < 100,
               "between up and down there is room to stay");

static uint64_t
percent (uint64_t of, unsigned hundredths)
{
  return (uint64_t)((double)of * hundredths / 100);
}

static uint64_t
at_least (uint64_t value, uint64_t least)
{
  return value > least ? value : least;
}

static uint64_t
target_of (const struct throttle *t, const struct throttle_input *in)
{
  return percent (in->copy_rate, THROTTLE_TARGET_PERCENT) >> t->stricter;
}

/* What guests may write so that no more than the target becomes dirty.  Both
 * rates are of the same time, so that it does not matter how old they are.
 */
static uint64_t
ideal (const struct throttle_input *in, uint64_t target)
{
  const double bytes = (double)in->write_rate * (double)target;
  const double ratio = bytes / (double)in->dirty_rate;

  return ratio < 1e18 ? (uint64_t)ratio : UINT64_C (1) << 60;
}

static uint64_t
down (const struct throttle *t, const struct throttle_input *in,
      uint64_t target)
{
  const uint64_t softest =
    t->bytes_per_second == 0
      ? percent (in->write_rate, THROTTLE_SOFT_PERCENT)
      : percent (t->bytes_per_second, THROTTLE_DOWN_PERCENT);
  const uint64_t wanted = at_least (ideal (in, target), softest);

  if (t->bytes_per_second != 0 && wanted > t->bytes_per_second)
    return t->bytes_per_second; /* guests write less than they may */
  return at_least (wanted, in->floor);
}

static uint64_t
up (const struct throttle *t)
{
  return at_least (percent (t->bytes_per_second, THROTTLE_UP_PERCENT),
                   t->bytes_per_second + 1);
}

static bool
has_room (const struct throttle *t, const struct throttle_input *in,
          uint64_t target)
{
  return in->round_end &&
         t->peak_rate < percent (target, THROTTLE_SLACK_PERCENT) &&
         in->write_rate >= percent (t->bytes_per_second, THROTTLE_USED_PERCENT);
}

/* A limit that is twice what guests write limits nothing. */
static uint64_t
eased (const struct throttle *t, const struct throttle_input *in)
{
  const uint64_t next = up (t);

  return next / 2 > in->write_rate ? 0 : next;
}

static uint64_t
next_limit (const struct throttle *t, const struct throttle_input *in)
{
  const uint64_t target = target_of (t, in);

  if (in->needed && in->dirty_rate > target && in->write_rate > 0)
    return down (t, in, target);
  if (t->bytes_per_second == 0)
    return 0;
  if (!in->needed)
    return eased (t, in);
  return at_least (has_room (t, in, target) ? up (t) : t->bytes_per_second,
                   in->floor);
}

bool
throttle_step (struct throttle *t, const struct throttle_input *in)
{
  const uint64_t before = t->bytes_per_second;

  t->peak_rate = at_least (t->peak_rate, in->dirty_rate);
  if (before != 0 && in->now_us - t->stepped_us < THROTTLE_STEP_US)
    return false;
  t->bytes_per_second = next_limit (t, in);
  if (in->round_end)
    t->peak_rate = 0;
  if (t->bytes_per_second == before)
    return false;
  t->stepped_us = in->now_us;
  return true;
}

bool
throttle_is_settled (const struct throttle *t, int64_t now_us)
{
  return now_us - t->stepped_us >= 2 * THROTTLE_STEP_US;
}

bool
throttle_stricter (struct throttle *t)
{
  if (t->stricter == THROTTLE_STRICTER_MAX)
    return false;
  t->stricter++;
  return true;
}

bool
throttle_is_spent (const struct throttle *t, uint64_t floor)
{
  return t->stricter == THROTTLE_STRICTER_MAX ||
         (t->bytes_per_second != 0 && t->bytes_per_second <= floor);
}
