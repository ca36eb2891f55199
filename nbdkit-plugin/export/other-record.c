/* SPDX-License-Identifier: BSD-3-Clause */

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "other-record.h"
#include "record.h"

static bool
is_at_its_source (const char *dir, const char *name)
{
  CLEANUP_FREE char *why = NULL;
  struct record_file *f = record_new (dir, name, false);
  struct record rec;
  bool r;

  if (f == NULL)
    return false;
  switch (record_peek (f, 0, &rec, &why)) {
  case RECORD_NONE:
    r = true;
    break;
  case RECORD_OK:
    r = rec.owner == OWNER_SOURCE && rec.source[0] == '\0';
    break;
  default:
    r = false;
  }
  record_free (f);
  return r;
}

bool
other_record_find (const char *dir, const char *export_name, char **name)
{
  DIR *d = opendir (dir);
  const struct dirent *entry;
  bool found = false;

  *name = NULL;
  while (d != NULL && !found && (entry = readdir (d)) != NULL) {
    char *other = record_export_name (entry->d_name);

    found = other != NULL && strcmp (other, export_name) != 0 &&
            !is_at_its_source (dir, other);
    if (found)
      *name = other;
    else
      free (other);
  }
  if (d != NULL)
    closedir (d);
  return found;
}
