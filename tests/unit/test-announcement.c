/* SPDX-License-Identifier: BSD-3-Clause */
/* What a proxy says of itself in its export description. */

#include <stdbool.h>
#include <string.h>

#include "announcement.h"
#include "cleanup.h"
#include "unit.h"

static bool
finds (const char *description, const char *key, const char *value)
{
  CLEANUP_FREE char *found = announcement_find (description, key);

  return value == NULL ? found == NULL
                       : found != NULL && strcmp (found, value) == 0;
}

static void
test_one (void)
{
  static const char text[] =
    "a disk\n" ANNOUNCE_CONTROL "/run/a b/control\n" ANNOUNCE_ID
    "0123\n" ANNOUNCE_RELAY "yes";

  CU_ASSERT (finds (text, ANNOUNCE_CONTROL, "/run/a b/control"));
  CU_ASSERT (finds (text, ANNOUNCE_ID, "0123"));
  CU_ASSERT (finds (text, ANNOUNCE_RELAY, "yes"));
}

/* Of a proxy before another proxy the outer one counts. */
static void
test_two (void)
{
  static const char text[] =
    ANNOUNCE_CONTROL "/inner\n" ANNOUNCE_ID "1\n" ANNOUNCE_RELAY
                     "yes\n" ANNOUNCE_CONTROL "/outer\n" ANNOUNCE_ID "2";

  CU_ASSERT (finds (text, ANNOUNCE_CONTROL, "/outer"));
  CU_ASSERT (finds (text, ANNOUNCE_ID, "2"));
}

static void
test_none (void)
{
  CU_ASSERT (finds (NULL, ANNOUNCE_ID, NULL));
  CU_ASSERT (finds ("", ANNOUNCE_ID, NULL));
  CU_ASSERT (finds ("a disk", ANNOUNCE_ID, NULL));
  CU_ASSERT (finds ("about " ANNOUNCE_ID "1", ANNOUNCE_ID, NULL));
  CU_ASSERT (finds (ANNOUNCE_ID, ANNOUNCE_ID, ""));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "one proxy", test_one },
    { "a proxy before another", test_two },
    { "none", test_none },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("announcement", tests);
}
