/* SPDX-License-Identifier: BSD-3-Clause */
/* `referee pattern`: fill a disk of zeroes with deterministic content. */

#ifndef REFEREE_PATTERN_H
#define REFEREE_PATTERN_H

#include <stdint.h>

struct pattern_options {
  const char *uri;
  uint64_t seed;
  uint64_t density; /* percent of the 64 KiB blocks that get data */
};

/* Returns the exit status. */
extern int pattern_run (const struct pattern_options *o);

#endif /* REFEREE_PATTERN_H */
