/* SPDX-License-Identifier: BSD-3-Clause */
/* --window and --finish-at on clocks of their own: over midnight, and when
 * summer time begins and ends (in Berlin: 29 March and 25 October 2026, at 2:00
 * and 3:00 by the clock).
 */

#include <stdlib.h>

#include "policy/window.h"
#include "unit.h"

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

/* UTC */
static time_t
utc (int month, int day, int hour, int minute)
{
  struct tm tm = { .tm_year = 126,
                   .tm_mon = month - 1,
                   .tm_mday = day,
                   .tm_hour = hour,
                   .tm_min = minute };

  return timegm (&tm);
}

static void
use_zone (const char *zone)
{
  setenv ("TZ", zone, 1);
  tzset ();
}

static struct window
window (const char *text)
{
  struct window w = { .given = false };

  CU_ASSERT_EQUAL (window_parse (text, &w), 0);
  return w;
}

static void
test_spelling (void)
{
  static const char *const bad[] = {
    "",
    "22:00",
    "22:00-",
    "-04:00",
    "22-04",
    "22:00-22:00",
    "25:00-04:00",
    "22:60-04:00",
    "24:00-04:00",
    "22:00-04:00 ",
    "2:00-4:00",
    "22:00--04:00",
    "22:00-24:01",
    "ab:cd-ef:gh",
    "22:00-04:0x",
    "22:00 04:00",
    "+2:00-04:00",
    "22:00-04:00h",
  };
  struct window w = { .given = false };
  size_t i;

  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    CU_ASSERT_EQUAL (window_parse (bad[i], &w), -1);
  CU_ASSERT_FALSE (w.given);
  w = window ("22:30-04:00");
  CU_ASSERT (w.from == 22 * 60 + 30 && w.to == 4 * 60);
  w = window ("00:00-24:00");
  CU_ASSERT (w.from == 0 && w.to == 24 * 60);
}

static void
test_day (void)
{
  const struct window w = window ("12:00-13:00");
  const struct window all = window ("00:00-24:00");

  use_zone ("UTC");
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 1, 11, 59)));
  CU_ASSERT (window_is_open (&w, utc (6, 1, 12, 0)));
  CU_ASSERT (window_is_open (&w, utc (6, 1, 12, 59) + 59));
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 1, 13, 0)));
  CU_ASSERT_EQUAL (window_opens (&w, utc (6, 1, 11, 0) + 7), utc (6, 1, 12, 0));
  CU_ASSERT_EQUAL (window_opens (&w, utc (6, 1, 12, 30)), utc (6, 1, 12, 30));
  CU_ASSERT_EQUAL (window_opens (&w, utc (6, 1, 13, 0)), utc (6, 2, 12, 0));
  CU_ASSERT (window_is_open (&all, utc (6, 1, 23, 59)));
  CU_ASSERT (window_is_open (&all, utc (6, 2, 0, 0)));
}

static void
test_midnight (void)
{
  const struct window w = window ("22:30-04:00");

  use_zone ("UTC");
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 1, 22, 29)));
  CU_ASSERT (window_is_open (&w, utc (6, 1, 22, 30)));
  CU_ASSERT (window_is_open (&w, utc (6, 2, 0, 0)));
  CU_ASSERT (window_is_open (&w, utc (6, 2, 3, 59)));
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 2, 4, 0)));
  CU_ASSERT_EQUAL (window_opens (&w, utc (6, 2, 4, 0)), utc (6, 2, 22, 30));
}

/* The clock goes from 2:00 to 3:00: 1:00 UTC. */
static void
test_put_forward (void)
{
  const struct window w = window ("01:30-03:30");
  const struct window skipped = window ("02:10-02:50");

  use_zone (BERLIN);
  CU_ASSERT_FALSE (window_is_open (&w, utc (3, 29, 0, 29)));
  CU_ASSERT (window_is_open (&w, utc (3, 29, 0, 30)));
  CU_ASSERT (window_is_open (&w, utc (3, 29, 1, 29)));
  CU_ASSERT_FALSE (window_is_open (&w, utc (3, 29, 1, 30)));
  /* In that night there is none. */
  CU_ASSERT_EQUAL (window_opens (&skipped, utc (3, 28, 20, 0)),
                   utc (3, 30, 0, 10));
}

/* The clock goes from 3:00 to 2:00: 1:00 UTC. */
static void
test_put_back (void)
{
  const struct window w = window ("02:10-02:50");

  use_zone (BERLIN);
  CU_ASSERT (window_is_open (&w, utc (10, 25, 0, 10)));
  CU_ASSERT_FALSE (window_is_open (&w, utc (10, 25, 0, 50)));
  CU_ASSERT (window_is_open (&w, utc (10, 25, 1, 10)));
  CU_ASSERT_FALSE (window_is_open (&w, utc (10, 25, 1, 50)));
  CU_ASSERT_EQUAL (window_opens (&w, utc (10, 25, 0, 50)), utc (10, 25, 1, 10));
}

static void
test_at (void)
{
  static const char *const bad[] = {
    "",
    "soon",
    "25:00",
    "04:00:00",
    "2026-11-30",
    "2026-02-30 04:00",
    "2026-11-30 04:60",
    "2026-11-30x04:00",
    "+1h",
    "2026-13-01 00:00",
    "1.1.2026 04:00",
  };
  time_t at;
  size_t i;

  use_zone (BERLIN);
  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    CU_ASSERT_EQUAL (window_parse_at (bad[i], utc (6, 1, 12, 0), &at), -1);
  CU_ASSERT_EQUAL (window_parse_at ("04:00", utc (6, 1, 12, 0), &at), 0);
  CU_ASSERT_EQUAL (at, utc (6, 2, 2, 0));
  CU_ASSERT_EQUAL (window_parse_at ("15:00", utc (6, 1, 12, 0), &at), 0);
  CU_ASSERT_EQUAL (at, utc (6, 1, 13, 0));
  CU_ASSERT_EQUAL (window_parse_at ("2026-12-24 18:00", 0, &at), 0);
  CU_ASSERT_EQUAL (at, utc (12, 24, 17, 0));
  CU_ASSERT_EQUAL (window_parse_at ("2026-06-24T18:00", 0, &at), 0);
  CU_ASSERT_EQUAL (at, utc (6, 24, 16, 0));
  /* The clock skips it. */
  CU_ASSERT_EQUAL (window_parse_at ("2026-03-29 02:30", 0, &at), -1);
  CU_ASSERT_EQUAL (window_parse_at ("02:30", utc (3, 28, 23, 0), &at), 0);
  CU_ASSERT_EQUAL (at, utc (3, 30, 0, 30));
}

static void
test_both (void)
{
  struct window w = window ("22:00-23:00"), never = { .given = false };

  use_zone ("UTC");
  w.at = utc (6, 3, 22, 30);
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 2, 22, 30)));
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 3, 22, 29)));
  CU_ASSERT (window_is_open (&w, utc (6, 3, 22, 30)));
  CU_ASSERT_FALSE (window_is_open (&w, utc (6, 3, 23, 0)));
  CU_ASSERT (window_is_open (&w, utc (6, 4, 22, 0)));
  CU_ASSERT_EQUAL (window_opens (&w, utc (6, 1, 0, 0)), utc (6, 3, 22, 30));
  never.at = utc (6, 3, 0, 0);
  CU_ASSERT_FALSE (window_is_open (&never, utc (6, 2, 23, 59)));
  CU_ASSERT (window_is_open (&never, utc (7, 1, 0, 0)));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "spelling", test_spelling },
    { "within a day", test_day },
    { "over midnight", test_midnight },
    { "the clock is put forward", test_put_forward },
    { "the clock is put back", test_put_back },
    { "--finish-at", test_at },
    { "both", test_both },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("window", tests);
}
