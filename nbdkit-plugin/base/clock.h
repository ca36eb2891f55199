/* SPDX-License-Identifier: BSD-3-Clause */
/* The monotonic clock in milliseconds and microseconds. */

#ifndef NBDMIGRATE_CLOCK_H
#define NBDMIGRATE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t
clock_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline int64_t
clock_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

#endif /* NBDMIGRATE_CLOCK_H */
