/* SPDX-License-Identifier: BSD-3-Clause */
/* When to try again what failed: soon at first, then less and less often, and
 * for how long at all.
 *
 * Pure: the caller passes the monotonic time in microseconds.
 */

#ifndef NBDMIGRATE_BACKOFF_H
#define NBDMIGRATE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#define BACKOFF_FIRST_US (INT64_C (50) * 1000)
#define BACKOFF_LAST_US (INT64_C (2) * 1000000)

struct backoff {
  int64_t since_us; /* when it began; 0: never */
  int64_t next_us;  /* the next attempt; not before */
  int64_t wait_us;  /* behind the next one that fails */
  unsigned attempts;
};

/* The first attempt may be made at once. */
extern void backoff_begin (struct backoff *b, int64_t now_us);

extern bool backoff_is_due (const struct backoff *b, int64_t now_us);

/* One is made; and it was in vain. */
extern void backoff_attempt (struct backoff *b);
extern void backoff_failed (struct backoff *b, int64_t now_us);

/* Whether it was tried for so long.  A limit of 0: at once. */
extern bool backoff_is_over (const struct backoff *b, uint64_t limit_ms,
                             int64_t now_us);

/* For so long we were stopped, and could not try. */
extern void backoff_discount (struct backoff *b, int64_t us);

#endif /* NBDMIGRATE_BACKOFF_H */
