/* SPDX-License-Identifier: BSD-3-Clause */
/* What the unit tests have in common: a main program around one CUnit suite,
 * and random numbers from a seed that is printed and can be given back in the
 * environment (SEED=N).
 */

#ifndef NBDMIGRATE_UNIT_H
#define NBDMIGRATE_UNIT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <CUnit/Basic.h>

/* Run the tests (their end is CU_TEST_INFO_NULL).  Returns main's result. */
static inline int
unit_main (const char *name, CU_TestInfo *tests)
{
  CU_SuiteInfo suites[] = {
    { .pName = name, .pTests = tests },
    CU_SUITE_INFO_NULL,
  };
  int failed = 1;

  setvbuf (stdout, NULL, _IOLBF, 0);
  if (CU_initialize_registry () != CUE_SUCCESS ||
      CU_register_suites (suites) != CUE_SUCCESS) {
    fprintf (stderr, "%s: CUnit: %s\n", name, CU_get_error_msg ());
    return EXIT_FAILURE;
  }
  CU_basic_set_mode (CU_BRM_VERBOSE);
  if (CU_basic_run_tests () == CUE_SUCCESS)
    failed = CU_get_number_of_failures () > 0;
  CU_cleanup_registry ();
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A new seed, or that of the environment. */
static inline uint64_t
unit_seed (void)
{
  const char *text = getenv ("SEED");
  struct timespec ts;
  uint64_t seed;

  clock_gettime (CLOCK_REALTIME, &ts);
  if (text)
    seed = strtoull (text, NULL, 0);
  else
    seed = (uint64_t)ts.tv_sec * 1000003 + ts.tv_nsec + getpid ();
  printf ("SEED=%" PRIu64 " ", seed);
  return seed;
}

/* The next number below 'limit', which must not be 0: a counter whose bits are
 * stirred by multiplications with odd numbers.  The small bias is harmless.
 */
static inline uint64_t
unit_random (uint64_t *state, uint64_t limit)
{
  uint64_t x = *state += UINT64_C (0x9e3779b97f4a7c15);

  x = (x ^ x >> 32) * UINT64_C (0xd6e8feb86659fd93);
  x = (x ^ x >> 32) * UINT64_C (0xd6e8feb86659fd93);
  return (x ^ x >> 32) % limit;
}

#endif /* NBDMIGRATE_UNIT_H */
