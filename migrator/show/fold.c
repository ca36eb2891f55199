/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "show/fold.h"

/* Room for a word, however narrow it is. */
#define ROOM_MIN 8

struct folding {
  size_t columns, indent;
  bool hard;
};

/* How much of a line of 'n' bytes goes before the break: 'room' at most, if it
 * can, and more than 'label', which is not left alone.
 */
static size_t
first_part (const struct folding *f, const char *line, size_t n, size_t room,
            size_t label)
{
  size_t i = room;

  while (i > label && line[i] != ' ')
    i--;
  while (i > label && line[i - 1] == ' ')
    i--;
  if (i > label)
    return i;
  if (f->hard)
    return room;
  i = label + strspn (line + label, " ");
  while (i < n && line[i] != ' ')
    i++;
  return i;
}

static void
fold_line (FILE *fp, const struct folding *f, const char *line, size_t n)
{
  size_t room = f->columns, label = f->indent;

  while (room > 0 && n > room) {
    const size_t take = first_part (f, line, n, room, label);

    fprintf (fp, "%.*s", (int)take, line);
    for (line += take, n -= take; n > 0 && *line == ' '; line++)
      n--;
    if (n > 0)
      fprintf (fp, "\n%*s", (int)f->indent, "");
    room = f->columns - f->indent;
    label = 0;
  }
  fprintf (fp, "%.*s\n", (int)n, line);
}

char *
fold_text (const char *text, unsigned columns, unsigned indent, bool hard)
{
  const struct folding f = {
    .columns = columns,
    .indent = columns < indent + ROOM_MIN ? 0 : indent,
    .hard = hard,
  };
  char *folded = NULL;
  size_t size;
  FILE *fp = open_memstream (&folded, &size);

  if (fp == NULL)
    return NULL;
  while (*text != '\0') {
    const size_t n = strcspn (text, "\n");

    fold_line (fp, &f, text, n);
    text += n + (text[n] == '\n');
  }
  if (fclose (fp) == 0)
    return folded;
  free (folded);
  return NULL;
}
