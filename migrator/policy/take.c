/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/take.h"

#define MICROSECONDS 1000000

_Static_assert(TAKE_BYTES_MIN < TAKE_BYTES_FIRST &&
                 TAKE_BYTES_FIRST < TAKE_BYTES_MAX,
               "there is something to choose");
_Static_assert(TAKE_BYTES_MAX < TAKE_BYTES_HOLES, "holes cost next to nothing");

static void
measure (struct take *t, const struct take_input *in)
{
  const uint64_t us = in->busy_us - t->busy_us;

  if (us < TAKE_MEASURED_US || in->copied_bytes == t->copied_bytes)
    return;
  t->rate = (uint64_t)((double)(in->copied_bytes - t->copied_bytes) *
                       MICROSECONDS / (double)us);
  t->busy_us = in->busy_us;
  t->copied_bytes = in->copied_bytes;
}

/* Since the take before; in the bulk all told. */
static bool
is_mostly_holes (const struct take *t, const struct take_input *in)
{
  const struct take_input nothing = { 0 };
  const struct take_input *since = in->bulk ? &nothing : &t->last;
  const uint64_t moved = in->moved_bytes - since->moved_bytes;

  return t->bytes > 0 && in->copied_bytes - since->copied_bytes < moved / 2;
}

static uint64_t
data_bytes (const struct take *t, const struct take_input *in)
{
  const uint64_t limit = in->limit;
  uint64_t rate = t->rate, bytes;

  if (in->bulk)
    return TAKE_BYTES_MAX;
  if (limit > 0 && (rate == 0 || rate > limit))
    rate = limit;
  if (rate == 0)
    return TAKE_BYTES_FIRST;
  bytes = rate / (MICROSECONDS / TAKE_US);
  if (bytes > TAKE_BYTES_MAX)
    return TAKE_BYTES_MAX;
  return bytes < TAKE_BYTES_MIN ? TAKE_BYTES_MIN : bytes;
}

void
take_begin_pass (struct take *t)
{
  t->bytes = 0;
}

uint64_t
take_next (struct take *t, const struct take_input *in)
{
  measure (t, in);
  if (!is_mostly_holes (t, in))
    t->bytes = data_bytes (t, in);
  else
    t->bytes =
      t->bytes < TAKE_BYTES_HOLES / 2 ? t->bytes * 2 : TAKE_BYTES_HOLES;
  t->last = *in;
  /* In the bulk one after the other is taken, until half of that is there. */
  return in->bulk && in->limit > 0 && in->limit < t->bytes ? in->limit
                                                           : t->bytes;
}

void
take_data (struct take *t, const struct take_input *in)
{
  t->bytes = data_bytes (t, in);
}

uint64_t
take_data_max (const struct take *t, const struct take_input *in)
{
  const unsigned times = in->bulk ? TAKE_DATA_TIMES_BULK : TAKE_DATA_TIMES;

  return times * data_bytes (t, in);
}
