/* SPDX-License-Identifier: BSD-3-Clause */
/* Random numbers that a seed repeats: for samples, never for secrets. */

#ifndef NBDMIGRATE_RANDOM_H
#define NBDMIGRATE_RANDOM_H

#include <stdint.h>

struct random {
  uint64_t state;
};

extern void random_init (struct random *r, uint64_t seed);

/* From 0 to limit - 1; 0 if the limit is 0. */
extern uint64_t random_below (struct random *r, uint64_t limit);

/* A number that looks as random, of this one and a seed. */
extern uint64_t random_hash (uint64_t number, uint64_t seed);

/* A seed that nobody can foretell, small enough to be typed. */
extern uint32_t random_seed (void);

#endif /* NBDMIGRATE_RANDOM_H */
