/* SPDX-License-Identifier: BSD-3-Clause */
/* futex(2) with bits, which the C library does not offer. */

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bell.h"

static long
futex (uint32_t *word, int operation, uint32_t value,
       const struct timespec *until, uint32_t bits)
{
  return syscall (SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, until,
                  NULL, bits);
}

uint32_t
bell_look (const struct bell *bell)
{
  return __atomic_load_n (&bell->rung, __ATOMIC_SEQ_CST);
}

/* On the monotonic clock, as FUTEX_WAIT_BITSET has it. */
static struct timespec
after (int ms)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += ms % 1000 * 1000000L;
  if (t.tv_nsec >= 1000000000) {
    ++t.tv_sec;
    t.tv_nsec -= 1000000000;
  }
  return t;
}

bool
bell_wait (struct bell *bell, uint32_t look, uint32_t bits, int timeout_ms)
{
  const struct timespec until = after (timeout_ms < 0 ? 0 : timeout_ms);

  return futex (&bell->rung, FUTEX_WAIT_BITSET, look,
                timeout_ms < 0 ? NULL : &until, bits) == 0 ||
         errno != ETIMEDOUT;
}

void
bell_ring (struct bell *bell, uint32_t bits)
{
  __atomic_fetch_add (&bell->rung, 1, __ATOMIC_SEQ_CST);
  futex (&bell->rung, FUTEX_WAKE_BITSET, INT32_MAX, NULL, bits);
}
