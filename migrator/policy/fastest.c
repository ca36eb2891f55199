/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/fastest.h"

void
fastest_begin_pass (struct fastest *f)
{
  if (f->us > 0)
    f->before_us = f->us;
  f->us = 0;
}

void
fastest_note (struct fastest *f, int64_t us, uint64_t bytes)
{
  const int64_t moving_us = (int64_t)(bytes / FASTEST_BYTES_PER_US);
  const uint64_t took_us = us > moving_us ? (uint64_t)(us - moving_us) : 1;

  if (f->us == 0 || took_us < f->us)
    f->us = took_us;
}

uint64_t
fastest_us (const struct fastest *f)
{
  if (f->us == 0 || (f->before_us > 0 && f->before_us < f->us))
    return f->before_us;
  return f->us;
}
