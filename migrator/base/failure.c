/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/failure.h"

void
failure_note (struct failure *f, const char *fmt, ...)
{
  va_list args;

  if (f->why == NULL) {
    va_start (args, fmt);
    if (vasprintf (&f->why, fmt, args) == -1)
      f->why = NULL;
    va_end (args);
  }
  if (f->stop == STOP_NO)
    f->stop = STOP_FAILED;
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
