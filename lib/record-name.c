/* SPDX-License-Identifier: BSD-3-Clause */
/* From an export's name to the name of its state file, and back.
 *
 * Different exports never get the same file: the escaping is one-to-one, and
 * what stands for a name too long to escape begins with "%s", which is no
 * escape.
 */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record-slot.h"

#define DEFAULT_NAME "state"
#define PREFIX "state."
#define DIGEST_PREFIX PREFIX "%sha256-"
#define ESCAPED_MAX 200 /* a file name has at most 255 bytes, all told */

static bool
is_plain (unsigned char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static char *
append_hex (char *at, const char *format, unsigned char c)
{
  return at + sprintf (at, format, c);
}

/* The name of one whose escaped form would be too long. */
static char *
digest_name (const char *export_name)
{
  uint8_t digest[RECORD_DIGEST_BYTES];
  char *name = malloc (sizeof DIGEST_PREFIX + 2 * sizeof digest);
  char *at;

  if (name == NULL)
    return NULL;
  if (slot_name_digest (export_name, digest) == -1) {
    free (name);
    return NULL;
  }
  at = stpcpy (name, DIGEST_PREFIX);
  for (size_t i = 0; i < sizeof digest; ++i)
    at = append_hex (at, "%02x", digest[i]);
  return name;
}

char *
record_file_name (const char *export_name)
{
  size_t length = 0;
  char *name, *at;

  if (export_name[0] == '\0')
    return strdup (DEFAULT_NAME);
  for (const char *p = export_name; *p; ++p)
    length += is_plain (*p) ? 1 : 3;
  if (length > ESCAPED_MAX)
    return digest_name (export_name);

  name = malloc (sizeof PREFIX + length);
  if (name == NULL)
    return NULL;
  at = stpcpy (name, PREFIX);
  for (const char *p = export_name; *p; ++p) {
    if (is_plain (*p))
      *at++ = *p;
    else
      at = append_hex (at, "%%%02X", *p);
  }
  *at = '\0';
  return name;
}

static int
hex_value (unsigned char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/* Undo the escaping, in place.  False: this was not made by it. */
static bool
unescape (char *text)
{
  char *to = text;

  for (const char *from = text; *from; ++to) {
    if (*from != '%') {
      if (!is_plain (*from))
        return false;
      *to = *from++;
      continue;
    }
    int high = hex_value (from[1]);
    int low = high == -1 ? -1 : hex_value (from[2]);
    if (low == -1)
      return false;
    *to = high << 4 | low;
    from += 3;
  }
  *to = '\0';
  return to > text;
}

char *
record_export_name (const char *file_name)
{
  char *name;

  if (strcmp (file_name, DEFAULT_NAME) == 0)
    return strdup ("");
  if (strncmp (file_name, PREFIX, strlen (PREFIX)) != 0)
    return NULL;
  name = strdup (file_name + strlen (PREFIX));
  if (name != NULL && !unescape (name)) {
    free (name);
    return NULL;
  }
  return name;
}
