/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "announcement.h"
#include "cleanup.h"
#include "nbd/endpoint.h"
#include "proxy/exports.h"
#include "base/options.h"
#include "proxy/proxy.h"
#include "base/say.h"
#include "uri.h"

/* How libnbd begins when it cannot even connect there. */
static const char connect_prefix[] = "connect: ";

static bool
cannot_connect (const char *why)
{
  return why != NULL &&
         strncmp (why, connect_prefix, strlen (connect_prefix)) == 0;
}

static bool
is_forbidden (const char *why)
{
  return why != NULL && strstr (why, strerror (EACCES)) != NULL;
}

void
proxy_say_no_control (const char *path, const char *what, const char *why)
{
  say_error ("connecting to the control socket %s of %s: %s; %s", path, what,
             why ? why : strerror (errno),
             is_forbidden (why)
               ? "run it as root or as the proxy's user"
               : "the proxy must be running, and nbdmigrate must run on its "
                 "host, as its user or root");
}

static int
open_control (struct proxy *p, const char *path)
{
  char *why;

  p->control = control_open (&p->loop, path, CONTROL_GREETING_MS, &why);
  if (p->control != NULL)
    return 0;
  proxy_say_no_control (path, p->uri, why);
  free (why);
  return -1;
}

/* 1: no client has opened the export yet; -1: an error was said. */
static int
try_to_attach (struct proxy *p, const char *export_name)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "attach",
                json_pack ("{s:s}", "export", export_name), 5000, &a);
  if (a.value != NULL) {
    protocol_get_u64 (a.value, "max_gate_ms", &p->max_gate_ms);
    p->attached = json_incref (a.value);
    return 0;
  }
  if (a.error_class != NULL && strcmp (a.error_class, "ExportNotFound") == 0)
    return 1;
  say_error ("finding the disk of %s: %s", p->uri, a.desc);
  return -1;
}

static int
attach (struct proxy *p, const char *export_name)
{
  const int r = try_to_attach (p, export_name);

  if (r == 1)
    say_error (
      "finding the disk of %s: no client has opened it since the proxy "
      "was started, so the proxy does not know it; name its URI, or "
      "connect a client",
      p->uri);
  return r == 0 ? 0 : -1;
}

bool
proxy_unreachable (const char *why)
{
  return cannot_connect (why) && !is_forbidden (why);
}

#define NOBODY                                                                 \
  "if this has worked before, the proxy serves the disk to nobody now: after " \
  "a pivot the destination may be away, or it cannot tell who owns the disk; " \
  "'nbdmigrate status DIR' with its migrate-dir and nbdkit's own messages "    \
  "tell"
#define NAMES                                                                  \
  "'nbdinfo --list' tells the exports there are (one with a name, "            \
  "nbd+unix:///NAME?socket=..., needs migrate-named-exports=true of the "      \
  "proxy)"

/* The likelier first: who gives a name may have mistaken it. */
const char *
proxy_hint (const char *why)
{
  if (proxy_unreachable (why))
    return "; is the proxy running?  'nbdmigrate status DIR' with its "
           "migrate-dir reads its records";
  if (cannot_connect (why))
    return "; run it as root or as the proxy's user";
  /* What libnbd says when the server refuses to open the export. */
  if (why == NULL || strstr (why, "no export named") == NULL)
    return "";
  if (strstr (why, "no export named ''") != NULL)
    return "; " NOBODY "; otherwise " NAMES;
  return "; " NAMES "; " NOBODY;
}

/* ---- by URI ------------------------------------------------------------- */

#define NO_ID                                                                  \
  "start that proxy with the filter of this version, or give its migrate-dir " \
  "or --control=SOCKET on its host"

char *
proxy_is_foreign (const struct endpoint *source, const char *path, bool named,
                  const json_t *attached)
{
  CLEANUP_FREE char *announced = endpoint_announcement (source, ANNOUNCE_ID);
  const char *id = json_string_value (json_object_get (attached, "id"));
  char *why;
  int r;

  if (announced == NULL && named)
    return NULL;
  if (announced != NULL && id != NULL && strcmp (announced, id) == 0)
    return NULL;
  if (announced == NULL)
    r = asprintf (&why,
                  "it does not tell which disk it is, so the control socket %s "
                  "that it announces may be of another one; " NO_ID,
                  path);
  else
    r = asprintf (&why,
                  "the control socket %s on this host belongs to another disk "
                  "(id %s, announced %s); nbdmigrate must run on the proxy's "
                  "host%s",
                  path, id ? id : "none", announced,
                  named ? ", where --control can be left out" : "");
  return r == -1 ? strdup ("no memory") : why;
}

/* The socket is open, and is the disk's. */
static int
attach_to (struct proxy *p, const struct endpoint *e, const char *path,
           bool named)
{
  CLEANUP_FREE char *foreign = NULL;

  if (attach (p, e->export_name) == -1)
    return -1;
  foreign = proxy_is_foreign (e, path, named, p->attached);
  if (foreign != NULL)
    say_error ("finding the disk of %s: %s", p->uri, foreign);
  return foreign == NULL ? 0 : -1;
}

static int
find_control (struct proxy *p, const struct endpoint *e)
{
  CLEANUP_FREE char *announced = endpoint_announcement (e, ANNOUNCE_CONTROL);

  if (announced == NULL) {
    say_error ("%s announces no control socket: it must be served by nbdkit "
               "--filter=migrate (or give --control=SOCKET)",
               p->uri);
    return -1;
  }
  if (open_control (p, announced) == -1)
    return -1;
  return attach_to (p, e, announced, false);
}

/* 'control_path' is what the user named, and open, or NULL. */
static int
connect_source (struct proxy *p, const char *control_path)
{
  const struct connection_options none = { 0 };
  struct endpoint *e;
  char *why;
  int r;

  e = endpoint_open (&p->loop, p->uri, &none, -1, &why);
  if (e == NULL) {
    say_error ("connecting to the source %s: %s%s", p->uri,
               why ? why : strerror (errno), proxy_hint (why));
    free (why);
    return -1;
  }
  r = p->control ? attach_to (p, e, control_path, true) : find_control (p, e);
  endpoint_close (e);
  return r;
}

static int
open_by_uri (struct proxy *p, const char *control_path)
{
  CLEANUP_FREE char *name = uri_export_name (p->uri);
  int r = 1;

  if (name != NULL && control_path != NULL) {
    if (open_control (p, control_path) == -1)
      return -1;
    r = try_to_attach (p, name);
  }
  return r == 1 ? connect_source (p, control_path) : r;
}

/* ---- by migrate-dir ----------------------------------------------------- */

/* The only disk there is; NULL after saying that it is not the only one. */
static const char *
only_export (const char *dir, const json_t *names)
{
  if (json_array_size (names) == 1)
    return json_string_value (json_array_get (names, 0));
  if (json_array_size (names) == 0)
    say_error ("the proxy of %s knows no disk: no client has opened one since "
               "it was started, and none was ever migrated",
               dir);
  else
    say_error (
      "the proxy of %s has %zu disks, as 'nbdmigrate status %s' shows: "
      "choose one with --export=NAME",
      dir, json_array_size (names), dir);
  return NULL;
}

/* Messages tell the disks of a proxy apart. */
static void
set_name (struct proxy *p, const char *dir, const char *export)
{
  free (p->uri);
  p->uri = NULL;
  if (*export == '\0')
    p->uri = copy_text (dir);
  else if (asprintf (&p->uri, "%s (export '%s')", dir, export) == -1)
    no_memory ();
}

static int
open_by_directory (struct proxy *p, const char *dir, const char *control_path,
                   const char *export)
{
  CLEANUP_FREE char *path =
    control_path ? copy_text (control_path) : exports_control_path (dir);
  CLEANUP_JSON json_t *names = NULL;

  set_name (p, dir, "");
  if (open_control (p, path) == -1)
    return -1;
  names = exports_of_directory (dir, control_exports (p->control));
  if (names != NULL && export == NULL)
    export = only_export (dir, names);
  if (names == NULL || export == NULL)
    return -1;
  set_name (p, dir, export);
  return attach (p, export);
}

/* ------------------------------------------------------------------------- */

int
proxy_open (struct proxy *p, const char *source, const char *control_path,
            const char *export)
{
  int r;

  *p = (struct proxy){ .control = NULL };
  loop_init (&p->loop);
  errno = ENOTDIR;
  if (is_directory (source))
    r = open_by_directory (p, source, control_path, export);
  else if (export != NULL) {
    say_usage ("--export goes with the proxy's migrate-dir only, and '%s' is "
               "no directory: a URI names its export itself",
               source);
    return EXIT_USAGE;
  }
  else if (!uri_is_nbd (source) && uri_wrong (source) == NULL) {
    if (errno != ENOENT && errno != ENOTDIR) {
      say_error ("looking at '%s': %s", source, strerror (errno));
      return EXIT_FAILED;
    }
    say_usage ("'%s' is neither an NBD URI nor a directory", source);
    return EXIT_USAGE;
  }
  else {
    p->uri = options_uri ("SOURCE", source);
    if (p->uri == NULL)
      return EXIT_USAGE;
    r = open_by_uri (p, control_path);
  }
  return r == 0 ? EXIT_DONE : EXIT_FAILED;
}

void
proxy_close (struct proxy *p)
{
  control_close (p->control);
  json_decref (p->attached);
  free (p->uri);
  loop_destroy (&p->loop);
}
