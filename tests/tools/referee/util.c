/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages, memory, clocks, numbers. */

#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "units.h"

void
die (int status, const char *fmt, ...)
{
  va_list args;

  fprintf (stderr, "referee: ");
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
  exit (status);
}

void
say (const char *fmt, ...)
{
  va_list args;

  fprintf (stderr, "referee: ");
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fputc ('\n', stderr);
}

void *
xrealloc (void *ptr, size_t bytes)
{
  ptr = realloc (ptr, bytes);
  if (ptr == NULL && bytes != 0)
    die (EXIT_BROKEN, "no memory for %zu bytes", bytes);
  return ptr;
}

void *
xcalloc (size_t n, size_t bytes)
{
  void *const ptr = calloc (n ? n : 1, bytes);

  if (ptr == NULL)
    die (EXIT_BROKEN, "no memory for %zu bytes", n * bytes);
  return ptr;
}

static int64_t
now_us (clockid_t clock)
{
  struct timespec ts;

  clock_gettime (clock, &ts);
  return ts.tv_sec * INT64_C (1000000) + ts.tv_nsec / 1000;
}

int64_t
now_real_us (void)
{
  return now_us (CLOCK_REALTIME);
}

int64_t
now_mono_us (void)
{
  return now_us (CLOCK_MONOTONIC);
}

uint64_t
parse_number (const char *what, const char *text)
{
  char *end;
  uint64_t value;

  errno = 0;
  value = strtoull (text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || *text == '-')
    die (EXIT_USAGE, "%s: \"%s\" is not a number", what, text);
  return value;
}

uint64_t
parse_size (const char *what, const char *text)
{
  uint64_t value;

  if (units_parse_bytes (text, &value) == -1)
    die (EXIT_USAGE, "%s: \"%s\" is not a size", what, text);
  return value;
}
