/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "cleanup.h"
#include "protocol.h"

void *
call_fail (struct call *call, const char *error_class, const char *fmt, ...)
{
  CLEANUP_FREE char *desc = NULL;
  va_list args;
  int r;

  va_start (args, fmt);
  r = vasprintf (&desc, fmt, args);
  va_end (args);
  if (r == -1)
    desc = NULL;
  json_decref (call->error);
  call->error = protocol_error (error_class, "%s", desc ? desc : "no memory");
  return NULL;
}

bool
call_is_alive (void *opaque)
{
  const struct call *call = opaque;

  return !client_is_gone (call->client);
}

static int
missing (struct call *call, const char *name, bool required)
{
  if (!required)
    return 0;
  call_fail (call, "BadArgument", "the argument \"%s\" is missing", name);
  return -1;
}

int
call_u64 (struct call *call, const char *name, bool required, uint64_t *value)
{
  const int r = protocol_get_u64 (call->args, name, value);

  if (r == 0)
    return missing (call, name, required);
  if (r == 1)
    return 0;
  call_fail (call, "BadArgument",
             "\"%s\" must be an integer from 0 to 2^63 - 1", name);
  return -1;
}

int
call_bool (struct call *call, const char *name, bool required, bool *value)
{
  const json_t *json = json_object_get (call->args, name);

  if (json == NULL)
    return missing (call, name, required);
  if (!json_is_boolean (json)) {
    call_fail (call, "BadArgument", "\"%s\" must be true or false", name);
    return -1;
  }
  *value = json_is_true (json);
  return 0;
}

int
call_string (struct call *call, const char *name, bool required,
             const char **value)
{
  const json_t *json = json_object_get (call->args, name);

  if (json == NULL)
    return missing (call, name, required);
  if (!json_is_string (json)) {
    call_fail (call, "BadArgument", "\"%s\" must be a string", name);
    return -1;
  }
  *value = json_string_value (json);
  return 0;
}

int
call_extents (struct call *call, struct extents *e)
{
  const json_t *json = json_object_get (call->args, "extents");
  const char *why = "no memory";

  if (json == NULL)
    return missing (call, "extents", true);
  if (protocol_parse_extents (json, e, &why) == -1) {
    call_fail (call, "BadArgument", "\"extents\": %s", why);
    return -1;
  }
  for (size_t i = 0; i < e->n; i++)
    if (e->v[i].offset + e->v[i].length > call->export->disk_bytes) {
      call_fail (call, "BadArgument",
                 "\"extents\": a range ends past the disk");
      return -1;
    }
  return 0;
}

int
call_token (struct call *call, uint64_t *token)
{
  const char *text, *p;
  char *end;

  if (call_string (call, "token", true, &text) == -1)
    return -1;
  for (p = text; *p && strchr ("0123456789abcdef", *p); p++)
    ;
  errno = 0;
  *token = strtoull (text, &end, 16);
  if (*p != '\0' || p == text || errno != 0)
    *token = 0; /* is no hold's token */
  return 0;
}

int
call_finish (struct call *call, bool required, const char **mode)
{
  *mode = NULL;
  if (call_string (call, "finish", required, mode) == -1)
    return -1;
  if (*mode && strcmp (*mode, "pivot") != 0 &&
      strcmp (*mode, "handover") != 0 && strcmp (*mode, "detach") != 0) {
    call_fail (call, "BadArgument",
               "\"finish\" must be pivot, handover or detach, not \"%s\"",
               *mode);
    return -1;
  }
  return 0;
}

bool
call_is_session (struct call *call)
{
  if (call->export->session.client == call->client)
    return true;
  call_fail (call, "NoSession",
             "this connection is not the session of the disk (any more); "
             "begin makes it so");
  return false;
}
