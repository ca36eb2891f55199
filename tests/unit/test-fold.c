/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines that are longer than the terminal is wide. */

#include <string.h>

#include "show/fold.h"
#include "unit.h"

#define INDENT 6

/* What becomes of a text, a '|' for the end of a line. */
static void
check (const char *text, unsigned columns, bool hard, const char *expected)
{
  char *folded = fold_text (text, columns, INDENT, hard);
  char *c;

  CU_ASSERT_PTR_NOT_NULL_FATAL (folded);
  for (c = folded; *c != '\0'; ++c)
    if (*c == '\n')
      *c = '|';
  if (strcmp (folded, expected) != 0)
    printf ("'%s' in %u columns: '%s'\n", text, columns, folded);
  CU_ASSERT_STRING_EQUAL (folded, expected);
  free (folded);
}

static void
test_fits (void)
{
  check ("", 20, false, "");
  check ("size  1.0 GiB\n", 13, false, "size  1.0 GiB|");
  check ("size  1.0 GiB\n\nleft  2 B\n", 20, true, "size  1.0 GiB||left  2 B|");
  check ("place a very long line\n", 0, true, "place a very long line|");
}

static void
test_broken_at_blanks (void)
{
  check ("state one two three\n", 19, false, "state one two three|");
  check ("state one two three\n", 18, false, "state one two|      three|");
  check ("state one two three four\n", 14, false,
         "state one two|      three|      four|");
  check ("state one two  three\n", 15, false, "state one two|      three|");
  check ("a     bb cc dd ee\nb     ff\n", 14, true,
         "a     bb cc dd|      ee|b     ff|");
}

/* The label is not left alone, and a URI can be copied. */
static void
test_long_words (void)
{
  check ("place nbd://a-host/a-disk\n", 20, false,
         "place nbd://a-host/a-disk|");
  check ("place nbd://a-host/a-disk on\n", 20, false,
         "place nbd://a-host/a-disk|      on|");
  check ("place at nbd://a-host/a-disk on\n", 20, false,
         "place at|      nbd://a-host/a-disk|      on|");
  check ("place nbd://a-host/a-disk\n", 20, true,
         "place nbd://a-host/a|      -disk|");
  check ("place at nbd://a-host/a-disk\n", 20, true,
         "place at|      nbd://a-host/a|      -disk|");
}

/* No room for an indentation. */
static void
test_narrow (void)
{
  check ("state one two\n", 8, false, "state|one two|");
  check ("state one two\n", 3, true, "sta|te|one|two|");
  check ("state\n", 1, true, "s|t|a|t|e|");
}

static void
test_any (void)
{
  uint64_t random = unit_seed ();
  unsigned i, j;

  for (i = 0; i < 20000; ++i) {
    const unsigned columns = (unsigned)unit_random (&random, 30) + 1;
    const unsigned indent = (unsigned)unit_random (&random, 12);
    char text[64] = "", *folded, *line;
    size_t words = 0, folded_words = 0;

    for (j = 0; j < sizeof text - 1; ++j) {
      text[j] = "a  b\n"[unit_random (&random, 5)];
      words += text[j] == 'a' || text[j] == 'b';
    }
    folded = fold_text (text, columns, indent, true);
    CU_ASSERT_PTR_NOT_NULL_FATAL (folded);
    for (line = folded; *line != '\0'; line++)
      folded_words += *line == 'a' || *line == 'b';
    CU_ASSERT_EQUAL (folded_words, words);
    for (line = folded; *line != '\0';) {
      const size_t n = strcspn (line, "\n");

      CU_ASSERT (n <= columns);
      line += n + 1;
    }
    free (folded);
  }
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "that fits", test_fits },
    { "broken at blanks", test_broken_at_blanks },
    { "long words", test_long_words },
    { "a narrow terminal", test_narrow },
    { "any text", test_any },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("fold", tests);
}
