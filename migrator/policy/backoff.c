/* SPDX-License-Identifier: BSD-3-Clause */

#include "policy/backoff.h"

void
backoff_begin (struct backoff *b, int64_t now_us)
{
  *b = (struct backoff){
    .since_us = now_us,
    .next_us = now_us,
    .wait_us = BACKOFF_FIRST_US,
  };
}

bool
backoff_is_due (const struct backoff *b, int64_t now_us)
{
  return now_us >= b->next_us;
}

void
backoff_attempt (struct backoff *b)
{
  b->attempts++;
}

void
backoff_failed (struct backoff *b, int64_t now_us)
{
  b->next_us = now_us + b->wait_us;
  b->wait_us *= 2;
  if (b->wait_us > BACKOFF_LAST_US)
    b->wait_us = BACKOFF_LAST_US;
}

bool
backoff_is_over (const struct backoff *b, uint64_t limit_ms, int64_t now_us)
{
  return now_us - b->since_us >= (int64_t)limit_ms * 1000;
}

void
backoff_discount (struct backoff *b, int64_t us)
{
  b->since_us += us;
  b->next_us += us;
}
