/* SPDX-License-Identifier: BSD-3-Clause */
/* The progress line: whole fields only, whatever room there is, and nothing
 * that has no meaning in a phase.
 */

#include <string.h>

#include "cleanup.h"
#include "show/progress-text.h"
#include "unit.h"

static json_t *
progress (const char *phase)
{
  return json_pack (
    "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "phase", phase,
    "pass", 2, "percent", 9, "pass_bytes", (json_int_t)200 << 20,
    "pass_total_bytes", (json_int_t)2048 << 20, "bytes_per_second",
    (json_int_t)104 << 20, "dirty_bytes_per_second", (json_int_t)0,
    "remaining_bytes", (json_int_t)77 << 20, "predicted_pause_ms",
    (json_int_t)1, "eta_ms", (json_int_t)18000);
}

static void
expect (const char *phase, bool bar, unsigned columns, const char *expected)
{
  CLEANUP_JSON json_t *p = progress (phase);
  CLEANUP_FREE char *text = progress_text (p, bar, columns);

  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  CU_ASSERT_STRING_EQUAL (text, expected);
  if (strcmp (text, expected) != 0)
    printf ("\n  '%s'\n  instead of\n  '%s'\n", text, expected);
}

static void
test_all (void)
{
  expect ("bulk", false, 0,
          "bulk 9% 200M/2.0G 104M/s dirty 0B/s left 77M pause 1ms ETA 18s");
  expect ("dirty", false, 0,
          "pass 2 9% 200M/2.0G 104M/s dirty 0B/s left 77M pause 1ms ETA 18s");
}

/* The guest adds to the pass: its end cannot be known. */
static void
test_no_end (void)
{
  CLEANUP_JSON json_t *p = progress ("bulk");
  CLEANUP_FREE char *text = NULL;

  json_object_set_new (p, "eta_ms", json_null ());
  json_object_set_new (p, "predicted_pause_ms", json_null ());
  text = progress_text (p, false, 0);
  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  CU_ASSERT_STRING_EQUAL (
    text, "bulk 9% 200M/2.0G 104M/s dirty 0B/s left 77M pause ? ETA ?");
}

static void
expect_silent (unsigned columns, const char *expected)
{
  CLEANUP_JSON json_t *p = progress ("bulk");
  CLEANUP_FREE char *text = NULL;

  json_object_set_new (p, "silent", json_string ("destination"));
  json_object_set_new (p, "silent_ms", json_integer (7900));
  text = progress_text (p, true, columns);
  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  CU_ASSERT_STRING_EQUAL (text, expected);
}

/* For how long, and when it will end. */
static void
test_away (void)
{
  CLEANUP_JSON json_t *p = progress ("reconnect");
  CLEANUP_FREE char *text = NULL;

  json_object_set_new (
    p, "reconnecting",
    json_pack ("{s:i, s:i}", "away_ms", 3200, "reconnect_ms", 3600000));
  text = progress_text (p, true, 60);
  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  CU_ASSERT_STRING_EQUAL (
    text, "reconnect left 77M destination lost for 4s, 60min at most");
}

static void
test_silent (void)
{
  expect_silent (70, "bulk 9% 200M/2.0G left 77M no answer from the "
                     "destination for 7 s");
  expect_silent (60, "bulk 9% 200M/2.0G no answer from the destination for "
                     "7 s");
}

static void
test_bar (void)
{
  expect ("bulk", true, 77,
          "bulk [>         ]   9% 200M/2.0G 104M/s dirty 0B/s left 77M pause "
          "1ms ETA 18s");
  expect ("bulk", true, 72,
          "bulk 9% 200M/2.0G 104M/s dirty 0B/s left 77M pause 1ms ETA 18s");
}

static void
test_narrow (void)
{
  expect ("bulk", true, 57,
          "bulk 9% 200M/2.0G 104M/s dirty 0B/s pause 1ms ETA 18s");
  expect ("bulk", true, 50, "bulk 9% 200M/2.0G 104M/s pause 1ms ETA 18s");
  expect ("bulk", true, 40, "bulk 9% 200M/2.0G 104M/s ETA 18s");
  expect ("bulk", true, 30, "bulk 9% 104M/s ETA 18s");
  expect ("bulk", true, 20, "bulk 9% ETA 18s");
  expect ("bulk", true, 10, "bulk 9%");
}

static void
expect_to_fit (const char *phase)
{
  CLEANUP_JSON json_t *p = progress (phase);
  unsigned columns;

  json_object_set_new (p, "elapsed_ms", json_integer (28000));
  for (columns = 13; columns < 120; ++columns) {
    CLEANUP_FREE char *text = progress_text (p, true, columns);

    CU_ASSERT_PTR_NOT_NULL_FATAL (text);
    CU_ASSERT (strlen (text) <= columns);
  }
}

static void
test_every_width (void)
{
  expect_to_fit ("bulk");
  expect_to_fit ("dirty");
  expect_to_fit ("ready");
  expect_to_fit ("late-writes");
  expect_to_fit ("reconnect");
  expect ("ready", true, 47, "ready in sync 104M/s dirty 0B/s pause 1ms");
}

static void
test_phases (void)
{
  expect ("ready", false, 0,
          "ready in sync 104M/s dirty 0B/s left 77M pause 1ms");
  expect ("late-writes", false, 0,
          "late-writes 104M/s dirty 0B/s left 77M pause 1ms");
  /* What is left is what is not yet compared. */
  expect ("verify", false, 0,
          "verify 9% 200M/2.0G 104M/s dirty 0B/s left 1.8G pause 1ms ETA "
          "18s");
  /* The guest and its pause are of no account any more. */
  expect ("digest", false, 0, "digest 9% 200M/2.0G 104M/s left 1.8G ETA 18s");
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "everything", test_all },
    { "no end in sight", test_no_end },
    { "a server is silent", test_silent },
    { "a destination that was lost", test_away },
    { "a bar where there is room", test_bar },
    { "whole fields are left out", test_narrow },
    { "it fits", test_every_width },
    { "while waiting and verifying", test_phases },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("progress-text", tests);
}
