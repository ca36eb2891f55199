/* SPDX-License-Identifier: BSD-3-Clause */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/no-memory.h"
#include "cleanup.h"
#include "proxy/exports.h"
#include "protocol.h"
#include "record.h"
#include "base/say.h"

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

  if (asprintf (&path, "%s/control", dir) == -1)
    no_memory ();
  return path;
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

/* As far as they are names: anybody may listen on a socket. */
static void
add_opened (json_t *names, const json_t *opened)
{
  json_t *name;
  size_t i;

  json_array_foreach (opened, i, name)
    if (json_is_string (name) && json_array_append (names, name) == -1)
      no_memory ();
}

/* 0, or -1 with errno set: some are missing. */
static int
add_recorded (DIR *d, json_t *names)
{
  const struct dirent *entry;

  while ((errno = 0, entry = readdir (d)) != NULL) {
    CLEANUP_FREE char *name = record_export_name (entry->d_name);

    if (name == NULL && errno == ENOMEM)
      return -1;
    if (name != NULL && !has_name (names, name) &&
        json_array_append_new (names, json_string (name)) == -1) {
      errno = ENOMEM;
      return -1;
    }
  }
  return errno == 0 ? 0 : -1;
}

static int
compare (const void *a, const void *b)
{
  return strcmp (json_string_value (*(json_t *const *)a),
                 json_string_value (*(json_t *const *)b));
}

/* Neither the order in which they were opened nor that of the directory means
 * anything.  Stolen.  Without memory their order stays.
 */
static json_t *
sorted (json_t *names)
{
  const size_t n = json_array_size (names);
  CLEANUP_FREE json_t **v = calloc (n + 1, sizeof *v);
  json_t *result;
  size_t i;

  if (v == NULL)
    return names;
  for (i = 0; i < n; ++i)
    v[i] = json_array_get (names, i);
  qsort (v, n, sizeof *v, compare);
  result = json_array ();
  for (i = 0; i < n; ++i)
    if (json_array_append (result, v[i]) == -1) {
      json_decref (result);
      return names;
    }
  if (result == NULL)
    return names;
  json_decref (names);
  return result;
}

json_t *
exports_find (const char *dir, const json_t *opened)
{
  json_t *names = json_array ();
  DIR *d = opendir (dir);
  int err = 0;

  if (names == NULL)
    no_memory ();
  add_opened (names, opened);
  if (d == NULL || add_recorded (d, names) == -1)
    err = errno;
  if (d != NULL)
    closedir (d);
  if (err == 0)
    return sorted (names);
  json_decref (names);
  errno = err;
  return NULL;
}

json_t *
exports_of_directory (const char *dir, const json_t *opened)
{
  json_t *names = exports_find (dir, opened);

  if (names == NULL)
    say_error ("reading %s: %s", dir, strerror (errno));
  return names;
}
