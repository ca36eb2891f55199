/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "tls.h"
#include "uri.h"

/* Where libnbd looks if the URI names no directory: for others than root first
 * in these, below $HOME.
 */
static const char *const home_directories[] = { ".pki/libnbd",
                                                ".config/pki/libnbd" };
#define SYSTEM_DIRECTORY "/etc/pki/libnbd"

#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
#define NAME_IT ", or say whose certificate it is (tls-hostname=NAME)"
/* An older libnbd would not look at the parameter: it cannot be loaded then. */
__attribute__ ((used)) static int (*const at_least_1_22) (
  struct nbd_handle *, const char *) = nbd_set_tls_hostname;
#else
#define NAME_IT
#endif

/* What the parameters of a URI say. */
struct tls {
  bool psk;          /* tls-psk-file: then certificates are not used */
  bool certificates; /* tls-certificates */
  bool unverified;   /* tls-verify-peer, and not true */
  bool named;        /* tls-hostname */
  bool nameless;     /* the same, empty */
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
  if (strcasecmp (name, "tls-verify-peer") == 0)
    t->unverified |= strcmp (value, "true") != 0 && strcmp (value, "1") != 0;
  if (strcmp (name, "tls-hostname") == 0)
    t->named = true;
  if (strcasecmp (name, "tls-hostname") == 0)
    t->nameless |= *value == '\0';
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

/* Whose name is to be in the certificate. */
static char *
name_refusal (const char *uri, const struct tls *t)
{
  if (t->nameless)
    return strdup ("tls-hostname= is empty: it is the name of the server that "
                   "its certificate has");
#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
  if (t->named)
    return NULL;
#else
  if (t->named)
    return strdup ("tls-hostname= would not be looked at: this libnbd does not "
                   "know it, 1.22 does");
#endif
  if (has_scheme (uri, "nbds+"))
    return strdup ("the host name in an X.509 certificate cannot be checked "
                   "over this kind of socket: use TCP, or TLS with a "
                   "pre-shared key (tls-psk-file=)" NAME_IT);
  return NULL;
}

static char *
refusal (const char *uri, const struct tls *t)
{
  char *text;

  if (t->psk)
    return NULL;
  if (t->unverified)
    return strdup (
      "tls-verify-peer is not true: the server's certificate would "
      "not be checked; leave that parameter out");
  text = name_refusal (uri, t);
  if (text != NULL)
    return text;
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

bool
tls_is_asked (const char *uri)
{
  return has_scheme (uri, "nbds:") || has_scheme (uri, "nbds+");
}

char *
tls_refusal (const char *uri)
{
  struct tls t = { .psk = false };
  char *text;

  if (!tls_is_asked (uri))
    return NULL;
  if (uri_foreach_parameter (uri, look_at, &t) == -1 || t.no_memory)
    return strdup ("no memory");
  text = refusal (uri, &t);
  free (t.missing);
  return text;
}

/* ---- what is said of a failure ------------------------------------------ */

/* With certificates, with keys, or both. */
enum means { CERTIFICATES = 1, KEYS = 2 };

/* What libnbd says of it, a part of that, and what to do. */
static const struct hint {
  unsigned means;
  const char *part, *text;
} hints[] = {
  { CERTIFICATES, "certificate verification",
    "the server's certificate is not by the authority in ca-cert.pem, is not "
    "valid at this time, or is for another host than the URI names ('certtool "
    "-i' shows it)" },
  { CERTIFICATES, "Insufficient credentials",
    "does that server use pre-shared keys?  Then give tls-psk-file=" },
  { KEYS, "Insufficient credentials",
    "does that server use certificates?  Then give tls-certificates=" },
  { CERTIFICATES, "gnutls_handshake: ",
    "what that server logs may tell why; one with pre-shared keys needs "
    "tls-psk-file=" },
  { CERTIFICATES, "gnutls_record_",
    "it may ask for a certificate of the client, by an authority that it "
    "knows: client-cert.pem and client-key.pem beside ca-cert.pem" },
  { KEYS, "not found in PSK file",
    "the user in the URI must have a key in that file" },
  { KEYS, "getlogin", "name the user of the key in the URI: nbds://USER@..." },
  { KEYS, "gnutls_",
    "the server may not know that user, or has another key for it" },
  { CERTIFICATES | KEYS, "refused TLS",
    "that server has no TLS, or another one is there; nbd:// and nbd+unix:// "
    "are without it" },
};

const char *
tls_hint (const char *uri, const char *why)
{
  const unsigned means =
    strstr (uri, "tls-psk-file=") != NULL ? KEYS : CERTIFICATES;
  size_t i;

  for (i = 0; i < sizeof hints / sizeof hints[0] && tls_is_asked (uri); ++i)
    if ((hints[i].means & means) && strstr (why, hints[i].part) != NULL)
      return hints[i].text;
  return NULL;
}

char *
tls_explain (const char *uri, char *why)
{
  const char *hint = why != NULL ? tls_hint (uri, why) : NULL;
  char *text;

  if (hint == NULL || asprintf (&text, "%s; %s", why, hint) == -1)
    return why;
  free (why);
  return text;
}
