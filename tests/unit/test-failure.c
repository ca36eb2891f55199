/* SPDX-License-Identifier: BSD-3-Clause */
/* What the migration stopped for (failure.h). */

#include "unit.h"

#include <stdlib.h>

#include "base/failure.h"

/* What ends it for good is what counts, whichever comes first. */
static void
test_for_good (void)
{
  struct failure f = { .stop = STOP_NO };

  failure_note_loss (&f, "lost");
  CU_ASSERT_TRUE (f.loss);
  failure_note (&f, "follows from that");
  CU_ASSERT_TRUE (f.loss);
  CU_ASSERT_STRING_EQUAL (f.why, "lost");
  failure_note_for_good (&f, "it %s", "differs");
  CU_ASSERT_FALSE (f.loss);
  CU_ASSERT_EQUAL (f.stop, STOP_FAILED);
  CU_ASSERT_STRING_EQUAL (f.why, "it differs");
  failure_note_loss (&f, "lost again");
  failure_note_for_good (&f, "something else");
  CU_ASSERT_FALSE (f.loss);
  CU_ASSERT_STRING_EQUAL (f.why, "it differs");
  CU_ASSERT_FALSE (failure_cancel (&f));
  failure_free (&f);
}

static void
test_cancelled (void)
{
  struct failure f = { .stop = STOP_NO };

  failure_note_loss (&f, "lost");
  CU_ASSERT_TRUE (failure_cancel (&f));
  failure_note_for_good (&f, "it differs");
  CU_ASSERT_EQUAL (f.stop, STOP_CANCELLED);
  failure_free (&f);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "for good", test_for_good },
    { "cancelled", test_cancelled },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("failure", tests);
}
