/* SPDX-License-Identifier: BSD-3-Clause */

#include <stddef.h>
#include <string.h>

#include "announcement.h"

char *
announcement_find (const char *description, const char *key)
{
  const size_t n = strlen (key);
  const char *line = description, *found = NULL;

  while (line != NULL) {
    if (strncmp (line, key, n) == 0)
      found = line + n;
    line = strchr (line, '\n');
    if (line != NULL)
      line++;
  }
  return found ? strndup (found, strcspn (found, "\n")) : NULL;
}
