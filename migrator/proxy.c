/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "endpoint.h"
#include "options.h"
#include "proxy.h"
#include "say.h"

static int
open_control (struct proxy *p, const char *path)
{
  char *why;

  p->control = control_open (&p->loop, path, CONTROL_GREETING_MS, &why);
  if (p->control != NULL)
    return 0;
  say_error ("connecting to the control socket %s of %s: %s; nbdmigrate must "
             "run on the proxy's host, as its user or root",
             path, p->uri, why ? why : strerror (errno));
  free (why);
  return -1;
}

static int
attach (struct proxy *p, const char *export_name)
{
  CLEANUP_ANSWER struct control_answer a = { 0 };

  control_wait (p->control, "attach",
                json_pack ("{s:s}", "export", export_name), 5000, &a);
  if (a.value != NULL) {
    protocol_get_u64 (a.value, "max_gate_ms", &p->max_gate_ms);
    return 0;
  }
  say_error ("choosing the export '%s' of %s: %s", export_name, p->uri, a.desc);
  return -1;
}

static int
find_control (struct proxy *p, const struct endpoint *e, const char *given)
{
  CLEANUP_FREE char *announced =
    endpoint_announcement (e, PROTOCOL_ANNOUNCE_CONTROL);
  const char *path = given ? given : announced;

  if (path == NULL) {
    say_error ("%s announces no control socket: it must be served by nbdkit "
               "--filter=migrate (or give --control=SOCKET)",
               p->uri);
    return -1;
  }
  if (open_control (p, path) == -1)
    return -1;
  return attach (p, e->export_name);
}

const char *
proxy_hint (const char *why)
{
  /* What libnbd says when the server refuses to open the export. */
  if (why == NULL || strstr (why, "no export named") == NULL)
    return "";
  return "; if there should be one, nbdkit's own messages tell why the proxy "
         "cannot serve it, and 'nbdmigrate status DIR' with its migrate-dir "
         "tells who owns the disk";
}

int
proxy_open (struct proxy *p, const char *source, const char *control_path)
{
  const struct connection_options none = { 0 };
  struct endpoint *e;
  char *why;
  int r;

  *p = (struct proxy){ .control = NULL };
  loop_init (&p->loop);
  p->uri = options_uri ("SOURCE", source);
  if (p->uri == NULL)
    return EXIT_USAGE;
  e = endpoint_open (&p->loop, p->uri, &none, -1, &why);
  if (e == NULL) {
    say_error ("connecting to the source %s: %s%s", p->uri,
               why ? why : strerror (errno), proxy_hint (why));
    free (why);
    return EXIT_FAILED;
  }
  r = find_control (p, e, control_path);
  endpoint_close (e);
  return r == 0 ? EXIT_DONE : EXIT_FAILED;
}

void
proxy_close (struct proxy *p)
{
  control_close (p->control);
  free (p->uri);
  loop_destroy (&p->loop);
}
