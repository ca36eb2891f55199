/* SPDX-License-Identifier: BSD-3-Clause */

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/no-memory.h"
#include "base/options.h"
#include "base/say.h"

static int (*last_words) (void *opaque);
static void *last_opaque;

void
no_memory_last_words (int (*say) (void *opaque), void *opaque)
{
  last_words = say;
  last_opaque = opaque;
}

void
no_memory (void)
{
  int (*const say) (void *) = last_words;

  last_words = NULL; /* they may need memory, too */
  say_error ("out of memory: nbdmigrate cannot go on");
  /* Whatever else would be done in the end could need it as well. */
  _exit (say != NULL ? say (last_opaque) : EXIT_FAILED);
}

void *
need_memory (void *p)
{
  if (p == NULL)
    no_memory ();
  return p;
}

char *
copy_text (const char *text)
{
  char *copy = strdup (text);

  if (copy == NULL)
    no_memory ();
  return copy;
}
