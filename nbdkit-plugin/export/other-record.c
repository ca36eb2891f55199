/* SPDX-License-Identifier: BSD-3-Clause */

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "other-record.h"
#include "record.h"

/* -1: no memory, or descriptors. */
static int
is_at_its_source (const char *dir, const char *name)
{
  CLEANUP_FREE char *why = NULL;
  struct record_file *f = record_new (dir, name, false);
  struct record rec;
  int r;

  if (f == NULL)
    return -1;
  switch (record_peek (f, 0, &rec, &why)) {
  case RECORD_NONE:
    r = true;
    break;
  case RECORD_OK:
    r = rec.owner == OWNER_SOURCE && rec.source[0] == '\0';
    break;
  case RECORD_LACKING:
    r = -1;
    break;
  default:
    r = false;
  }
  record_free (f);
  return r;
}

/* The same about one file, with its name. */
static int
look_at (const char *dir, const char *file_name, const char *export_name,
         char **name)
{
  CLEANUP_FREE char *other = NULL;
  int at_source;

  errno = 0;
  other = record_export_name (file_name);
  if (other == NULL)
    return errno != 0 ? -1 : 0;
  if (strcmp (other, export_name) == 0)
    return 0;
  at_source = is_at_its_source (dir, other);
  if (at_source != 0)
    return at_source == -1 ? -1 : 0;
  *name = other;
  other = NULL;
  return 1;
}

static int
look_at_all (DIR *d, const char *dir, const char *export_name, char **name)
{
  const struct dirent *entry;
  int r = 0;

  while (r == 0 && (errno = 0, entry = readdir (d)) != NULL)
    r = look_at (dir, entry->d_name, export_name, name);
  return r == 0 && errno != 0 ? -1 : r;
}

int
other_record_find (const char *dir, const char *export_name, char **name)
{
  DIR *d = opendir (dir);
  int r, error;

  *name = NULL;
  if (d == NULL)
    return -1;
  r = look_at_all (d, dir, export_name, name);
  error = errno;
  closedir (d);
  errno = error;
  return r;
}
