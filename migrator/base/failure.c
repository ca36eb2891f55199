/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/failure.h"

static void __attribute__ ((format (printf, 2, 0)))
note (struct failure *f, const char *fmt, va_list args)
{
  if (f->why == NULL && vasprintf (&f->why, fmt, args) == -1)
    f->why = NULL;
  if (f->stop == STOP_NO)
    f->stop = STOP_FAILED;
}

void
failure_note (struct failure *f, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  note (f, fmt, args);
  va_end (args);
}

void
failure_note_for_good (struct failure *f, const char *fmt, ...)
{
  va_list args;

  if (f->loss) {
    free (f->why);
    f->why = NULL;
    f->loss = false;
  }
  va_start (args, fmt);
  note (f, fmt, args);
  va_end (args);
}

void
failure_note_loss (struct failure *f, const char *why)
{
  f->loss |= f->why == NULL && f->stop == STOP_NO;
  failure_note (f, "%s", why);
}

bool
failure_cancel (struct failure *f)
{
  if (f->stop != STOP_NO && (f->stop != STOP_FAILED || !f->loss))
    return false;
  f->stop = STOP_CANCELLED;
  return true;
}

char *
failure_take_back (struct failure *f)
{
  char *why = f->why;

  *f = (struct failure){ .stop = STOP_NO };
  return why;
}

void
failure_free (struct failure *f)
{
  free (f->why);
  f->why = NULL;
}
