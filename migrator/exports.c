/* SPDX-License-Identifier: BSD-3-Clause */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "exports.h"
#include "protocol.h"
#include "record.h"
#include "say.h"

bool
is_directory (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 && S_ISDIR (st.st_mode);
}

char *
exports_control_path (const char *dir)
{
  char *path;

  return asprintf (&path, "%s/control", dir) == -1 ? NULL : path;
}

static bool
has_name (const json_t *names, const char *name)
{
  const json_t *n;
  size_t i;

  json_array_foreach (names, i, n)
    if (strcmp (json_string_value (n), name) == 0)
      return true;
  return false;
}

static void
add_recorded (DIR *d, json_t *names)
{
  const struct dirent *entry;

  while ((entry = readdir (d)) != NULL) {
    CLEANUP_FREE char *name = record_export_name (entry->d_name);

    if (name != NULL && !has_name (names, name))
      json_array_append_new (names, json_string (name));
  }
}

json_t *
exports_of_directory (const char *dir, const json_t *opened)
{
  json_t *names = json_array ();
  DIR *d = opendir (dir);

  if (d == NULL) {
    say_error ("reading %s: %s", dir, strerror (errno));
    json_decref (names);
    return NULL;
  }
  if (opened != NULL)
    json_array_extend (names, (json_t *)opened);
  add_recorded (d, names);
  closedir (d);
  return names;
}
