/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "base/output.h"
#include "base/say.h"

#define ERASE "\r\033[K" /* the line that the cursor is in */

static bool is_quiet;
static bool line_open;

void
say_quiet (bool quiet)
{
  is_quiet = quiet;
}

/* Without memory: what fits into a line or two.  If it cannot be written, there
 * is no other place to say it.
 */
static void
put_short (const char *fmt, va_list args)
{
  char text[1024];

  vsnprintf (text, sizeof text, fmt, args);
  output_put_now (STDERR_FILENO, text);
}

static void __attribute__ ((format (printf, 2, 3)))
put (enum output_kind kind, const char *fmt, ...)
{
  va_list args, again;
  char *text;

  va_start (args, fmt);
  va_copy (again, args);
  if (vasprintf (&text, fmt, args) != -1)
    output_put (STDERR_FILENO, kind, text);
  else if (kind == OUTPUT_LINE)
    put_short (fmt, again);
  va_end (again);
  va_end (args);
}

void
say_line (const char *text)
{
  line_open = true;
  put (OUTPUT_FRAME, "\r%s\033[K", text);
}

void
say_last_line (const char *text)
{
  if (text != NULL)
    put (OUTPUT_LINE, "\r%s\033[K\n", text);
  else if (line_open)
    put (OUTPUT_LINE, ERASE);
  line_open = false;
}

static void
say (const char *end, const char *fmt, va_list args)
{
  CLEANUP_FREE char *text = NULL;
  char short_text[1024];
  va_list again;

  va_copy (again, args);
  if (vasprintf (&text, fmt, args) == -1) {
    text = NULL;
    vsnprintf (short_text, sizeof short_text, fmt, again);
  }
  va_end (again);
  put (OUTPUT_LINE, "%snbdmigrate: %s%s\n", line_open ? ERASE : "",
       text ? text : short_text, end);
  line_open = false;
}

void
say_error (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  say ("", fmt, args);
  va_end (args);
}

void
say_info (const char *fmt, ...)
{
  va_list args;

  if (is_quiet)
    return;
  va_start (args, fmt);
  say ("", fmt, args);
  va_end (args);
}

void
say_usage (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  say ("; see nbdmigrate --help", fmt, args);
  va_end (args);
}
