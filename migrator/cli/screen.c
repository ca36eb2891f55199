/* SPDX-License-Identifier: BSD-3-Clause */
/* All of it is one write, and nothing is cleared before there is something to
 * put there: a terminal never shows a part of it, or nothing, for a moment.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli/screen.h"
#include "show/fold.h"

#define CLEAR "\033[2J"
#define HOME "\033[H"
/* In front of the line: behind one that fills its row the cursor may be on its
 * last character.
 */
#define ERASE_ROW "\033[K"
#define ERASE_BELOW "\033[J"

static size_t
count_lines (const char *text)
{
  size_t n = 0;

  for (; *text != '\0'; ++text)
    n += *text == '\n';
  return n;
}

/* Behind the next line. */
static const char *
put_line (FILE *fp, const char *text)
{
  const size_t n = strcspn (text, "\n") + 1;

  fprintf (fp, ERASE_ROW "%.*s", (int)n, text);
  return text + n;
}

/* With the last line's end the terminal must not scroll. */
static void
put_lines (FILE *fp, const char *text, size_t rows)
{
  size_t n = count_lines (text);

  if (n > 0)
    text = put_line (fp, text);
  for (; rows > 1 && n > rows - 1; --n)
    text += strcspn (text, "\n") + 1;
  while (*text != '\0')
    text = put_line (fp, text);
}

int
screen_show (const char *text, unsigned indent, bool first)
{
  struct winsize w = { .ws_row = 0 };
  CLEANUP_FREE char *folded = NULL, *frame = NULL;
  size_t size;
  FILE *fp;

  ioctl (STDOUT_FILENO, TIOCGWINSZ, &w);
  folded = fold_text (text, w.ws_col, indent, true);
  fp = open_memstream (&frame, &size);
  if (fp != NULL && folded != NULL) {
    fputs (first ? HOME CLEAR : HOME, fp);
    put_lines (fp, folded, w.ws_row);
    fputs (ERASE_BELOW, fp);
  }
  if (fp == NULL || fclose (fp) != 0 || folded == NULL)
    return -1;
  return fputs (frame, stdout) != EOF && fflush (stdout) == 0 ? 0 : -1;
}
