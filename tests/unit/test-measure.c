/* SPDX-License-Identifier: BSD-3-Clause */
/* What is copied below a limit of our own tells nothing of the line: neither
 * below a rate, nor while the copy backs off for guests.
 */

#include "run/measure.h"
#include "run/migration.h"
#include "unit.h"

#define MiB (UINT64_C (1024) * 1024)

static struct migration m;

/* Some time in which something was copied; whether it counts as held up. */
static bool
is_held (void)
{
  const struct meter before = m.meter;

  meter_busy (&m.meter, 1000);
  measure (&m);
  CU_ASSERT_NOT_EQUAL (m.meter.held.busy_us > before.held.busy_us,
                       m.meter.recent.busy_us > before.recent.busy_us);
  return m.meter.held.busy_us > before.held.busy_us;
}

static void
test_held (void)
{
  struct bucket *b = &m.disks.bucket;

  bucket_init (b, 0, 0);
  CU_ASSERT_FALSE (is_held ());
  bucket_set_ceiling (b, MiB, 0);
  CU_ASSERT_TRUE (is_held ());
  bucket_set_ceiling (b, 0, 0);
  CU_ASSERT_FALSE (is_held ());
  bucket_set_rate (b, MiB, 0);
  CU_ASSERT_TRUE (is_held ());
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "limits of our own", test_held },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("measure", tests);
}
