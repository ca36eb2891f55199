/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "protocol.h"
#include "proxy/control.h"
#include "proxy/exports.h"
#include "base/no-memory.h"
#include "base/options.h"
#include "proxy/proxy.h"
#include "record.h"
#include "base/say.h"
#include "state-file.h"
#include "uri.h"
#include "cli/status-dir.h"
#include "cli/status-print.h"

#define ANSWER_MS 5000

/* Who may not look must not be told that there is nothing, or that the owner is
 * unknown.  True after saying so.
 */
static bool
is_forbidden (const char *path, int mode)
{
  if (path == NULL || access (path, mode) == 0 || errno != EACCES)
    return false;
  say_error ("cannot read %s: %s; run it as root or as the proxy's user", path,
             strerror (EACCES));
  return true;
}

/* ---- what the state file says ------------------------------------------ */

/* The control connection, or why there is none. */
struct found {
  struct control *control;
  char *why;
};

/* A socket that is not there or that nobody listens on is what a proxy leaves
 * that has ended; anything else may be one that hangs.
 */
static const char *
describe_proxy (const struct found *f)
{
  if (f->control != NULL)
    return "running";
  if (strcmp (f->why, strerror (ENOENT)) == 0 ||
      strcmp (f->why, strerror (ECONNREFUSED)) == 0)
    return "not running";
  return "not answering";
}

/* As the proxy would tell it: NULL if it is the local image, or nowhere. */
static const char *
place_of (const struct record *rec)
{
  if (rec->owner == OWNER_DESTINATION && !uri_is_local (rec->destination))
    return rec->destination;
  if (rec->owner == OWNER_SOURCE && rec->source[0] != '\0')
    return rec->source;
  return NULL;
}

static json_t *
record_json (const char *export, const char *proxy, const struct record *rec)
{
  return json_pack (
    "{s:s, s:b, s:b, s:s, s:s, s:s?, s:I, s:I, s:s, s:s?, s:s?}", "export",
    export, "running", 0, "resumable", rec->map_id != 0, "proxy", proxy,
    "owner", owner_name (rec->owner), "place", place_of (rec), "disk_bytes",
    (json_int_t)rec->disk_bytes, "chunk_bytes", (json_int_t)rec->chunk_bytes,
    "last_end", record_end_name (rec->last_end), "source",
    rec->source[0] ? rec->source : NULL, "destination",
    rec->destination[0] ? rec->destination : NULL);
}

/* Add where the proxy before has kept what its destination did not take, if it
 * has, and print it all.
 */
static void
print_with_kept (const char *dir, const char *export, json_t *status, bool json)
{
  CLEANUP_FREE char *path = state_file_path (dir, "kept", export);

  if (path == NULL ||
      (access (path, F_OK) == 0 &&
       json_object_set_new (status, "kept", protocol_string (path)) == -1))
    no_memory ();
  status_print (dir, status, json);
}

static char *
record_path (const char *dir, const char *export)
{
  CLEANUP_FREE char *name = record_file_name (export);
  char *path;

  if (name == NULL || asprintf (&path, "%s/%s", dir, name) == -1)
    return NULL;
  return path;
}

static int
show_record (const struct found *found, const char *dir, const char *export,
             bool json)
{
  const char *proxy = describe_proxy (found);
  CLEANUP_FREE char *path = record_path (dir, export), *why = NULL;
  CLEANUP_JSON json_t *status = NULL;
  struct record_file *f = record_new (dir, export, false);
  enum record_status r;
  struct record rec;

  if (path == NULL || f == NULL)
    no_memory ();
  if (is_forbidden (path, R_OK)) {
    record_free (f);
    return -1;
  }
  r = record_peek (f, 0, &rec, &why);
  record_free (f);
  if (r == RECORD_OK)
    status = record_json (export, proxy, &rec);
  else {
    say_error ("export '%s' in %s: the owner is unknown: %s", export, dir,
               why ? why : strerror (errno));
    status = json_pack ("{s:s, s:b, s:s, s:s}", "export", export, "running", 0,
                        "proxy", proxy, "owner", owner_name (OWNER_UNKNOWN));
  }
  print_with_kept (dir, export, need_memory (status), json);
  return 0;
}

/* ---- what the proxy says ----------------------------------------------- */

/* The proxy knows nothing of a disk that no client has opened, unless the disk
 * was pivoted: then its state file tells all there is.
 */
static int
show_export (const struct found *found, const char *dir, const char *name,
             bool json)
{
  struct control *const c = found->control;
  CLEANUP_ANSWER struct control_answer a = { 0 }, status = { 0 };

  if (c == NULL)
    return show_record (found, dir, name, json);
  control_wait (c, "attach", json_pack ("{s:s}", "export", name), ANSWER_MS,
                &a);
  if (a.error_class != NULL && strcmp (a.error_class, "ExportNotFound") == 0)
    return show_record (found, dir, name, json);
  if (a.value != NULL)
    control_wait (c, "status", CONTROL_NO_ARGUMENTS, ANSWER_MS, &status);
  if (status.value == NULL) {
    say_error ("asking the proxy of %s for export '%s': %s", dir, name,
               a.value ? status.desc : a.desc);
    return -1;
  }
  print_with_kept (dir, name, status.value, json);
  return 0;
}

/* -1: an error was said; otherwise how many disks were shown. */
static int
show_all (const struct found *found, const char *dir, bool json)
{
  struct control *const c = found->control;
  CLEANUP_JSON json_t *names =
    exports_of_directory (dir, c ? control_exports (c) : NULL);
  const json_t *name;
  size_t i;

  if (names == NULL)
    return -1;
  json_array_foreach (names, i, name) {
    if (i > 0 && !json)
      putchar ('\n'); /* between two disks */
    if (show_export (found, dir, json_string_value (name), json) == -1)
      return -1;
  }
  return (int)json_array_size (names);
}

/* The same of one disk.  What nothing is known of is a slip. */
static int
show_one (const struct found *found, const char *dir, const char *export,
          bool json)
{
  CLEANUP_JSON json_t *names = exports_of_directory (
    dir, found->control ? control_exports (found->control) : NULL);
  const json_t *name;
  size_t i;

  if (names == NULL)
    return -1;
  json_array_foreach (names, i, name)
    if (strcmp (json_string_value (name), export) == 0)
      return show_export (found, dir, export, json) == -1 ? -1 : 1;
  say_error ("%s holds no record of an export '%s', and no client has opened "
             "it since the proxy was started; without --export all that are "
             "known are shown",
             dir, export);
  return -1;
}

/* Only a filter makes these. */
static bool
is_migrate_dir (const char *dir)
{
  static const char *const names[] = { "control", "lock" };
  struct stat st;
  size_t i;

  for (i = 0; i < sizeof names / sizeof names[0]; ++i) {
    CLEANUP_FREE char *path = NULL;

    if (asprintf (&path, "%s/%s", dir, names[i]) == -1)
      no_memory ();
    if (lstat (path, &st) == 0)
      return true;
  }
  return false;
}

/* What is said if nothing was found: in place of 0, the result. */
static int
say_nothing_found (const struct found *found, const char *dir)
{
  if (!is_migrate_dir (dir)) {
    say_error ("%s holds nothing of the filter: is this the migrate-dir of a "
               "proxy?",
               dir);
    return -1;
  }
  if (strcmp (describe_proxy (found), "not answering") == 0) {
    say_error ("%s holds no record, and the nbdkit that uses it does not "
               "answer (%s), so it is not known what it serves: is it stopped, "
               "or out of descriptors or memory?",
               dir, found->why);
    return -1;
  }
  say_info ("%s holds no record: no disk there was ever migrated", dir);
  return 0;
}

int
status_of_directory (const char *dir, const char *control_path,
                     const char *export, bool json)
{
  CLEANUP_FREE char *path =
    control_path ? strdup (control_path) : exports_control_path (dir);
  struct found found;
  struct loop loop;
  int n = -1;

  if (path == NULL)
    no_memory ();
  if (is_forbidden (path, W_OK))
    return EXIT_FAILED;
  loop_init (&loop);
  found.control = control_open (&loop, path, CONTROL_GREETING_MS, &found.why);
  if (found.control == NULL && found.why == NULL)
    no_memory (); /* that is no proxy that has ended */
  if (found.control == NULL && control_path != NULL)
    proxy_say_no_control (path, dir, found.why);
  else
    n = export ? show_one (&found, dir, export, json)
               : show_all (&found, dir, json);
  if (n == 0)
    n = say_nothing_found (&found, dir);
  control_close (found.control);
  free (found.why);
  loop_destroy (&loop);
  return n >= 0 && fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}
