/* SPDX-License-Identifier: BSD-3-Clause */
/* Which destinations are refused, and with which words. */

#include <string.h>

#include "remote/destination.h"
#include "unit.h"

static const struct destination good = {
  .bytes = 1048576,
  .minimum = 4096,
  .maximum = 32 * 1024 * 1024,
  .can_flush = true,
};

static void
expect (const struct destination *d, uint64_t disk_bytes, const char *part)
{
  char *why = NULL;
  const int r = destination_check (d, disk_bytes, &why);

  CU_ASSERT_EQUAL (r, part == NULL ? 0 : -1);
  CU_ASSERT ((part == NULL) == (why == NULL));
  CU_ASSERT (part == NULL || (why != NULL && strstr (why, part) != NULL));
  free (why);
}

static void
test_check (void)
{
  struct destination d = good;

  expect (&d, 1048576, NULL);
  expect (&d, 1048575, NULL); /* its last block can be reached */
  expect (&d, 0, NULL);
  expect (&d, 1048577, "1048577");
  d.bytes = 1048576 + 511;
  expect (&d, 1048577, "can be reached");
  d = good;
  d.read_only = true;
  expect (&d, 1, "read-only");
  d = good;
  d.can_flush = false;
  expect (&d, 1, "flush");
  d = good;
  d.minimum = 3000;
  expect (&d, 1, "3000");
  d.minimum = 131072;
  expect (&d, 1, "131072");
  d = good;
  d.maximum = 0;
  expect (&d, 1, "make no sense");
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "what is refused", test_check },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("remote-destination", tests);
}
