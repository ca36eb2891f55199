/* SPDX-License-Identifier: BSD-3-Clause */
/* All in integers: a size that went through a double would be off by some
 * bytes, and strtod (3) reads what nobody means ("0x1p4", "inf", and a comma in
 * some locales).
 */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "units.h"

typedef unsigned __int128 uint128_t;

/* Digits after the point that count.  What follows cannot change the result
 * by more than a thousandth of a byte.
 */
#define FRACTION_DIGITS 18

/* whole + fraction / scale */
struct number {
  uint64_t whole;
  bool too_big; /* whole does not fit */
  uint64_t fraction;
  uint64_t scale; /* a power of ten */
};

static bool
is_digit (char c)
{
  return c >= '0' && c <= '9';
}

/* Both return where the digits end. */
static const char *
parse_whole (const char *p, struct number *n)
{
  for (; is_digit (*p); p++)
    if (__builtin_mul_overflow (n->whole, 10, &n->whole) ||
        __builtin_add_overflow (n->whole, *p - '0', &n->whole))
      n->too_big = true;
  return p;
}

static const char *
parse_fraction (const char *p, struct number *n)
{
  for (unsigned i = 0; is_digit (*p); p++, i++) {
    if (i >= FRACTION_DIGITS)
      continue;
    n->fraction = n->fraction * 10 + (*p - '0');
    n->scale *= 10;
  }
  return p;
}

/* Returns the text after the number, or NULL if there is no number: digits,
 * or digits, a point and digits.
 */
static const char *
parse_number (const char *text, struct number *n)
{
  const char *p;

  *n = (struct number){ .scale = 1 };
  p = parse_whole (text, n);
  if (p == text)
    return NULL;
  if (*p != '.')
    return p;
  if (!is_digit (p[1]))
    return NULL;
  return parse_fraction (p + 1, n);
}

/* The number times 'unit', rounded to the nearest. */
static int
multiply (const struct number *n, uint64_t unit, uint64_t *result)
{
  const uint128_t part =
    ((uint128_t)n->fraction * unit + n->scale / 2) / n->scale;
  const uint128_t product = (uint128_t)n->whole * unit + part;

  if (n->too_big || product > INT64_MAX) {
    errno = ERANGE;
    return -1;
  }
  *result = product;
  return 0;
}

static int
invalid (void)
{
  errno = EINVAL;
  return -1;
}

int
units_parse_bytes (const char *text, uint64_t *bytes)
{
  static const char suffixes[] = "kKmMgGtTpP";
  struct number n;
  const char *suffix = parse_number (text, &n);

  if (suffix == NULL)
    return invalid ();
  if (*suffix == '\0')
    return multiply (&n, 1, bytes);

  const char *found = strchr (suffixes, *suffix);

  if (found == NULL || (suffix[1] != '\0' && strcmp (suffix + 1, "iB") != 0))
    return invalid ();
  return multiply (&n, UINT64_C (1024) << (found - suffixes) / 2 * 10, bytes);
}

int
units_parse_ms (const char *text, uint64_t *ms)
{
  static const struct {
    const char *suffix;
    uint64_t ms;
  } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
  struct number n;
  const char *suffix = parse_number (text, &n);

  if (suffix == NULL)
    return invalid ();
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
    if (strcmp (suffix, units[i].suffix) == 0)
      return multiply (&n, units[i].ms, ms);
  if (*suffix != '\0' || n.too_big || n.whole != 0 || n.fraction != 0)
    return invalid ();
  *ms = 0;
  return 0;
}

/* value / unit, rounded to the nearest; cannot overflow. */
static uint64_t
divide_nearest (uint64_t value, uint64_t unit)
{
  return value / unit + (value % unit >= unit - unit / 2);
}

const char *
units_format_bytes (char text[UNITS_TEXT_MAX], uint64_t bytes)
{
  static const char prefixes[] = "KMGTPE";
  size_t i = 0;
  uint64_t unit = 1024, tenths;

  if (bytes < unit) {
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 " B", bytes);
    return text;
  }

  /* After the rounding, so that it never says 1024.0 of something. */
  for (;;) {
    tenths = ((uint128_t)bytes * 10 + unit / 2) / unit;
    if (tenths < 1024 * 10 || prefixes[i + 1] == '\0')
      break;
    unit *= 1024;
    i++;
  }
  snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " %ciB", tenths / 10,
            tenths % 10, prefixes[i]);
  return text;
}

const char *
units_format_ms (char text[UNITS_TEXT_MAX], uint64_t ms)
{
  const uint64_t tenths = divide_nearest (ms, 100);
  const uint64_t seconds = divide_nearest (ms, 1000);
  const uint64_t minutes = divide_nearest (ms, 60000);

  /* Each limit after its rounding, so that it never says 60 of something. */
  if (ms < 1000)
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 " ms", ms);
  else if (tenths < 600)
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " s", tenths / 10,
              tenths % 10);
  else if (seconds < 3600)
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 " min %" PRIu64 " s",
              seconds / 60, seconds % 60);
  else
    snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 " h %" PRIu64 " min",
              minutes / 60, minutes % 60);
  return text;
}

const char *
units_spell_ms (char text[UNITS_TEXT_MAX], uint64_t ms)
{
  static const struct {
    const char *suffix;
    uint64_t ms;
  } units[] = { { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 } };
  size_t i = 0;

  while (ms % units[i].ms != 0)
    i++;
  snprintf (text, UNITS_TEXT_MAX, "%" PRIu64 "%s", ms / units[i].ms,
            ms == 0 ? "" : units[i].suffix);
  return text;
}
