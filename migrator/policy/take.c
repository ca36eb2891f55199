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
  uint64_t us;

  /* Another copier counts from 0. */
  if (in->busy_us < t->busy_us || in->moved_bytes < t->moved_bytes)
    t->busy_us = t->moved_bytes = 0;
  us = in->busy_us - t->busy_us;
  if (us < TAKE_MEASURED_US || in->moved_bytes == t->moved_bytes)
    return;
  t->rate = (uint64_t)((double)(in->moved_bytes - t->moved_bytes) *
                       MICROSECONDS / (double)us);
  t->busy_us = in->busy_us;
  t->moved_bytes = in->moved_bytes;
}

static uint64_t
data_bytes (const struct take *t, uint64_t limit)
{
  uint64_t rate = t->rate, bytes;

  if (limit > 0 && (rate == 0 || rate > limit))
    rate = limit;
  if (rate == 0)
    return TAKE_BYTES_FIRST;
  bytes = rate / (MICROSECONDS / TAKE_US);
  if (bytes > TAKE_BYTES_MAX)
    return TAKE_BYTES_MAX;
  return bytes < TAKE_BYTES_MIN ? TAKE_BYTES_MIN : bytes;
}

uint64_t
take_next (struct take *t, const struct take_input *in)
{
  measure (t, in);
  if (in->copied_bytes >= in->moved_bytes / 2 || t->bytes == 0)
    t->bytes = data_bytes (t, in->limit);
  else /* mostly holes */
    t->bytes =
      t->bytes < TAKE_BYTES_HOLES / 2 ? t->bytes * 2 : TAKE_BYTES_HOLES;
  return t->bytes;
}

void
take_data (struct take *t, uint64_t limit)
{
  t->bytes = data_bytes (t, limit);
}

uint64_t
take_data_max (const struct take *t, uint64_t limit)
{
  return TAKE_DATA_TIMES * data_bytes (t, limit);
}
