/* SPDX-License-Identifier: BSD-3-Clause */
/* One call of a command: what the files command-*.c share. */

#ifndef NBDMIGRATE_CALL_H
#define NBDMIGRATE_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "control.h"
#include "export/export.h"
#include "extents.h"

struct call {
  struct client *client;
  struct export *export; /* that the client is attached to, or NULL */
  json_t *args;          /* an object */
  json_t *error;         /* the answer if the command failed */
  bool gone;             /* there is nobody to answer any more */
};

/* A command returns the value of "return" (a new reference), or NULL after
 * call_fail, or NULL if there is no memory, or NULL with 'gone' set.
 */
typedef json_t *command_function (struct call *call);

/* Fail: always NULL. */
extern void *call_fail (struct call *call, const char *error_class,
                        const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

/* Arguments.  -1: call_fail was called.  Those that are not required stay as
 * they are when they are not there.  Strings belong to call->args.
 */
extern int call_u64 (struct call *call, const char *name, bool required,
                     uint64_t *value);
extern int call_bool (struct call *call, const char *name, bool required,
                      bool *value);
extern int call_string (struct call *call, const char *name, bool required,
                        const char **value);
extern int call_extents (struct call *call, struct extents *e);
/* "token": of a hold. */
extern int call_token (struct call *call, uint64_t *token);
/* "finish": "pivot", "handover" or "detach". */
extern int call_finish (struct call *call, bool required, const char **mode);

/* For a struct relay_waiter whose 'opaque' is the call: the peer is there, and
 * this server does not quit.
 */
extern bool call_is_alive (void *call);

/* Whether the client is (still) the session of its export, otherwise
 * call_fail.  The session lock must be held.
 */
extern bool call_is_session (struct call *call);

/* For anyone. */
extern command_function command_attach, command_status, command_wish;
/* For the operator. */
extern command_function command_abort, command_reopen;

/* The session lock is held when you call any command below this line.
 * Those that wait drop it meanwhile.
 */
extern command_function command_begin;
/* The client is the session. */
extern command_function command_lost, command_publish, command_end;
extern command_function command_source_sockets;
extern command_function command_take, command_done, command_failed;
extern command_function command_flush_begin, command_flush_end;
extern command_function command_compare, command_compared;
extern command_function command_extents, command_distrust;
extern command_function command_hold, command_release;
extern command_function command_prepare, command_commit, command_rollback;
extern command_function command_read_back, command_probe, command_throttle;
extern command_function command_mirror;

#endif /* NBDMIGRATE_CALL_H */
