/* SPDX-License-Identifier: BSD-3-Clause */
/* Parsing a line, finding the command, and seeing to what it needs. */

#include <pthread.h>
#include <string.h>

#include "call.h"
#include "cleanup.h"
#include "commands.h"
#include "protocol.h"

enum need {
  NEED_NOTHING,
  NEED_EXPORT,      /* attached */
  NEED_LOCK,        /* attached; called with the session lock */
  NEED_THE_SESSION, /* the same, and the client is the session */
};

static const struct command {
  const char *name;
  command_function *function;
  enum need need;
} commands[] = {
  { "attach", command_attach, NEED_NOTHING },
  { "status", command_status, NEED_EXPORT },
  { "wish", command_wish, NEED_EXPORT },
  { "abort", command_abort, NEED_EXPORT },
  { "reopen", command_reopen, NEED_EXPORT },
  { "begin", command_begin, NEED_LOCK },
  { "lost", command_lost, NEED_THE_SESSION },
  { "source-sockets", command_source_sockets, NEED_THE_SESSION },
  { "take", command_take, NEED_THE_SESSION },
  { "extents", command_extents, NEED_THE_SESSION },
  { "distrust", command_distrust, NEED_THE_SESSION },
  { "done", command_done, NEED_THE_SESSION },
  { "failed", command_failed, NEED_THE_SESSION },
  { "flush-begin", command_flush_begin, NEED_THE_SESSION },
  { "flush-end", command_flush_end, NEED_THE_SESSION },
  { "compare", command_compare, NEED_THE_SESSION },
  { "compared", command_compared, NEED_THE_SESSION },
  { "throttle", command_throttle, NEED_THE_SESSION },
  { "mirror", command_mirror, NEED_THE_SESSION },
  { "hold", command_hold, NEED_THE_SESSION },
  { "release", command_release, NEED_THE_SESSION },
  { "prepare", command_prepare, NEED_THE_SESSION },
  { "read-back", command_read_back, NEED_THE_SESSION },
  { "probe", command_probe, NEED_THE_SESSION },
  { "commit", command_commit, NEED_THE_SESSION },
  { "rollback", command_rollback, NEED_THE_SESSION },
  { "publish", command_publish, NEED_THE_SESSION },
  { "end", command_end, NEED_THE_SESSION },
};

/* The greeting has to fit into a line, whatever names guests have opened: the
 * rest can be attached to all the same.
 */
struct names {
  json_t *array;
  size_t room; /* bytes */
};

static void
add_name (struct export *e, void *opaque)
{
  struct names *names = opaque;
  const size_t need = 6 * strlen (e->name) + 3; /* if all is escaped */

  if (need > names->room)
    return;
  names->room -= need;
  json_array_append_new (names->array, json_string (e->name));
}

json_t *
command_greeting (void)
{
  struct names names = { json_array (), PROTOCOL_LINE_MAX / 2 };

  export_foreach (add_name, &names);
  return json_pack ("{s:{s:i, s:s, s:o}}", "nbdmigrate", "protocol",
                    PROTOCOL_VERSION, "version", NBDMIGRATE_VERSION, "exports",
                    names.array);
}

static const struct command *
find_command (const char *name)
{
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp (commands[i].name, name) == 0)
      return &commands[i];
  return NULL;
}

static json_t *
call_command (struct call *call, const struct command *command)
{
  if (command->need == NEED_NOTHING)
    return command->function (call);
  if (call->export == NULL)
    return call_fail (call, "NotAttached", "%s needs attach first",
                      command->name);
  if (command->need == NEED_EXPORT)
    return command->function (call);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&call->export->session.lock);
#ifndef PLANT_BUG_anybody_commands
  if (command->need == NEED_THE_SESSION && !call_is_session (call))
    return NULL;
#endif
  return command->function (call);
}

/* The value of "return" or NULL, as command_function. */
static json_t *
call_by_name (struct call *call, const char *name)
{
  const struct command *command = find_command (name);

  if (command == NULL)
    return call_fail (call, "CommandNotFound", "there is no command \"%s\"",
                      name);
  if (!json_is_object (call->args))
    return call_fail (call, "BadArgument", "\"arguments\" must be an object");
  return call_command (call, command);
}

static json_t *
execute (struct client *client, const char *name, json_t *args, bool *go_on)
{
  CLEANUP_JSON json_t *empty = args ? NULL : json_object ();
  struct call call = {
    .client = client,
    .export = client->export,
    .args = args ? args : empty,
  };
  json_t *value = call_by_name (&call, name);

  if (value)
    return protocol_return (value);
  if (call.gone) {
    json_decref (call.error);
    *go_on = false;
    return NULL;
  }
  return call.error ? call.error : protocol_error ("Failed", "no memory");
}

/* 'message' is NULL if it could not be parsed. */
static json_t *
refuse_line (const json_t *message, const json_error_t *why)
{
  if (message != NULL)
    return protocol_error ("Protocol",
                           "the line is no object with a string \"execute\"");
  if (json_error_code (why) == json_error_out_of_memory)
    return protocol_error ("Failed", "no memory");
  return protocol_error ("Protocol", "the line is no JSON: %s", why->text);
}

json_t *
command_execute (struct client *client, const char *line, bool *go_on)
{
  json_error_t why;
  CLEANUP_JSON json_t *message = json_loads (line, 0, &why);
  const json_t *name = json_object_get (message, "execute");
  json_t *answer;

  if (json_is_object (message) && json_is_string (name))
    return execute (client, json_string_value (name),
                    json_object_get (message, "arguments"), go_on);

  answer = refuse_line (message, &why);
  *go_on = answer == NULL;
  return answer;
}
