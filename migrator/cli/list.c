/* SPDX-License-Identifier: BSD-3-Clause */
/* 'nbdmigrate list': the kernel knows all Unix sockets that somebody listens on
 * (in this network namespace); a proxy's is called "control", and beside it
 * there is its lock.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/no-memory.h"
#include "base/options.h"
#include "base/say.h"
#include "cleanup.h"
#include "cli/wait.h"
#include "printable.h"
#include "protocol.h"
#include "proxy/control.h"
#include "proxy/exports.h"
#include "show/progress-text.h"
#include "units.h"

#define ANSWER_MS 2000

/* However many do not answer: after that each of them is asked for a moment
 * only.
 */
#define ALL_MS 10000
#define MOMENT_MS 100

/* The column behind the size. */
#define STATE_AT 12

static const char not_answering[] = "not answering";

static const char sockets_path[] = "/proc/net/unix";
static const char socket_name[] = "/control";

struct list {
  json_t *disks; /* what 'status' answers, with the directory "dir" */
  struct loop loop;
  int64_t begin_us;
};

/* ---- finding them ------------------------------------------------------ */

/* The directory of a proxy, which the caller frees, if the line is of its
 * socket and we may talk to it; otherwise NULL.
 */
static char *
directory_of (const char *line)
{
  const char *path = strchr (line, '/');
  char *dir, *lock = NULL;
  size_t n;

  if (path == NULL)
    return NULL;
  n = strcspn (path, "\n");
  if (n <= strlen (socket_name) ||
      strncmp (path + n - strlen (socket_name), socket_name,
               strlen (socket_name)) != 0)
    return NULL;
  dir = strndup (path, n - strlen (socket_name));
  if (dir == NULL || asprintf (&lock, "%s/lock", dir) == -1)
    no_memory ();
  if (access (lock, F_OK) == -1) {
    free (dir);
    dir = NULL;
  }
  free (lock);
  return dir;
}

static bool
is_known (const json_t *dirs, const char *dir)
{
  const json_t *d;
  size_t i;

  json_array_foreach (dirs, i, d)
    if (strcmp (json_string_value (d), dir) == 0)
      return true;
  return false;
}

static int
compare (const void *a, const void *b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

/* All of them, each once: connections that were accepted have the path, too.
 * Anybody may have a socket of any name, which need not be UTF-8.
 */
static json_t *
find_directories (void)
{
  json_t *dirs = need_memory (json_array ());
  char *line = NULL;
  size_t size = 0;
  FILE *fp = fopen (sockets_path, "re");

  while (fp != NULL && getline (&line, &size, fp) != -1) {
    CLEANUP_FREE char *dir = directory_of (line);

    if (dir != NULL && !is_known (dirs, dir) &&
        json_array_append_new (dirs, json_string_nocheck (dir)) == -1)
      no_memory ();
  }
  free (line);
  if (fp == NULL)
    say_error ("reading %s: %m", sockets_path);
  else
    fclose (fp);
  if (fp == NULL) {
    json_decref (dirs);
    dirs = NULL;
  }
  return dirs;
}

/* ---- asking them ------------------------------------------------------- */

static int
answer_ms (const struct list *l)
{
  const int64_t left_ms = ALL_MS - (loop_now_us () - l->begin_us) / 1000;

  if (left_ms >= ANSWER_MS)
    return ANSWER_MS;
  return left_ms > MOMENT_MS ? (int)left_ms : MOMENT_MS;
}

static void
add_silent (struct list *l, const char *dir)
{
  json_t *o = json_pack ("{s:s}", "proxy", not_answering);

  if (json_object_set_new (o, "dir", protocol_string (dir)) == -1 ||
      json_array_append_new (l->disks, o) == -1)
    no_memory ();
}

static void
add_disk (struct list *l, const char *dir, struct control *c,
          const char *export)
{
  CLEANUP_ANSWER struct control_answer attached = { 0 }, status = { 0 };

  control_wait (c, "attach", json_pack ("{s:s}", "export", export),
                answer_ms (l), &attached);
  if (attached.value == NULL)
    return; /* nobody has opened it, and it is in the local image */
  control_wait (c, "status", CONTROL_NO_ARGUMENTS, answer_ms (l), &status);
  if (!json_is_object (status.value))
    return;
  if (json_object_set_new (status.value, "dir", protocol_string (dir)) == -1 ||
      json_array_append (l->disks, status.value) == -1)
    no_memory ();
}

/* It listens, and says nothing: it is stopped, or hangs. */
static bool
is_silent (const char *why)
{
  return why != NULL && (strcmp (why, CONTROL_NO_GREETING) == 0 ||
                         strcmp (why, strerror (EAGAIN)) == 0);
}

/* Those of others cannot be seen. */
static void
add_proxy (struct list *l, const char *dir)
{
  CLEANUP_FREE char *path = NULL, *why = NULL;
  CLEANUP_JSON json_t *names = NULL;
  struct control *c;
  const json_t *name;
  size_t i;

  if (asprintf (&path, "%s%s", dir, socket_name) == -1)
    no_memory ();
  c = control_open (&l->loop, path, answer_ms (l), &why);
  if (c == NULL && why == NULL)
    no_memory ();
  if (c == NULL && is_silent (why))
    add_silent (l, dir);
  if (c == NULL)
    return;
  /* After a restart those that were pivoted are known by their records. */
  names = exports_find (dir, control_exports (c));
  json_array_foreach (names ? names : control_exports (c), i, name)
    if (json_is_string (name) && control_broken (c) == NULL)
      add_disk (l, dir, c, json_string_value (name));
  if (control_broken (c) != NULL)
    add_silent (l, dir);
  control_close (c);
}

/* ---- showing them ------------------------------------------------------ */

static const char *
text_of (const json_t *o, const char *name, const char *otherwise)
{
  const char *text = json_string_value (json_object_get (o, name));

  return text ? text : otherwise;
}

/* Whoever serves the socket may be anybody, too. */
static void
put_clean (char *line)
{
  make_printable (line, '?');
  puts (line);
}

/* Of the migration: one word, or how far it is. */
static void
describe (char text[64], const json_t *s)
{
  const json_t *progress = json_object_get (s, "progress");
  const char *phase = text_of (progress, "phase", "starting");

  if (!json_is_true (json_object_get (s, "session")))
    snprintf (text, 64, "%s", text_of (s, "last_end", "none"));
  else if (json_is_true (json_object_get (progress, "paused")))
    snprintf (text, 64, "paused");
  else if (strcmp (phase, "bulk") == 0)
    snprintf (text, 64, "bulk %d%%",
              (int)json_integer_value (json_object_get (progress, "percent")));
  else
    snprintf (text, 64, "%.32s", phase);
}

static const char *
place_of (const json_t *s)
{
  const char *owner = text_of (s, "owner", "unknown");

  if (strcmp (owner, "unknown") == 0)
    return owner;
  return text_of (s, "place", "local image");
}

/* Which disk, and where it is, in one line, or in two where the terminal is too
 * narrow.
 */
static void
put_disk (char *disk, char *place)
{
  const size_t columns = progress_columns (STDOUT_FILENO);
  CLEANUP_FREE char *line = NULL;

  if (columns > 0 && strlen (disk) + strlen (place) + 2 > columns) {
    put_clean (disk);
    if (asprintf (&line, "%*s%s", STATE_AT, "", place) == -1)
      no_memory ();
  }
  else if (asprintf (&line, "%s  %s", disk, place) == -1)
    no_memory ();
  put_clean (line);
}

static void
show_disk (const json_t *s)
{
  const char *export = text_of (s, "export", "");
  const bool goes = json_is_true (json_object_get (s, "session")) ||
                    strcmp (text_of (s, "owner", ""), "fenced") == 0;
  CLEANUP_FREE char *disk = NULL, *place = NULL;
  char size[UNITS_TEXT_MAX], state[64];

  describe (state, s);
  units_format_bytes (
    size, (uint64_t)json_integer_value (json_object_get (s, "disk_bytes")));
  if (asprintf (&disk, "%-11s %-13s %s%s%s", size, state,
                text_of (s, "dir", "?"), *export ? " --export=" : "",
                export) == -1 ||
      asprintf (&place, "%s%s", goes ? "to " : "at ",
                goes ? text_of (s, "destination", "?") : place_of (s)) == -1)
    no_memory ();
  put_disk (disk, place);
}

static void
show_line (const json_t *s)
{
  CLEANUP_FREE char *line = NULL;

  if (json_object_get (s, "owner") != NULL ||
      strcmp (text_of (s, "proxy", ""), not_answering) != 0) {
    show_disk (s);
    return;
  }
  if (asprintf (&line, "%-11s %-13s %s", "-", not_answering,
                text_of (s, "dir", "?")) == -1)
    no_memory ();
  put_clean (line);
}

static int
show (const json_t *disks, bool json)
{
  const json_t *s;
  size_t i;

  json_array_foreach (disks, i, s)
    if (json) {
      CLEANUP_FREE char *text = need_memory (json_dumps (s, JSON_COMPACT));

      puts (text);
    }
    else
      show_line (s);
  return fflush (stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* ------------------------------------------------------------------------- */

static int
list (bool json)
{
  struct list l = { .disks = json_array (), .begin_us = loop_now_us () };
  json_t *dirs = find_directories ();
  const size_t n = json_array_size (dirs);
  CLEANUP_FREE const char **names = calloc (n + 1, sizeof *names);
  int status = EXIT_FAILED;
  size_t i;

  if (names == NULL)
    no_memory ();
  for (i = 0; i < n; ++i)
    names[i] = json_string_value (json_array_get (dirs, i));
  qsort (names, n, sizeof *names, compare);
  loop_init (&l.loop);
  for (i = 0; i < n; ++i)
    add_proxy (&l, names[i]);
  loop_destroy (&l.loop);
  if (dirs != NULL)
    status = show (l.disks, json);
  if (status == EXIT_DONE && json_array_size (l.disks) == 0)
    say_info ("no proxy that you may talk to has a disk open");
  json_decref (l.disks);
  json_decref (dirs);
  return status;
}

int
list_main (int argc, char *argv[])
{
  enum { OPT_JSON = OPTIONS_FIRST };
  static const struct option known[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { NULL, 0, NULL, 0 },
  };
  bool json = false;
  int opt;

  while ((opt = options_next (argc, argv, known)) != -1) {
    if (opt != OPT_JSON)
      return EXIT_USAGE;
    json = true;
  }
  if (optind < argc) {
    say_usage ("list: '%s' is one argument too many", argv[optind]);
    return EXIT_USAGE;
  }
  return list (json);
}
