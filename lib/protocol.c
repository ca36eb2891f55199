/* SPDX-License-Identifier: BSD-3-Clause */
/* The messages of protocol.h, to and from JSON. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "protocol.h"

#define ERROR_DESC_SIZE 2048 /* bytes, with the final 0 */

/* ---- Messages ---------------------------------------------------------- */

/* All the values below are stolen, also on error; Jansson's *_new functions
 * take NULL, for a container or a value, as an error.
 */

static json_t *
out_of_memory (json_t *json)
{
  json_decref (json);
  errno = ENOMEM;
  return NULL;
}

json_t *
protocol_command (const char *command, json_t *arguments)
{
  json_t *message = json_object ();
  const int r = json_object_set_new (message, "arguments", arguments);

  if (r == -1 ||
      json_object_set_new (message, "execute", json_string (command)) == -1)
    return out_of_memory (message);
  return message;
}

json_t *
protocol_return (json_t *value)
{
  json_t *message = json_object ();

  if (json_object_set_new (message, "return", value) == -1)
    return out_of_memory (message);
  return message;
}

/* A string of any bytes: a file name in a message need not be UTF-8, but an
 * error must always be told.
 */
static json_t *
any_string (char *text)
{
  json_t *string = json_string (text);

  if (string)
    return string;
  for (char *p = text; *p != '\0'; p++)
    if (*p & 0x80)
      *p = '?';
  return json_string (text);
}

json_t *
protocol_string (const char *text)
{
  CLEANUP_FREE char *copy = strdup (text);

  return copy ? any_string (copy) : NULL;
}

json_t *
protocol_error (const char *error_class, const char *fmt, ...)
{
  char desc[ERROR_DESC_SIZE];
  va_list args;
  json_t *error, *message;

  va_start (args, fmt);
  vsnprintf (desc, sizeof desc, fmt, args);
  va_end (args);

  error = json_object ();
  if (json_object_set_new (error, "class", json_string (error_class)) == -1 ||
      json_object_set_new (error, "desc", any_string (desc)) == -1)
    return out_of_memory (error);
  message = json_object ();
  if (json_object_set_new (message, "error", error) == -1)
    return out_of_memory (message);
  return message;
}

/* ---- Extents and numbers ----------------------------------------------- */

static json_t *
json_of_extent (const struct extent *x, bool with_touched)
{
  json_t *a = json_array ();

  if (json_array_append_new (a, json_integer (x->offset)) == -1 ||
      json_array_append_new (a, json_integer (x->length)) == -1 ||
      (with_touched &&
       json_array_append_new (a, json_integer (x->touched)) == -1))
    return out_of_memory (a);
  return a;
}

json_t *
protocol_extents (const struct extents *e, bool with_touched)
{
  json_t *a = json_array ();

  for (size_t i = 0; i < e->n; i++)
    if (json_array_append_new (a, json_of_extent (&e->v[i], with_touched)) ==
        -1)
      return out_of_memory (a);
  return a;
}

/* An integer in [0, 2^63), which is all that Jansson's can hold. */
static bool
get_unsigned (const json_t *json, uint64_t *value)
{
  if (!json_is_integer (json) || json_integer_value (json) < 0)
    return false;
  *value = json_integer_value (json);
  return true;
}

/* Returns what is wrong with the extent, or NULL. */
static const char *
extent_of_json (const json_t *json, struct extent *x)
{
  const size_t n = json_array_size (json); /* 0 if it is no array */
  uint64_t touched = 0;

  if (n != 2 && n != 3)
    return "an extent is not [offset, length] or [offset, length, 0 or 1]";
  if (!get_unsigned (json_array_get (json, 0), &x->offset))
    return "the offset of an extent is not a number of bytes";
  if (!get_unsigned (json_array_get (json, 1), &x->length))
    return "the length of an extent is not a number of bytes";
  if (x->length == 0)
    return "the length of an extent is 0";
  if (x->offset + x->length > UINT64_C (1) << 63)
    return "an extent ends past 2^63";
  if (n == 3 &&
      (!get_unsigned (json_array_get (json, 2), &touched) || touched > 1))
    return "the third number of an extent is not 0 or 1";
  x->touched = touched;
  return NULL;
}

int
protocol_parse_extents (const json_t *json, struct extents *e, const char **why)
{
  const size_t n = json_array_size (json);
  struct extent x;

  *why = NULL;
  if (!json_is_array (json))
    *why = "the extents are not an array";
  else if (n > PROTOCOL_EXTENTS_MAX)
    *why = "there are too many extents in one line";
  for (size_t i = 0; i < n && *why == NULL; i++) {
    *why = extent_of_json (json_array_get (json, i), &x);
    if (*why == NULL && extents_append (e, x.offset, x.length, x.touched) == -1)
      *why = "there is no memory for the extents";
  }
  return *why ? -1 : 0;
}

int
protocol_get_u64 (const json_t *object, const char *name, uint64_t *value)
{
  const json_t *member = json_object_get (object, name);

  if (member == NULL)
    return 0;
  return get_unsigned (member, value) ? 1 : -1;
}
