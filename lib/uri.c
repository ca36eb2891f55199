/* SPDX-License-Identifier: BSD-3-Clause */
/* Only paths in the query part of a URI are rewritten, everything else is
 * copied as it is: what is not understood here is for libnbd to judge.
 */

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cleanup.h"
#include "uri.h"

/* Schemes and parameter names are case sensitive, as in libnbd. */
bool
uri_is_nbd (const char *uri)
{
  static const char *const schemes[] = {
    "nbd://",       "nbds://",      "nbd+unix://",
    "nbds+unix://", "nbd+vsock://", "nbds+vsock://",
  };

  for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
    if (strncmp (uri, schemes[i], strlen (schemes[i])) == 0)
      return true;
  return false;
}

/* ---- percent-encoding -------------------------------------------------- */

/* The value of two hexadecimal digits; -1 if they are not there. */
static int
hex_byte (const char *p)
{
  char digits[3] = { 0 };

  if (!isxdigit ((unsigned char)p[0]) || !isxdigit ((unsigned char)p[1]))
    return -1;
  memcpy (digits, p, 2);
  return (int)strtol (digits, NULL, 16);
}

/* What a URI cannot have as it is: libnbd says only that it cannot be parsed.
 */
static bool
is_unencoded (const char *p)
{
  const unsigned char c = *p;

  return c <= ' ' || c >= 127 || strchr ("\"<>[]\\^`{|}", c) != NULL ||
         (c == '%' && hex_byte (p + 1) == -1);
}

/* If [p, end) is a query parameter that holds a path, the path. */
static const char *
path_of_parameter (const char *p, const char *end)
{
  static const char *const names[] = {
    "socket=",
    "tls-certificates=",
    "tls-psk-file=",
  };

  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const size_t len = strlen (names[i]);

    if ((size_t)(end - p) > len && strncmp (p, names[i], len) == 0)
      return p + len;
  }
  return NULL;
}

/* Where libnbd ends a parameter: at the next '&', in the last one at a ';'. */
static const char *
end_of_parameter (const char *p, const char *end)
{
  const size_t len = end - p;
  const char *found = memchr (p, '&', len);

  if (found == NULL)
    found = memchr (p, ';', len);
  return found ? found : end;
}

static bool
has_unencoded_part (const char *p, const char *end)
{
  for (; p < end; p++)
    if (is_unencoded (p))
      return true;
  return false;
}

/* But for the paths, which uri_absolute encodes. */
static bool
has_unencoded (const char *rest)
{
  const char *const query_end = rest + strcspn (rest, "#");
  const char *p = rest + strcspn (rest, "?#");

  if (has_unencoded_part (rest, p) ||
      has_unencoded_part (query_end, query_end + strlen (query_end)))
    return true;
  while (p < query_end) {
    const char *stop = end_of_parameter (++p, query_end);
    const char *path = path_of_parameter (p, stop);

    if (has_unencoded_part (p, path ? path : stop))
      return true;
    p = stop;
  }
  return false;
}

/* ---- what is wrong with it --------------------------------------------- */

/* getaddrinfo (3) takes it modulo 65536, so that it leads to somebody else. */
static bool
has_wrong_port (const char *authority)
{
  const char *end = authority + strcspn (authority, "/?#");
  const char *p = end, *digits;
  unsigned long port;

  while (p > authority && isdigit ((unsigned char)p[-1]))
    p--;
  if (p == end || p == authority || p[-1] != ':')
    return false;
  digits = p + strspn (p, "0");
  port = strtoul (digits, NULL, 10);
  return end - digits > 5 || port == 0 || port > 65535;
}

static void
note_socket (void *opaque, const char *name, const char *value)
{
  if (strcmp (name, "socket") == 0 && *value != '\0')
    *(bool *)opaque = true;
}

static bool
names_socket (const char *uri)
{
  bool named = false;

  return uri_foreach_parameter (uri, note_socket, &named) == -1 || named;
}

/* "::1" or "fe80::1:10809" as the host: which of its colons comes before a
 * port? Nor may brackets be left open.
 */
static bool
lacks_brackets (const char *authority)
{
  const size_t n = strcspn (authority, "/?#");
  const char *at = memchr (authority, '@', n);
  const char *host = at != NULL ? at + 1 : authority;
  const char *end = authority + n, *colon;

  if (host < end && *host == '[')
    return memchr (host, ']', (size_t)(end - host)) == NULL;
  colon = memchr (host, ':', (size_t)(end - host));
  return colon != NULL &&
         memchr (colon + 1, ':', (size_t)(end - colon - 1)) != NULL;
}

/* The brackets of an IPv6 address, which are closed. */
static const char *
behind_brackets (const char *authority)
{
  const char *close = memrchr (authority, ']', strcspn (authority, "/?#"));

  return close != NULL ? close + 1 : authority;
}

const char *
uri_wrong (const char *uri)
{
  static const char unencoded[] =
    "has a character that must be percent-encoded: a blank is %20";
  const char *rest = strstr (uri, "://");
  const int scheme = rest != NULL ? (int)(rest - uri) : 0;

  if (strncasecmp (uri, "nbd", 3) != 0 || rest == NULL)
    return NULL;
  if (scheme >= 4 && strncasecmp (rest - 4, "+ssh", 4) == 0)
    return "asks for ssh, which the proxy could not ask for a password; "
           "forward the server's port or socket with ssh -L, and name that";
  if (strcspn (uri, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") < (size_t)scheme)
    return "must be in small letters before the '://'";
  if (scheme >= 5 && strncmp (rest - 5, "+unix", 5) == 0)
    return !names_socket (uri)        ? "names no socket; write for example "
                                        "'nbd+unix:///?socket=/run/vm1.sock'"
           : has_unencoded (rest + 3) ? unencoded
                                      : NULL;
  if (memchr (uri, '+', scheme) != NULL)
    return NULL;
  if (lacks_brackets (rest + 3))
    return "has an IPv6 address without brackets; write for example "
           "'nbd://[::1]:10809/'";
  if (has_wrong_port (rest + 3))
    return "has no port from 1 to 65535";
  return has_unencoded (behind_brackets (rest + 3)) ? unencoded : NULL;
}

static bool
is_absolute (const char *path)
{
  return path[0] == '/' || strncasecmp (path, "%2f", 3) == 0;
}

/* Write a path percent-encoded, so that it cannot end the parameter. */
static void
write_encoded (FILE *fp, const char *path)
{
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "abcdefghijklmnopqrstuvwxyz"
                              "0123456789-._~/";

  for (; *path != '\0'; path++) {
    if (strchr (plain, *path))
      fputc (*path, fp);
    else
      fprintf (fp, "%%%02X", (unsigned char)*path);
  }
}

static int
write_current_directory (FILE *fp)
{
  CLEANUP_FREE char *cwd = getcwd (NULL, 0);

  if (cwd == NULL)
    return -1;
  write_encoded (fp, cwd);
  if (cwd[strlen (cwd) - 1] != '/')
    fputc ('/', fp);
  return 0;
}

/* A path as users write it may be encoded in part. */
static void
write_path (FILE *fp, const char *p, const char *end)
{
  for (; p < end; p++) {
    if (is_unencoded (p))
      fprintf (fp, "%%%02X", (unsigned char)*p);
    else
      fputc (*p, fp);
  }
}

static int
write_parameter (FILE *fp, const char *p, const char *end)
{
  const char *path = path_of_parameter (p, end);

  if (path == NULL) {
    fwrite (p, 1, end - p, fp);
    return 0;
  }
  fwrite (p, 1, path - p, fp);
  if (!is_absolute (path) && write_current_directory (fp) == -1)
    return -1;
  write_path (fp, path, end);
  return 0;
}

static int
write_query (FILE *fp, const char *p, const char *end)
{
  for (;;) {
    const char *stop = end_of_parameter (p, end);

    if (write_parameter (fp, p, stop) == -1)
      return -1;
    if (stop == end)
      return 0;
    fputc (*stop, fp);
    p = stop + 1;
  }
}

static int
write_absolute (FILE *fp, const char *uri)
{
  const char *const end = uri + strcspn (uri, "#");
  const char *query = memchr (uri, '?', end - uri);

  if (query == NULL) {
    fputs (uri, fp);
    return 0;
  }
  query++;
  fwrite (uri, 1, query - uri, fp);
  if (write_query (fp, query, end) == -1)
    return -1;
  fputs (end, fp); /* the fragment, if any */
  return 0;
}

char *
uri_absolute (const char *uri)
{
  char *result = NULL;
  size_t size;
  FILE *fp = open_memstream (&result, &size);

  if (fp == NULL)
    return NULL;

  int err = write_absolute (fp, uri) == -1 ? errno : 0;

  if (ferror (fp) && err == 0)
    err = ENOMEM;
  if (fclose (fp) != 0 && err == 0)
    err = errno;
  if (err == 0)
    return result;
  free (result);
  errno = err;
  return NULL;
}

static void
decode (char *text)
{
  char *to = text;

  for (const char *from = text; *from != '\0'; to++) {
    const int byte = *from == '%' ? hex_byte (from + 1) : -1;

    *to = byte > 0 ? (char)byte : *from;
    from += byte > 0 ? 3 : 1;
  }
  *to = '\0';
}

char *
uri_export_name (const char *uri)
{
  const char *authority = strstr (uri, "://");
  const char *path = authority ? authority + 3 : uri;
  char *name;

  path += strcspn (path, "/?#");
  if (*path == '/')
    path++;
  name = strndup (path, strcspn (path, "?#"));
  if (name != NULL)
    decode (name);
  return name;
}

/* ---- plain TCP --------------------------------------------------------- */

#define TCP_SCHEME "nbd://"
#define TCP_PORT "10809"

/* RFC 3986 "pchar" and '/', with nothing encoded that libnbd refuses. */
static bool
is_usual_path (const char *p)
{
  for (; *p != '\0'; ++p)
    if (*p == '%' ? hex_byte (p + 1) <= 0
                  : !isalnum ((unsigned char)*p) &&
                      strchr ("-._~!$&'()*+,;=:@/", *p) == NULL)
      return false;
  return true;
}

/* The length of a name, or of an address in brackets; 0: it is neither. */
static size_t
host_length (const char *p)
{
  size_t n;

  if (*p != '[')
    return strspn (p, "abcdefghijklmnopqrstuvwxyz"
                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
  n = 1 + strspn (p + 1, "0123456789abcdefABCDEF:.");
  return n > 1 && p[n] == ']' ? n + 1 : 0;
}

bool
uri_tcp_address (const char *uri, char **host, char **port)
{
  const char *p = uri + strlen (TCP_SCHEME), *digits = TCP_PORT, *path;
  size_t length, nr_digits = strlen (TCP_PORT);

  if (strncmp (uri, TCP_SCHEME, strlen (TCP_SCHEME)) != 0)
    return false;
  length = host_length (p);
  path = p + length;
  if (length > 0 && *path == ':') {
    digits = path + 1;
    nr_digits = strspn (digits, "0123456789");
    path = digits + nr_digits;
  }
  if (length == 0 || nr_digits == 0 || nr_digits > 5 ||
      (*path != '\0' && (*path != '/' || !is_usual_path (path))))
    return false;
  *host = *p == '[' ? strndup (p + 1, length - 2) : strndup (p, length);
  *port = strndup (digits, nr_digits);
  if (*host != NULL && *port != NULL)
    return true;
  free (*host);
  free (*port);
  *host = *port = NULL;
  return false;
}

/* ---- parameters -------------------------------------------------------- */

/* One parameter, which is 'length' bytes long. */
static int
call_with_parameter (const char *p, size_t length, uri_parameter *f,
                     void *opaque)
{
  CLEANUP_FREE char *name = strndup (p, length);
  char *value;

  if (name == NULL)
    return -1;
  value = strchrnul (name, '=');
  if (*value != '\0')
    *value++ = '\0';
  decode (name);
  decode (value);
  f (opaque, name, value);
  return 0;
}

int
uri_foreach_parameter (const char *uri, uri_parameter *f, void *opaque)
{
  const char *const end = uri + strcspn (uri, "#");
  const char *p = memchr (uri, '?', end - uri);

  while (p != NULL && p < end) {
    const char *stop = end_of_parameter (++p, end);

    if (call_with_parameter (p, stop - p, f, opaque) == -1)
      return -1;
    p = stop;
  }
  return 0;
}

bool
uri_is_local (const char *uri)
{
  return strcmp (uri, URI_LOCAL) == 0;
}

char *
uri_of_socket (const char *path, const char *export_name)
{
  char *uri = NULL;
  size_t size;
  FILE *fp = open_memstream (&uri, &size);

  if (fp == NULL)
    return NULL;
  fprintf (fp, "nbd+unix:///%s?socket=", export_name);
  write_encoded (fp, path);
  if (fclose (fp) == 0)
    return uri;
  free (uri);
  return NULL;
}

char *
uri_of_local (const char *source)
{
  CLEANUP_FREE char *name = uri_export_name (source);
  const char *rest, *end;
  char *uri;

  if (name == NULL)
    return NULL;
  rest = strstr (source, "://");
  if (*name != '\0' || rest == NULL) {
    errno = EINVAL;
    return NULL;
  }
  end = rest + 3 + strcspn (rest + 3, "/?#");
  rest = *end == '/' ? end + 1 : end;
  if (asprintf (&uri, "%.*s/%s%s", (int)(end - source), source,
                URI_LOCAL_EXPORT, rest) == -1)
    return NULL;
  return uri;
}
