/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "base/say.h"

static bool is_quiet;
static void (*clear_line) (void);

void
say_quiet (bool quiet)
{
  is_quiet = quiet;
}

void
say_set_clear (void (*clear) (void))
{
  clear_line = clear;
}

static void
say (const char *end, const char *fmt, va_list args)
{
  CLEANUP_FREE char *text = NULL;

  if (vasprintf (&text, fmt, args) == -1)
    text = NULL;
  if (clear_line != NULL)
    clear_line ();
  fprintf (stderr, "nbdmigrate: %s%s\n", text ? text : fmt, end);
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
