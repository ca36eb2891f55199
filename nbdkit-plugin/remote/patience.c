/* SPDX-License-Identifier: BSD-3-Clause */

#include <stddef.h>

#include "patience.h"

#define FLUSH_FACTOR 6
#define OTHER_FACTOR 4

const char *
patience_over (const struct patience *p, int64_t limit_ms, int64_t now_ms)
{
  const bool was_behind_flush = p->flush_done_ms >= p->sent_ms;
  int64_t factor = p->flushing ? FLUSH_FACTOR : OTHER_FACTOR;

  if (was_behind_flush)
    factor += FLUSH_FACTOR;
  if (!p->flushing && now_ms - p->progress_ms >= limit_ms)
    return "the server does not answer";
  if (now_ms - p->sent_ms >= factor * limit_ms)
    return "the server left a request unanswered";
  return NULL;
}
