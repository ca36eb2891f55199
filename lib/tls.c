/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cleanup.h"
#include "tls.h"
#include "uri.h"

/* Where libnbd looks if the URI names no directory: for others than root first
 * in these, below $HOME.
 */
static const char *const home_directories[] = { ".pki/libnbd",
                                                ".config/pki/libnbd" };
#define SYSTEM_DIRECTORY "/etc/pki/libnbd"

/* What the parameters of a URI say. */
struct tls {
  bool psk;          /* tls-psk-file: then certificates are not used */
  bool certificates; /* tls-certificates */
  char *missing;     /* of those directories, one without a CA; or NULL */
  int error;         /* errno, why */
  bool no_memory;
};

/* Whether there is a certificate authority that libnbd can read: it looks in
 * the same way.
 */
static int
can_read_ca (const char *dir)
{
  CLEANUP_FREE char *path = NULL;

  if (asprintf (&path, "%s/ca-cert.pem", dir) == -1) {
    path = NULL;
    errno = ENOMEM;
    return -1;
  }
  return access (path, R_OK);
}

/* Names are case sensitive in libnbd; should a later one take more, what it
 * might take is right, too.
 */
static void
look_at (void *opaque, const char *name, const char *value)
{
  struct tls *t = opaque;

  if (strcmp (name, "tls-psk-file") == 0)
    t->psk = true;
  if (strcasecmp (name, "tls-certificates") != 0)
    return;
  if (strcmp (name, "tls-certificates") == 0)
    t->certificates = true;
  if (t->missing != NULL || can_read_ca (value) == 0)
    return;
  t->error = errno;
  t->missing = strdup (value);
  t->no_memory = t->missing == NULL;
}

static bool
has_default_ca (void)
{
  const char *home = geteuid () == 0 ? NULL : getenv ("HOME");

  for (size_t i = 0;
       home && i < sizeof home_directories / sizeof home_directories[0]; i++) {
    CLEANUP_FREE char *dir = NULL;

    if (asprintf (&dir, "%s/%s", home, home_directories[i]) == -1)
      dir = NULL;
    else if (can_read_ca (dir) == 0)
      return true;
  }
  return can_read_ca (SYSTEM_DIRECTORY) == 0;
}

static bool
has_scheme (const char *uri, const char *scheme)
{
  return strncasecmp (uri, scheme, strlen (scheme)) == 0;
}

/* NULL: no memory. */
static char *
describe (const char *fmt, const char *dir, int error)
{
  char *text;

  return asprintf (&text, fmt, dir, strerror (error)) == -1 ? NULL : text;
}

static char *
refusal (const char *uri, const struct tls *t)
{
  if (t->psk)
    return NULL;
  if (has_scheme (uri, "nbds+"))
    return strdup ("the host name in an X.509 certificate cannot be checked "
                   "over this kind of socket: use TCP, or TLS with a "
                   "pre-shared key (tls-psk-file=)");
  if (t->missing != NULL)
    return describe ("%s/ca-cert.pem: %s: without it the server's certificate "
                     "would not be checked (tls-certificates=)",
                     t->missing, t->error);
  if (!t->certificates && !has_default_ca ())
    return strdup ("the server's certificate would not be checked: name the "
                   "directory of a ca-cert.pem by tls-certificates=DIR; that "
                   "of the system's authorities can be linked there");
  return NULL;
}

char *
tls_refusal (const char *uri)
{
  struct tls t = { .psk = false };
  char *text;

  if (!has_scheme (uri, "nbds:") && !has_scheme (uri, "nbds+"))
    return NULL;
  if (uri_foreach_parameter (uri, look_at, &t) == -1 || t.no_memory)
    return strdup ("no memory");
  text = refusal (uri, &t);
  free (t.missing);
  return text;
}
