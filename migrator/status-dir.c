/* SPDX-License-Identifier: BSD-3-Clause */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "control.h"
#include "options.h"
#include "record.h"
#include "say.h"
#include "status-dir.h"
#include "status-print.h"

#define ANSWER_MS 5000

/* ---- the proxy runs ---------------------------------------------------- */

static int
ask_export (struct control *c, const char *dir, const char *name, bool json)
{
  CLEANUP_ANSWER struct control_answer a = { 0 }, status = { 0 };

  control_wait (c, "attach", json_pack ("{s:s}", "export", name), ANSWER_MS,
                &a);
  if (a.value != NULL)
    control_wait (c, "status", NULL, ANSWER_MS, &status);
  if (status.value == NULL) {
    say_error ("asking the proxy of %s for export '%s': %s", dir, name,
               a.value ? status.desc : a.desc);
    return -1;
  }
  return status_print (dir, status.value, json);
}

/* Between two disks. */
static void
separate (bool json)
{
  if (!json)
    putchar ('\n');
}

/* -1: an error was said; otherwise how many disks were shown. */
static int
ask_proxy (struct control *c, const char *dir, bool json)
{
  const json_t *exports = control_exports (c), *name;
  size_t i;

  json_array_foreach (exports, i, name) {
    if (i > 0)
      separate (json);
    if (ask_export (c, dir, json_string_value (name), json) == -1)
      return -1;
  }
  return (int)json_array_size (exports);
}

/* ---- it does not ------------------------------------------------------- */

static json_t *
record_json (const char *export, const struct record *rec)
{
  return json_pack ("{s:s, s:b, s:s, s:I, s:I, s:s, s:s?}", "export", export,
                    "running", 0, "owner", owner_name (rec->owner),
                    "disk_bytes", (json_int_t)rec->disk_bytes, "chunk_bytes",
                    (json_int_t)rec->chunk_bytes, "last_end",
                    record_end_name (rec->last_end), "destination",
                    rec->destination[0] ? rec->destination : NULL);
}

static int
show_record (const char *dir, const char *export, bool json)
{
  CLEANUP_FREE char *why = NULL;
  CLEANUP_JSON json_t *status = NULL;
  struct record_file *f = record_new (dir, export, false);
  enum record_status r = RECORD_UNREADABLE;
  struct record rec;

  if (f != NULL)
    r = record_peek (f, 0, &rec, &why);
  record_free (f);
  if (r == RECORD_OK)
    status = record_json (export, &rec);
  else {
    say_error ("export '%s' in %s: the owner is unknown: %s", export, dir,
               why ? why : strerror (errno));
    status = json_pack ("{s:s, s:b, s:s}", "export", export, "running", 0,
                        "owner", owner_name (OWNER_UNKNOWN));
  }
  return status ? status_print (dir, status, json) : -1;
}

static int
show_records (const char *dir, bool json)
{
  DIR *d = opendir (dir);
  const struct dirent *entry;
  int n = 0, r = 0;

  if (d == NULL) {
    say_error ("reading %s: %s", dir, strerror (errno));
    return -1;
  }
  while (r == 0 && (entry = readdir (d)) != NULL) {
    CLEANUP_FREE char *export = record_export_name (entry->d_name);

    if (export == NULL)
      continue;
    if (n++ > 0)
      separate (json);
    r = show_record (dir, export, json);
  }
  closedir (d);
  return r == -1 ? -1 : n;
}

int
status_of_directory (const char *dir, bool json)
{
  CLEANUP_FREE char *path = NULL, *why = NULL;
  struct control *c;
  struct loop loop;
  int n = 0;

  if (asprintf (&path, "%s/control", dir) == -1) {
    path = NULL;
    return EXIT_FAILED;
  }
  loop_init (&loop);
  c = control_open (&loop, path, CONTROL_GREETING_MS, &why);
  if (c != NULL)
    n = ask_proxy (c, dir, json);
  /* Disks that no client has opened yet are known by their records only. */
  if (n == 0)
    n = show_records (dir, json);
  control_close (c);
  loop_destroy (&loop);
  if (n == 0)
    say_info ("%s holds no record: no disk there was ever migrated", dir);
  return n >= 0 && fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}
