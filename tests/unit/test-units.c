/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes and durations: what is read, what is refused and with which error, and
 * how they are printed around each rounding.
 */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "unit.h"
#include "units.h"

#define UNTOUCHED 4711

typedef int parse_function (const char *text, uint64_t *value);

struct parsed {
  const char *text;
  uint64_t value;
};

static void
assert_parsed (parse_function *parse, const struct parsed *table, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    uint64_t value = UNTOUCHED;
    const int r = parse (table[i].text, &value);

    CU_ASSERT_EQUAL (r, 0);
    CU_ASSERT_EQUAL (value, table[i].value);
    if (r != 0 || value != table[i].value)
      printf ("(\"%s\": %" PRIu64 ") ", table[i].text, value);
  }
}

static void
assert_refused (parse_function *parse, int error, const char *const *texts)
{
  for (; *texts; texts++) {
    uint64_t value = UNTOUCHED;

    errno = 0;

    const int r = parse (*texts, &value);

    CU_ASSERT_EQUAL (r, -1);
    CU_ASSERT_EQUAL (errno, error);
    CU_ASSERT_EQUAL (value, UNTOUCHED);
    if (r != -1 || errno != error)
      printf ("(\"%s\") ", *texts);
  }
}

static void
test_bytes (void)
{
  static const struct parsed table[] = {
    { "1KiB", 1024 },
    { "1.5MiB", 1572864 },
    { "2giB", UINT64_C (2) << 30 },
    { "0", 0 },
    { "00", 0 },
    { "0K", 0 },
    { "0.0P", 0 },
    { "1", 1 },
    { "007", 7 },
    { "4096", 4096 },
    { "64K", 65536 },
    { "64k", 65536 },
    { "1M", 1 << 20 },
    { "1m", 1 << 20 },
    { "1.5G", UINT64_C (3) << 29 },
    { "1.5g", UINT64_C (3) << 29 },
    { "2T", UINT64_C (1) << 41 },
    { "2t", UINT64_C (1) << 41 },
    { "1P", UINT64_C (1) << 50 },
    { "1p", UINT64_C (1) << 50 },
    { "0.5K", 512 },
    { "0.4", 0 },
    { "0.5", 1 },
    { "1.4999", 1 },
    { "0.0004K", 0 },
    { "0.0005K", 1 },
    { "0.1K", 102 },
    { "0.3P", UINT64_C (337769972052787) },
    { "1.000000000000000000000000000009K", 1024 },
    { "0.99999999999999999999999999999999P", UINT64_C (1) << 50 },
    { "000000000000000000000000000000000000001K", 1024 },
    { "9223372036854775807", INT64_MAX },
    { "9223372036854775807.4", INT64_MAX },
    { "8191.9P", UINT64_C (9223259446864091546) },
  };

  assert_parsed (units_parse_bytes, table, sizeof table / sizeof table[0]);
}

static void
test_bytes_refused (void)
{
  static const char *const invalid[] = {
    "",     " ",     "K",
    ".",    ".5K",   "1.",
    "1.K",  "-1",    "+1",
    " 1",   "1 ",    "1 K",
    "1KB",  "1Ki",   "1B",
    "1b",   "1E",    "1X",
    "1KK",  "1KIB",  "1KiBs",
    "1iB",  "1.5.5", "1,5G",
    "0x10", "1e3",   "inf",
    "nan",  "K1",    "1.-5",
    "1\n",  "٣",     "99999999999999999999X",
    NULL,
  };
  static const char *const too_big[] = {
    "9223372036854775808",
    "9223372036854775807.5",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551616K",
    "99999999999999999999999999999999999999",
    "8192P",
    "9007199254740992K",
    "18014398509481984K",
    "18446744073709551615P",
    NULL,
  };

  assert_refused (units_parse_bytes, EINVAL, invalid);
  assert_refused (units_parse_bytes, ERANGE, too_big);
}

static void
test_ms (void)
{
  static const struct parsed table[] = {
    { "0", 0 },
    { "0.0", 0 },
    { "0ms", 0 },
    { "0s", 0 },
    { "300ms", 300 },
    { "2s", 2000 },
    { "1.5s", 1500 },
    { "0.3s", 300 },
    { "0.0004s", 0 },
    { "0.0005s", 1 },
    { "5m", 300000 },
    { "1.5m", 90000 },
    { "1h", 3600000 },
    { "0.25h", 900000 },
    { "9223372036854775807ms", INT64_MAX },
    { "2562047788015h", UINT64_C (9223372036854000000) },
  };

  assert_parsed (units_parse_ms, table, sizeof table / sizeof table[0]);
}

static void
test_ms_refused (void)
{
  static const char *const invalid[] = {
    "",
    "ms",
    "s",
    "1",
    "300",
    "1.5",
    "0.1",
    "-1s",
    "+1s",
    " 1s",
    "1s ",
    "1 s",
    "1S",
    "1MS",
    "1M",
    "1H",
    "1us",
    "1min",
    "1d",
    "1sec",
    "1m30s",
    "1..5s",
    ".5s",
    "1.s",
    "99999999999999999999",
    "99999999999999999999d",
    "0x1s",
    NULL,
  };
  static const char *const too_big[] = {
    "9223372036854775808ms",
    "9223372036854775.808s",
    "2562047788016h",
    "99999999999999999999s",
    NULL,
  };

  assert_refused (units_parse_ms, EINVAL, invalid);
  assert_refused (units_parse_ms, ERANGE, too_big);
}

struct printed {
  uint64_t value;
  const char *text;
};

typedef const char *format_function (char text[UNITS_TEXT_MAX], uint64_t value);

static void
assert_printed (format_function *format, const struct printed *table, size_t n)
{
  char text[UNITS_TEXT_MAX];

  for (size_t i = 0; i < n; i++) {
    CU_ASSERT_PTR_EQUAL (format (text, table[i].value), text);
    CU_ASSERT_STRING_EQUAL (text, table[i].text);
    if (strcmp (text, table[i].text) != 0)
      printf ("(%" PRIu64 ": \"%s\") ", table[i].value, text);
  }
}

static void
test_format_bytes (void)
{
  static const struct printed table[] = {
    { 0, "0 B" },
    { 1, "1 B" },
    { 512, "512 B" },
    { 1023, "1023 B" },
    { 1024, "1.0 KiB" },
    { 1075, "1.0 KiB" },
    { 1076, "1.1 KiB" },
    { 65536, "64.0 KiB" },
    { 1048524, "1023.9 KiB" },
    { 1048525, "1.0 MiB" },
    { 1048575, "1.0 MiB" },
    { 1048576, "1.0 MiB" },
    { UINT64_C (3) << 29, "1.5 GiB" },
    { (UINT64_C (1) << 30) - 1, "1.0 GiB" },
    { UINT64_C (1) << 41, "2.0 TiB" },
    { UINT64_C (1) << 50, "1.0 PiB" },
    { (UINT64_C (1) << 60) - 1, "1.0 EiB" },
    { INT64_MAX, "8.0 EiB" },
    { UINT64_MAX, "16.0 EiB" },
  };

  assert_printed (units_format_bytes, table, sizeof table / sizeof table[0]);
}

static void
test_format_ms (void)
{
  static const struct printed table[] = {
    { 0, "0 ms" },
    { 300, "300 ms" },
    { 999, "999 ms" },
    { 1000, "1.0 s" },
    { 1049, "1.0 s" },
    { 1050, "1.1 s" },
    { 2500, "2.5 s" },
    { 59949, "59.9 s" },
    { 59950, "1 min 0 s" },
    { 60000, "1 min 0 s" },
    { 200000, "3 min 20 s" },
    { 200499, "3 min 20 s" },
    { 200500, "3 min 21 s" },
    { 3599499, "59 min 59 s" },
    { 3599500, "1 h 0 min" },
    { 3600000, "1 h 0 min" },
    { 7500000, "2 h 5 min" },
    { 90000000, "25 h 0 min" },
    { UINT64_MAX, "5124095576030 h 26 min" },
  };

  assert_printed (units_format_ms, table, sizeof table / sizeof table[0]);
}

/* Whole numbers, and exact fractions of a KiB. */
static void
test_random_bytes (void)
{
  uint64_t rnd = unit_seed ();
  bool ok = true;

  for (unsigned i = 0; i < 10000 && ok; i++) {
    const uint64_t bytes =
      unit_random (&rnd, UINT64_C (1) << 63) >> unit_random (&rnd, 63);
    char text[UNITS_TEXT_MAX];
    uint64_t value = UNTOUCHED;

    snprintf (text, sizeof text, "%" PRIu64, bytes);
    ok = units_parse_bytes (text, &value) == 0 && value == bytes;
    if (ok && bytes < UINT64_C (1) << 60) {
      /* A fraction in 1024ths is exact in ten decimals. */
      snprintf (text, sizeof text, "%" PRIu64 ".%010" PRIu64 "K", bytes / 1024,
                bytes % 1024 * UINT64_C (9765625));
      ok = units_parse_bytes (text, &value) == 0 && value == bytes;
    }
    if (!ok)
      printf ("(\"%s\": %" PRIu64 ") ", text, value);
  }
  CU_ASSERT (ok);
}

static void
check_spelling (uint64_t ms, const char *expected)
{
  char text[UNITS_TEXT_MAX];

  if (expected != NULL)
    CU_ASSERT_STRING_EQUAL (units_spell_ms (text, ms), expected);
  if (ms < UINT64_C (1) << 63) {
    uint64_t again = UNTOUCHED;

    CU_ASSERT_EQUAL (units_parse_ms (units_spell_ms (text, ms), &again), 0);
    CU_ASSERT_EQUAL (again, ms);
  }
}

static void
test_spell_ms (void)
{
  uint64_t rnd = unit_seed ();

  check_spelling (0, "0");
  check_spelling (1, "1ms");
  check_spelling (1000, "1s");
  check_spelling (1500, "1500ms");
  check_spelling (90 * 1000, "90s");
  check_spelling (10 * 60 * 1000, "10m");
  check_spelling (90 * 60 * 1000, "90m");
  check_spelling (24 * 3600 * 1000, "24h");
  for (unsigned i = 0; i < 10000; i++)
    check_spelling (
      unit_random (&rnd, UINT64_C (1) << 63) >> unit_random (&rnd, 63), NULL);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "sizes", test_bytes },
    { "sizes refused", test_bytes_refused },
    { "durations", test_ms },
    { "durations refused", test_ms_refused },
    { "sizes printed", test_format_bytes },
    { "durations printed", test_format_ms },
    { "durations as they are read", test_spell_ms },
    { "random sizes", test_random_bytes },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("units", tests);
}
